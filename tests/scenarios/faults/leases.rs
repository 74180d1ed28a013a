//! Workers that die or freeze with jobs in hand: the jobs run again elsewhere, the attempt number
//! says so, and nobody who lost a job has a say in it any more.

use std::time::Duration;

use repull::client::Enqueued;
use repull::wire::{EventKind, Place};
use repull_tests::{
    DEADLINE, Process, Toward, World, all_settled, enqueue_all, events, eventually, job,
    messages_in, outcome,
};
use serde_json::json;

use super::{
    LEASE, assert_all_free, assert_each_succeeded_once, numbers, sequence_of_ack, short_leases,
    sleeper, sleepers, wait_running,
};

/// A worker that is killed takes its jobs with it until their lease is over; then an idle worker
/// gets them, without being woken by anybody, as the next attempt.
#[tokio::test]
async fn the_jobs_of_a_killed_worker_run_again_as_the_next_attempt() {
    let world = short_leases(World::builder()).await;
    let mut killed = world.worker().slots(3).start().await;
    let jobs = enqueue_all(world.client(), sleepers(3, 1_500)).await;
    wait_running(&mut killed, 3).await;
    let mut heir = world.worker().slots(3).start().await;

    killed.kill().await;

    let again = assert_each_succeeded_once(&world, &jobs, DEADLINE).await;
    assert_eq!(again, 3);
    for events in events(world.client()).await.values() {
        assert_eq!((events.len(), events[0].attempt), (1, 2));
    }
    assert_all_free(&world, &mut heir).await;
}

/// A job that takes its worker down with it each time ends with the dead, and says why.
#[tokio::test]
async fn a_job_that_keeps_killing_its_worker_lies_with_the_dead() {
    let world = short_leases(World::builder()).await;
    let mut killer = job("sleep", &json!({"ms": 600_000}));
    killer.max_attempts = Some(2);
    let enqueued = world.client().enqueue(killer).await.unwrap();

    for _ in 0..2 {
        let mut worker = world.worker().slots(1).start().await;
        wait_running(&mut worker, 1).await;
        worker.kill().await;
    }
    let mut worker = world.worker().slots(1).start().await;

    let outcome = outcome(world.client(), &enqueued, DEADLINE).await;
    assert_eq!(outcome.kind, EventKind::Failed);
    let text = outcome.text();
    assert!(
        text.contains("its worker was lost while it ran, 2 times"),
        "{text}"
    );
    assert_eq!(messages_in(world.client(), Place::Dead).await, 1);
    assert_all_free(&world, &mut worker).await;
}

/// Freezes a worker with a job for longer than its lease, lets another one take the job over, wakes
/// the first while the second runs it, and sees who says what about it.
async fn frozen_beyond_its_lease(ms: u64) {
    let world = short_leases(World::builder().intercepted()).await;
    let mut frozen = world.worker().slots(1).start().await;
    let enqueued = sleeper(&world, ms).await;
    wait_running(&mut frozen, 1).await;

    frozen.pause();
    let url = world.server_url();
    let mut heir = world.worker().url(&url).slots(1).start().await;
    wait_running(&mut heir, 1).await;
    frozen.resume();

    if Duration::from_millis(ms) > 2 * LEASE {
        // Its handler still runs: it has to be told.
        let lost = "repull_worker_leases_lost_total";
        frozen
            .wait_for_metric(lost, "it noticed", |lost| lost == 1.0)
            .await;
    }
    wait_running(&mut frozen, 0).await;
    all_settled(world.client(), DEADLINE).await;
    let events = &events(world.client()).await[enqueued.address.id.as_str()];
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(
        (events[0].kind, events[0].attempt),
        (EventKind::Succeeded, 2)
    );
    let acks = world.interceptor().seen(Toward::Server, "$JS.ACK.>");
    let words = acks.iter().filter(|ack| sequence_of_ack(ack) == Some(1));
    let last_words: Vec<String> = words
        .map(repull_tests::Message::text)
        .filter(|word| word != "+WPI")
        .collect();
    assert!(last_words.is_empty(), "it said {last_words:?}");
    drop(heir);
    assert_all_free(&world, &mut frozen).await;
    let acks = world.interceptor().seen(Toward::Server, "$JS.ACK.>");
    let given = acks.iter().filter(|ack| ack.text() == "+ACK").count();
    assert!(given > 0, "its acks for other jobs are seen");
}

/// B-9. No stale ack: it would take the job from under the worker that runs it now.
#[tokio::test]
async fn a_worker_that_wakes_after_its_lease_leaves_the_job_to_its_new_owner() {
    frozen_beyond_its_lease(6_000).await;
}

/// The same where the handler has ended by the time the worker wakes: its outcome is not told.
#[tokio::test]
async fn an_outcome_that_comes_after_the_lease_is_not_told() {
    frozen_beyond_its_lease(1_000).await;
}

