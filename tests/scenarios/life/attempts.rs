//! Attempts are counted exactly, whoever dies in between, and nothing is lost or runs once more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use repull::wire::{EventKind, Place};
use repull_tests::{DEADLINE, World, all_settled, events, eventually, job, messages_in, outcome};
use repull_worker::{Context, TaskError};
use serde_json::{Value, json};

use super::inside;
use crate::faults::{short_leases, wait_running};

/// Fails, takes its worker down, fails, and succeeds: attempts 1 to 4.
const LIVES: &str = r#"
[tasks.lives]
exec = ["sh", "-c", "case $REPULL_ATTEMPT in 2) sleep 6;; 4) echo 4;; *) echo no luck >&2; exit 1;; esac"]
backoff = "300ms,1,300ms"
max_attempts = 4
"#;

#[tokio::test]
async fn attempts_are_exact_across_errors_a_killed_worker_and_a_killed_scheduler() {
    let world = short_leases(World::builder()).await;
    let mut scheduler = world.scheduler().arg("--lease").arg("2s").start().await;
    let mut worker = world.worker().slots(1).config(LIVES).start().await;
    let enqueued = world.client().enqueue(job("lives", &Value::Null)).await;
    let enqueued = enqueued.unwrap();
    // The first retry falls due while no scheduler is there.
    eventually(DEADLINE, "the first attempt has failed", async || {
        (messages_in(world.client(), Place::Later).await == 1).then_some(())
    })
    .await;
    scheduler.kill().await;
    let _scheduler = world.scheduler().arg("--lease").arg("2s").start().await;
    wait_running(&mut worker, 1).await;

    worker.kill().await;
    let _heir = world.worker().slots(1).config(LIVES).start().await;

    let outcome = outcome(world.client(), &enqueued, DEADLINE).await;
    assert_eq!((outcome.kind, outcome.attempt), (EventKind::Succeeded, 4));
    all_settled(world.client(), DEADLINE).await;
    let events = &events(world.client()).await[enqueued.address.id.as_str()];
    let told = events.iter().filter(|event| event.kind != EventKind::Log);
    let told: Vec<_> = told.map(|event| (event.kind, event.attempt)).collect();
    let retrying = EventKind::Retrying;
    assert_eq!(
        told,
        [(retrying, 1), (retrying, 3), (EventKind::Succeeded, 4)]
    );
}

/// The retry of a worker that lost its network reaches the server when the job has run elsewhere: it
/// is no further attempt.
#[tokio::test]
async fn a_retry_held_up_in_the_network_is_no_further_attempt() {
    const FAILS_FIRST: &str = r#"
[tasks.fails-first]
exec = ["sh", "-c", "sleep 0.5; test $REPULL_ATTEMPT -gt 1"]
backoff = "10ms,1,10ms"
"#;
    let world = short_leases(World::builder().proxied()).await;
    let url = world.server_url();
    let mut cut_off = world.worker().slots(1).config(FAILS_FIRST).start().await;
    let enqueued = world
        .client()
        .enqueue(job("fails-first", &Value::Null))
        .await;
    let enqueued = enqueued.unwrap();
    wait_running(&mut cut_off, 1).await;

    world.proxy().stall_to_server();
    wait_running(&mut cut_off, 0).await;
    let heir = world.worker().url(&url).slots(1).config(FAILS_FIRST);
    let _heir = heir.start().await;
    let done = outcome(world.client(), &enqueued, DEADLINE).await;
    assert_eq!((done.kind, done.attempt), (EventKind::Succeeded, 2));
    world.proxy().restore();
    eventually(DEADLINE, "the retry has arrived", async || {
        (messages_in(world.client(), Place::Later).await == 1).then_some(())
    })
    .await;

    let _scheduler = world.scheduler().url(&url).start().await;
    all_settled(world.client(), DEADLINE).await;
    let events = &events(world.client()).await[enqueued.address.id.as_str()];
    let outcomes = events.iter().filter(|event| event.kind.is_outcome());
    assert_eq!(outcomes.count(), 1, "{events:?}");
    let again = outcome(world.client(), &enqueued, DEADLINE).await;
    assert_eq!(
        again.attempt, 2,
        "its outcome is found behind what came late"
    );
}

/// A snooze uses no attempt, and one that falls due while no scheduler is there is not taken for one
/// that was queued before.
#[tokio::test]
async fn a_snoozed_job_goes_on_as_the_same_attempt_under_another_scheduler() {
    let world = World::start().await;
    let mut scheduler = world.scheduler().arg("--lease").arg("2s").start().await;
    let calls = Arc::new(AtomicU32::new(0));
    let _worker = inside(&world, |builder| {
        let calls = calls.clone();
        builder.task("nap", move |context: Context, (): ()| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            async move {
                context.progress(0.5, "half");
                match call {
                    0 => Err(TaskError::snooze(Duration::from_millis(700))),
                    _ => Ok(context.attempt()),
                }
            }
        })
    })
    .await;

    let enqueued = world
        .client()
        .enqueue(job("nap", &Value::Null))
        .await
        .unwrap();
    eventually(DEADLINE, "it is snoozed", async || {
        let last = world.client().last_event(&enqueued.address).await.ok()??;
        (last.kind == EventKind::Snoozed).then_some(())
    })
    .await;
    scheduler.kill().await;
    let _scheduler = world.scheduler().arg("--lease").arg("2s").start().await;

    let outcome = outcome(world.client(), &enqueued, DEADLINE).await;
    assert_eq!(
        (outcome.kind, outcome.value()),
        (EventKind::Succeeded, json!(1))
    );
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}
