//! The pin at the head of the work queue: it stays there, nobody takes it for a job, and where somebody
//! removes it, it comes back.

use repull::id::JobId;
use repull::topology::Topology;
use repull::wire::Place;
use repull_tests::{
    DEADLINE, World, all_settled, enqueue_all, eventually, job, job_on, messages_in, outcome,
};
use serde_json::json;

/// The first sequence of the work queue, and those of its pins.
async fn head(world: &World) -> (u64, Vec<u64>) {
    let stream = world.jetstream().get_stream("REPULL_JOBS").await.unwrap();
    let first = stream.cached_info().state.first_sequence;
    let subject = Topology::pin_subject(world.client().namespace());
    let (mut pins, mut from) = (Vec::new(), 1);
    let client = world.client();
    while let Some(found) = client
        .next_message("REPULL_JOBS", &subject, from)
        .await
        .unwrap()
    {
        pins.push(found.sequence);
        from = found.sequence + 1;
    }
    (first, pins)
}

#[tokio::test]
async fn jobs_come_and_go_behind_the_pin() {
    let world = World::start().await;
    assert_eq!(head(&world).await, (1, vec![1]));

    // All who make the streams put one there where none is.
    let _ = world.cli(&["topology", "apply"]).await.success();
    let _scheduler = world.scheduler().start().await;
    let _worker = world.worker().slots(4).start().await;
    enqueue_all(
        world.client(),
        (0..50).map(|n| job("echo", &json!(n))).collect(),
    )
    .await;
    all_settled(world.client(), DEADLINE).await;

    assert_eq!(head(&world).await, (1, vec![1]));
}

#[tokio::test]
async fn nobody_takes_the_pin_for_a_job() {
    let world = World::start().await;
    let _scheduler = world.scheduler().start().await;
    // A queue of the same name as the last word of its subject.
    let _worker = world.worker().queue("pin").start().await;
    let own = enqueue_all(world.client(), vec![job_on("pin", "echo", &json!(1))]).await;
    outcome(world.client(), &own[0], DEADLINE).await;

    // The sweep has been over it.
    let stray = format!("{}.jobs.stray", world.namespace());
    world.nats().publish(stray, "x".into()).await.unwrap();
    eventually(DEADLINE, "the sweep moves what is no job", async || {
        (messages_in(world.client(), Place::Dead).await == 1).then_some(())
    })
    .await;

    let listed = world.cli(&["job", "list", "--json"]).await.success();
    assert_eq!(listed.stdout.trim(), "[]", "{listed}");
    let queues = world.cli(&["queue", "list", "--json"]).await.success();
    let queues: serde_json::Value = serde_json::from_str(&queues.stdout).unwrap();
    for queue in queues.as_array().expect("a list") {
        assert_eq!(queue["ready"], 0, "{queue}");
    }
    let doctor = world.cli(&["doctor", "--json"]).await;
    assert!(!doctor.stdout.contains("malformed"), "{doctor}");
    let id = JobId::new("pin").unwrap();
    let found = world.client().find_addresses(&id).await.unwrap();
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(head(&world).await, (1, vec![1]));
}

#[tokio::test]
async fn a_pin_that_is_removed_is_put_back() {
    let world = World::start().await;
    let _scheduler = world.scheduler().start().await;
    let stream = world.jetstream().get_stream("REPULL_JOBS").await.unwrap();

    stream.purge().await.unwrap();

    let (first, pins) = eventually(DEADLINE, "the scheduler puts it back", async || {
        Some(head(&world).await).filter(|(_, pins)| !pins.is_empty())
    })
    .await;
    assert_eq!(pins, vec![first]);
}