/// A worker that can't reach the broker for longer than the lease gives its jobs up by itself.
#[tokio::test]
async fn a_worker_cut_off_beyond_the_lease_cancels_its_job() {
    let world = short_leases(World::builder().proxied()).await;
    let mut cut_off = world.worker().slots(1).start().await;
    let enqueued = sleeper(&world, 5_000).await;
    wait_running(&mut cut_off, 1).await;

    world.proxy().cut();
    let url = world.server_url();
    let _heir = world.worker().url(&url).slots(1).start().await;
    wait_running(&mut cut_off, 0).await;
    let lost = cut_off.metrics().await;
    assert_eq!(lost.value("repull_worker_leases_lost_total"), 1.0);
    world.proxy().restore();

    let outcome = outcome(world.client(), &enqueued, DEADLINE).await;
    assert_eq!(outcome.attempt, 2);
    assert_each_succeeded_once(&world, &[enqueued], DEADLINE).await;
}

/// What a worker told before its network went silent may arrive when the job has long run elsewhere:
/// that is no second outcome.
#[tokio::test]
async fn an_outcome_held_up_in_the_network_is_no_second_one() {
    let world = short_leases(World::builder().proxied()).await;
    let mut cut_off = world.worker().slots(1).start().await;
    let enqueued = sleeper(&world, 500).await;
    wait_running(&mut cut_off, 1).await;

    world.proxy().stall_to_server();
    wait_running(&mut cut_off, 0).await;
    let url = world.server_url();
    let _heir = world.worker().url(&url).slots(1).start().await;
    let outcome = outcome(world.client(), &enqueued, DEADLINE).await;
    assert_eq!(outcome.attempt, 2);
    world.proxy().restore();

    // What was held up has arrived when the worker's next job has an outcome.
    assert_all_free(&world, &mut cut_off).await;
    assert_each_succeeded_once(&world, &[enqueued], DEADLINE).await;
}

/// The lease is kept as long as the job runs, for all jobs of a worker, and also while it drains.
#[tokio::test]
async fn a_job_longer_than_its_lease_runs_once_also_in_a_worker_that_drains() {
    let world = short_leases(World::builder()).await;
    let mut draining = world.worker().slots(3).start().await;
    let long = u64::try_from(LEASE.as_millis()).unwrap() * 5 / 2;
    let jobs = enqueue_all(world.client(), sleepers(3, long)).await;
    wait_running(&mut draining, 3).await;
    let mut idle = world.worker().slots(3).start().await;

    draining.terminate();
    assert!(draining.wait_exit(DEADLINE).await.success());

    let again = assert_each_succeeded_once(&world, &jobs, DEADLINE).await;
    assert_eq!(again, 0);
    let started = idle.metrics().await;
    assert_eq!(
        started
            .sum("repull_worker_jobs_started_total", &[])
            .unwrap_or(0.0),
        0.0
    );
}

/// Ends a worker that runs a long job in `how`; the job must come back unharmed.
async fn handed_back(how: impl AsyncFn(&mut Process)) -> (World, Enqueued) {
    let world = World::start().await;
    let mut job = job("sleep", &json!({"ms": 600_000}));
    // Were it to use up an attempt, none would be left.
    job.max_attempts = Some(1);
    let drain = Duration::from_millis(200);
    let mut worker = world.worker().slots(1).drain(drain).start().await;
    let enqueued = world.client().enqueue(job).await.unwrap();
    wait_running(&mut worker, 1).await;

    how(&mut worker).await;

    assert!(worker.wait_exit(DEADLINE).await.success());
    eventually(DEADLINE, "the job waits again", async || {
        let numbers = numbers(&world).await;
        (numbers.num_pending == 1 && numbers.num_ack_pending == 0).then_some(())
    })
    .await;
    let mut next = world.worker().slots(1).start().await;
    wait_running(&mut next, 1).await;
    let cancelled = world.client().cancel(&enqueued.address.id, "seen").await;
    assert_eq!(cancelled.unwrap().len(), 1);
    let outcome = outcome(world.client(), &enqueued, DEADLINE).await;
    assert_eq!((outcome.kind, outcome.attempt), (EventKind::Cancelled, 1));
    assert_all_free(&world, &mut next).await;
    (world, enqueued)
}

/// A drain hands back what does not end in time, and that uses up no attempt.
#[tokio::test]
async fn a_drain_hands_back_without_using_up_an_attempt() {
    handed_back(async |worker| worker.terminate()).await;
}

/// A second signal does the same at once.
#[tokio::test]
async fn a_second_signal_hands_back_at_once() {
    handed_back(async |worker| {
        worker.terminate();
        wait_draining(worker).await;
        worker.terminate();
    })
    .await;
}

async fn wait_draining(worker: &mut Process) {
    worker.wait_for_line("draining", DEADLINE).await;
}
