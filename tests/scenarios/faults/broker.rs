//! Faults on the broker's side: leaders that change, messages that its consumer lost sight of.

use repull::wire::{EventKind, JobEvent, Place};
use repull_tests::{DEADLINE, World, enqueue_all, eventually, messages_in, outcome};

use super::{
    assert_all_free, assert_each_succeeded_once, assert_watchdog_rested, make_consumer, numbers,
    short_leases, sleeper, sleepers, wait_promised, wait_running,
};

/// E-1. Whoever leads, an idle worker's pulls are renewed when the leader changes.
#[tokio::test]
async fn an_idle_worker_asks_the_new_leader() {
    let world = World::builder().cluster(3).start().await;
    let mut worker = world.worker().slots(2).start().await;
    for _ in 0..2 {
        wait_promised(&mut worker, 2).await;
        world
            .cluster()
            .consumer_step_down("REPULL_JOBS", "default")
            .await;
        let enqueued = sleeper(&world, 0).await;
        outcome(world.client(), &enqueued, DEADLINE).await;
    }
    assert_all_free(&world, &mut worker).await;
    assert_watchdog_rested(&mut worker).await;
}

/// E-1, F-4, F-6. Leaders step down under load, with acks in flight: nothing is lost, nothing stays
/// behind in the consumer's books, and nobody has to be restarted.
#[tokio::test]
async fn leaders_that_step_down_under_load_lose_nothing_and_stop_nobody() {
    let world = short_leases(World::builder().cluster(3)).await;
    let mut worker = world.worker().slots(8).start().await;
    let jobs = enqueue_all(world.client(), sleepers(600, 20)).await;
    wait_running(&mut worker, 8).await;

    for _ in 0..2 {
        world
            .cluster()
            .consumer_step_down("REPULL_JOBS", "default")
            .await;
        world.cluster().step_down("REPULL_JOBS").await;
    }

    let again = assert_each_succeeded_once(&world, &jobs, DEADLINE).await;
    assert!(again <= 32, "{again} jobs took more than one attempt");
    eventually(DEADLINE, "the consumer's books are empty", async || {
        let numbers = numbers(&world).await;
        (numbers.num_pending == 0 && numbers.num_ack_pending == 0).then_some(())
    })
    .await;
    assert_watchdog_rested(&mut worker).await;
    assert_all_free(&world, &mut worker).await;
}

/// E-1, F-8. A node dies with the leaders on it, under load; later all nodes are restarted in turn.
#[tokio::test]
async fn a_dead_leader_and_a_rolling_restart_lose_nothing_and_stop_nobody() {
    let mut world = short_leases(World::builder().cluster(3)).await;
    let mut worker = world.worker().slots(8).start().await;
    let jobs = enqueue_all(world.client(), sleepers(600, 20)).await;
    wait_running(&mut worker, 8).await;

    let leader = world.cluster().stream_leader("REPULL_JOBS").await;
    world.cluster_mut().kill_node(leader).await;
    // Outcomes and not the work queue: nats-server 2.12.12 now and then removes no acked message from
    // it until all nodes are back.
    eventually(DEADLINE, "work goes on without it", async || {
        (messages_in(world.client(), Place::Results).await > 300).then_some(())
    })
    .await;
    world.cluster_mut().restart_node(leader).await;
    world.cluster_mut().rolling_restart().await;

    assert_each_succeeded_once(&world, &jobs, DEADLINE).await;
    assert_all_free(&world, &mut worker).await;
}

/// F-8. The same, and nobody takes the broken consumer away: the scheduler notices. A message whose
/// job is done (which a server may keep although it confirmed the ack) is deleted and not run again.
#[tokio::test]
async fn orphans_are_run_and_those_of_done_jobs_deleted() {
    let world = World::start().await;
    let mut worker = world.worker().slots(2).start().await;
    wait_promised(&mut worker, 2).await;
    make_consumer(&world, |config| {
        config.filter_subject = "repull.jobs.elsewhere.>".to_owned();
    })
    .await;
    let jobs = enqueue_all(world.client(), sleepers(3, 1)).await;
    // The first message is the pin.
    for (sequence, done) in (2..).zip(&jobs[..2]) {
        let mut event = JobEvent::new(EventKind::Succeeded, 1, "gone", repull::clock::now());
        event.nonce.clone_from(&done.nonce);
        event.sequence = Some(sequence);
        let message = repull::client::Message {
            subject: done
                .address
                .subject(world.client().namespace(), Place::Results),
            headers: event.encode_headers(),
            body: event.body.clone(),
            id: format!("outcome-{sequence}"),
            expect: repull::client::Expect::Anything,
        };
        world.client().publish(&message).await.unwrap();
    }
    let _scheduler = world.scheduler().start().await;

    assert_each_succeeded_once(&world, &jobs, 3 * DEADLINE).await;
    let started = worker.metrics().await;
    assert_eq!(started.value("repull_worker_jobs_started_total"), 1.0);
    assert_all_free(&world, &mut worker).await;
}

/// F-8. Messages that are in the stream and in none of the consumer's books (here: of a consumer that
/// looks elsewhere) run once it is made anew, and the worker does that as soon as somebody takes the
/// broken one away.
#[tokio::test]
async fn orphaned_messages_run_when_their_consumer_is_made_anew() {
    let world = World::start().await;
    let mut worker = world.worker().slots(2).start().await;
    wait_promised(&mut worker, 2).await;
    make_consumer(&world, |config| {
        config.filter_subject = "repull.jobs.elsewhere.>".to_owned();
    })
    .await;
    let jobs = enqueue_all(world.client(), sleepers(3, 1)).await;
    let info = numbers(&world).await;
    assert_eq!((info.num_pending, info.num_ack_pending), (0, 0));
    assert_eq!(messages_in(world.client(), Place::Jobs).await, 3);

    let stream = world.jetstream().get_stream("REPULL_JOBS").await.unwrap();
    stream.delete_consumer("default").await.unwrap();

    let again = assert_each_succeeded_once(&world, &jobs, DEADLINE).await;
    assert_eq!(again, 0);
    assert_all_free(&world, &mut worker).await;
}
