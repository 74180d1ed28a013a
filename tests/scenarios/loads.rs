//! The three loads that must never hurt: a burst, long jobs among short ones, workers that come and go.

use std::time::Duration;

use repull::topology::Layout;
use repull::wire::{EventKind, Place};
use repull_tests::{
    DEADLINE, World, all_settled, assert_outcomes, enqueue_all, events, eventually, job,
    messages_in, outcome,
};
use serde_json::json;

const LOAD_DEADLINE: Duration = Duration::from_secs(180);

fn ids(enqueued: &[repull::client::Enqueued]) -> Vec<String> {
    enqueued
        .iter()
        .map(|enqueued| enqueued.address.id.to_string())
        .collect()
}

/// The load that stopped APScheduler 4.0.0a4 for good: far more jobs at once than slots.
#[tokio::test]
async fn a_burst_far_above_the_limit_is_worked_off_without_a_pause() {
    let world = World::start().await;
    let mut worker = world.worker().slots(10).start().await;

    let burst = (0..2_000)
        .map(|_| job("sleep", &json!({"ms": 2})))
        .collect();
    let enqueued = enqueue_all(world.client(), burst).await;

    all_settled(world.client(), LOAD_DEADLINE).await;
    assert_outcomes(
        &events(world.client()).await,
        &ids(&enqueued),
        EventKind::Succeeded,
    );
    let metrics = worker.metrics().await;
    assert!(
        metrics.value("repull_worker_slots_held_max") <= 10.0,
        "more slots were held than there are"
    );
    assert_eq!(
        metrics.sum("repull_worker_jobs_started_total", &[]),
        Some(2_000.0),
        "some job ran twice"
    );
    assert_eq!(
        metrics.sum("repull_worker_watchdog_actions_total", &[]),
        Some(0.0),
        "the watchdog had to help"
    );
    worker
        .wait_for_metric("repull_worker_slots_running", "no job runs", |running| {
            running == 0.0
        })
        .await;
}

/// A burst that is there before the worker starts, and a worker with a single slot.
#[tokio::test]
async fn one_slot_works_off_a_backlog_that_was_there_before_it() {
    let world = World::start().await;
    let enqueued = enqueue_all(
        world.client(),
        (0..300).map(|n| job("echo", &json!(n))).collect(),
    )
    .await;

    let _worker = world.worker().slots(1).start().await;

    all_settled(world.client(), LOAD_DEADLINE).await;
    assert_outcomes(
        &events(world.client()).await,
        &ids(&enqueued),
        EventKind::Succeeded,
    );
}

#[tokio::test]
async fn long_jobs_do_not_hold_back_short_ones() {
    let world = World::start().await;
    let mut worker = world.worker().slots(4).start().await;
    let hour = json!({"ms": 3_600_000});
    let long = enqueue_all(
        world.client(),
        (0..3).map(|_| job("sleep", &hour)).collect(),
    )
    .await;
    worker
        .wait_for_metric("repull_worker_slots_running", "three jobs run", |running| {
            running == 3.0
        })
        .await;

    let short = enqueue_all(
        world.client(),
        (0..200).map(|_| job("sleep", &json!({"ms": 1}))).collect(),
    )
    .await;
    for enqueued in &short {
        outcome(world.client(), enqueued, DEADLINE).await;
    }

    // An outcome is there before its job's message goes.
    eventually(DEADLINE, "only the long jobs are left", async || {
        let left = messages_in(world.client(), Place::Jobs).await;
        (left == 3).then_some(())
    })
    .await;
    let events = events(world.client()).await;
    assert_outcomes(&events, &ids(&short), EventKind::Succeeded);
    assert!(ids(&long).iter().all(|id| !events.contains_key(id)));
}

#[tokio::test]
async fn workers_come_and_go_under_load_and_nothing_is_lost() {
    let layout = Layout {
        ack_wait: Duration::from_secs(2),
        ..Layout::default()
    };
    let world = World::builder().layout(layout).start().await;
    let mut killed = world.worker().slots(8).start().await;
    let mut drained = world.worker().slots(8).start().await;
    let jobs = (0..3_000)
        .map(|_| job("sleep", &json!({"ms": 10})))
        .collect();
    let enqueued = enqueue_all(world.client(), jobs).await;
    let left = async |at_most: u64| {
        eventually(LOAD_DEADLINE, "more jobs are done", async || {
            (messages_in(world.client(), Place::Jobs).await <= at_most).then_some(())
        })
        .await;
    };

    left(2_600).await;
    let _late = world.worker().slots(8).start().await;
    left(2_000).await;
    killed.kill().await;
    left(1_200).await;
    drained.terminate();
    assert!(
        drained.wait_exit(DEADLINE).await.success(),
        "a drain ends well"
    );

    all_settled(world.client(), LOAD_DEADLINE).await;
    let events = events(world.client()).await;
    assert_outcomes(&events, &ids(&enqueued), EventKind::Succeeded);
    let again = events
        .values()
        .flatten()
        .filter(|event| event.attempt > 1)
        .count();
    assert!(
        again <= 8,
        "{again} jobs took a second attempt, and only 8 ran when their worker was killed"
    );
}
