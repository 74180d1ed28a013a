//! The whole way of a job, from a publish by any client to its outcome.

use std::time::Duration;

use repull::wire::{EventKind, Place};
use repull_tests::{
    DEADLINE, World, all_settled, enqueue_all, events, eventually, job, job_with_id, messages_in,
    outcome, outcome_at,
};
use serde_json::json;

#[tokio::test]
async fn a_bare_publish_from_any_client_is_a_job() {
    let world = World::start().await;
    let _worker = world.worker().start().await;

    let subject = format!("{}.jobs.default.echo.hello-1", world.namespace());
    world
        .nats()
        .publish(subject.clone(), r#"{"x":1}"#.into())
        .await
        .unwrap();

    let outcome = outcome_at(world.client(), &subject, DEADLINE).await;
    assert_eq!(
        (outcome.kind, outcome.value()),
        (EventKind::Succeeded, json!({"x": 1}))
    );
    eventually(DEADLINE, "the job has left the work queue", async || {
        (messages_in(world.client(), Place::Jobs).await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_job_of_the_same_id_is_there_once_until_it_is_done() {
    let world = World::start().await;
    let submit = || job_with_id("echo", &json!(1), "only");

    let first = world.client().enqueue(submit()).await.unwrap();
    let second = world.client().enqueue(submit()).await.unwrap();
    assert!(first.is_new && !second.is_new);
    assert_eq!(
        first.nonce, second.nonce,
        "the answer names the job that is there"
    );

    let _worker = world.worker().start().await;
    outcome(world.client(), &first, DEADLINE).await;
    all_settled(world.client(), DEADLINE).await;
    let third = world.client().enqueue(submit()).await.unwrap();
    assert!(third.is_new, "a job that is done does not stand in the way");
    outcome(world.client(), &third, DEADLINE).await;
    assert_eq!(events(world.client()).await["only"].len(), 2);
}

#[tokio::test]
async fn a_failing_job_is_tried_again_and_then_succeeds() {
    let world = World::start().await;
    let _scheduler = world.scheduler().start().await;
    let _worker = world.worker().start().await;
    let mut failing = job("fail", &json!({"times": 2}));
    failing.backoff = Some("10ms,1,20ms".parse().unwrap());

    let enqueued = world.client().enqueue(failing).await.unwrap();

    let outcome = outcome(world.client(), &enqueued, DEADLINE).await;
    assert_eq!((outcome.kind, outcome.attempt), (EventKind::Succeeded, 3));
    let events = &events(world.client()).await[enqueued.address.id.as_str()];
    let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
    assert_eq!(
        kinds,
        [
            EventKind::Retrying,
            EventKind::Retrying,
            EventKind::Succeeded
        ]
    );
}

#[tokio::test]
async fn a_job_out_of_attempts_lies_with_the_dead() {
    let world = World::start().await;
    let _scheduler = world.scheduler().start().await;
    let _worker = world.worker().start().await;
    let mut failing = job("fail", &json!({"times": 100}));
    failing.backoff = Some("10ms,1,20ms".parse().unwrap());
    failing.max_attempts = Some(2);

    let enqueued = world.client().enqueue(failing).await.unwrap();

    let outcome = outcome(world.client(), &enqueued, DEADLINE).await;
    assert_eq!((outcome.kind, outcome.attempt), (EventKind::Failed, 2));
    assert_eq!(messages_in(world.client(), Place::Dead).await, 1);
    all_settled(world.client(), DEADLINE).await;
}

#[tokio::test]
async fn what_is_no_job_goes_to_the_dead_and_the_others_go_on() {
    let world = World::start().await;
    let _worker = world.worker().slots(1).start().await;
    let namespace = world.namespace();
    for (subject, header) in [
        (format!("{namespace}.jobs.default.oops"), None),
        (format!("{namespace}.jobs.default.echo.bad$id"), None),
        (
            format!("{namespace}.jobs.default.echo.bad-header"),
            Some(("Repull-Timeout", "soon")),
        ),
    ] {
        let mut headers = async_nats::HeaderMap::new();
        if let Some((name, value)) = header {
            headers.insert(name, value);
        }
        world
            .jetstream()
            .publish_with_headers(subject, headers, "{".into())
            .await
            .unwrap()
            .await
            .unwrap();
    }

    let good = world
        .client()
        .enqueue(job("echo", &json!("still here")))
        .await
        .unwrap();

    assert_eq!(
        outcome(world.client(), &good, DEADLINE).await.value(),
        json!("still here")
    );
    eventually(DEADLINE, "three messages lie with the dead", async || {
        (messages_in(world.client(), Place::Dead).await == 3).then_some(())
    })
    .await;
    all_settled(world.client(), DEADLINE).await;
}

#[tokio::test]
async fn an_unknown_task_is_tried_again_elsewhere_and_not_lost() {
    let world = World::start().await;
    let _scheduler = world.scheduler().start().await;
    let _worker = world.worker().start().await;
    let mut unknown = job("no.such.task", &json!(1));
    unknown.max_attempts = Some(2);
    unknown.backoff = Some("10ms,1,20ms".parse().unwrap());

    let enqueued = world.client().enqueue(unknown).await.unwrap();

    let outcome = outcome(world.client(), &enqueued, DEADLINE).await;
    assert_eq!(outcome.kind, EventKind::Failed);
    assert!(
        outcome
            .text()
            .contains("no handler for task `no.such.task`"),
        "{}",
        outcome.text()
    );
}

#[tokio::test]
async fn a_delayed_job_does_not_start_before_its_time() {
    let world = World::start().await;
    let _scheduler = world.scheduler().start().await;
    let _worker = world.worker().start().await;
    let run_at = chrono::Utc::now() + chrono::TimeDelta::milliseconds(1_500);

    let enqueued = world
        .client()
        .enqueue(job("echo", &json!(1)).not_before(run_at))
        .await
        .unwrap();
    assert_eq!(enqueued.place, Place::Later);

    let outcome = outcome(world.client(), &enqueued, DEADLINE).await;
    assert!(outcome.started_at.unwrap() >= run_at);
    all_settled(world.client(), DEADLINE).await;
}

#[tokio::test]
async fn twenty_thousand_jobs_end_with_as_many_outcomes_and_no_duplicate() {
    let world = World::start().await;
    let mut worker = world.worker().slots(256).start().await;
    let enqueued = enqueue_all(
        world.client(),
        (0..20_000).map(|n| job("echo", &json!(n))).collect(),
    )
    .await;

    all_settled(world.client(), Duration::from_secs(240)).await;

    let events = events(world.client()).await;
    assert_eq!(events.len(), enqueued.len());
    assert!(
        events
            .values()
            .all(|events| events.len() == 1 && events[0].kind == EventKind::Succeeded)
    );
    assert!(worker.metrics().await.value("repull_worker_slots_held_max") <= 256.0);
}
