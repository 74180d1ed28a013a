//! Lost wake-ups: nothing that a worker waits for may pass it by.

use std::time::{Duration, Instant};

use repull_tests::{DEADLINE, World, enqueue_all, outcome};

use super::{
    assert_all_free, assert_each_succeeded_once, assert_never_too_many, assert_watchdog_rested,
    sleeper, sleepers, wait_promised, wait_running,
};

/// An idle worker starts a job at once, not at its next look.
#[tokio::test]
async fn an_idle_worker_starts_a_job_at_once() {
    let world = World::start().await;
    let mut worker = world.worker().slots(1).start().await;
    let mut fastest = Duration::MAX;
    for _ in 0..10 {
        wait_promised(&mut worker, 1).await;
        let before = Instant::now();
        let enqueued = sleeper(&world, 0).await;
        let outcome = outcome(world.client(), &enqueued, DEADLINE).await;
        let waited = before.elapsed();
        assert!(waited < Duration::from_secs(2), "it took {waited:?}");
        drop(outcome);
        fastest = fastest.min(waited);
    }
    assert!(fastest < Duration::from_millis(100), "at best {fastest:?}");
    assert_watchdog_rested(&mut worker).await;
}

/// A slot that comes free is used at once while there is a backlog: by its jobs' own count the
/// worker is never idle.
#[tokio::test]
async fn a_freed_slot_is_used_again_at_once() {
    let world = World::start().await;
    let jobs = enqueue_all(world.client(), sleepers(400, 10)).await;
    let mut worker = world.worker().slots(4).start().await;
    let again = assert_each_succeeded_once(&world, &jobs, DEADLINE).await;
    assert_eq!(again, 0);
    let metrics = worker.metrics().await;
    let refills = metrics.value("repull_worker_slot_refill_seconds_count");
    let mean = metrics.value("repull_worker_slot_refill_seconds_sum") / refills;
    assert!(refills > 300.0, "only {refills} slots were refilled");
    assert!(mean < 0.25, "a freed slot waited for {mean} s on average");
    assert_all_free(&world, &mut worker).await;
    assert_watchdog_rested(&mut worker).await;
}

/// Many jobs end in the same moment, while the loop is busy with others: none of their signals
/// is lost.
#[tokio::test]
async fn many_jobs_that_end_in_one_moment_free_all_their_slots() {
    let world = World::start().await;
    let mut worker = world.worker().slots(200).start().await;
    for _ in 0..3 {
        let jobs = enqueue_all(world.client(), sleepers(400, 300)).await;
        wait_running(&mut worker, 200).await;
        let again = assert_each_succeeded_once(&world, &jobs, DEADLINE).await;
        assert_eq!(again, 0);
    }
    wait_running(&mut worker, 0).await;
    assert_never_too_many(&mut worker).await;
    assert_watchdog_rested(&mut worker).await;
}
