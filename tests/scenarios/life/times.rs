//! Limits in time: not before, not after, not longer, and not longer over all attempts.

use std::time::Duration;

use chrono::TimeDelta;
use repull::job::Timeout;
use repull::wire::{EventKind, Place};
use repull_tests::{DEADLINE, World, all_settled, enqueue_all, job, messages_in, outcome};
use serde_json::json;

#[tokio::test]
async fn delayed_jobs_start_at_their_time_also_under_another_scheduler() {
    let world = World::start().await;
    let mut first = world.scheduler().arg("--lease").arg("2s").start().await;
    let _worker = world.worker().start().await;
    let now = repull::clock::now();
    let times = (0..30).map(|tenth| now + TimeDelta::milliseconds(1_000 + tenth * 100));
    let jobs = times
        .map(|at| job("echo", &json!(at)).not_before(at))
        .collect();
    let enqueued = enqueue_all(world.client(), jobs).await;
    let waiting = messages_in(world.client(), Place::Later).await;

    // Killed with some due and some not.
    let started = outcome(world.client(), &enqueued[0], DEADLINE).await;
    first.kill().await;
    let _second = world.scheduler().arg("--lease").arg("2s").start().await;

    assert_eq!((waiting, started.kind), (30, EventKind::Succeeded));
    for each in &enqueued {
        let outcome = outcome(world.client(), each, DEADLINE).await;
        let at = serde_json::from_value(outcome.value()).unwrap();
        assert!(outcome.started_at >= Some(at), "{outcome:?}");
    }
    all_settled(world.client(), DEADLINE).await;
    let events = repull_tests::events(world.client()).await;
    assert!(
        events.values().all(|events| events.len() == 1),
        "each ran once"
    );
}

#[tokio::test]
async fn a_job_ends_by_its_timeout_its_deadline_or_its_expiry() {
    let world = World::start().await;
    let _scheduler = world.scheduler().start().await;
    let (client, now) = (world.client(), repull::clock::now());
    let mut expiring = job("echo", &json!(1));
    expiring.expires = Some(now - TimeDelta::milliseconds(1));
    let expiring = client.enqueue(expiring).await.unwrap();
    let mut slow = job("sleep", &json!({"ms": 600_000}));
    slow.timeout = Some(Timeout::After(Duration::from_millis(200)));
    (slow.max_attempts, slow.backoff) = (Some(2), "10ms,1,10ms".parse().ok());
    let slow = client.enqueue(slow).await.unwrap();
    let mut late = job("fail", &json!({"times": 100}));
    late.deadline = Some(now + TimeDelta::seconds(2));
    late.backoff = "100ms,1,100ms".parse().ok();
    late.max_attempts = Some(1_000);
    let late = client.enqueue(late).await.unwrap();
    let mut long = job("sleep", &json!({"ms": 600_000}));
    long.deadline = Some(now + TimeDelta::seconds(2));
    let long = client.enqueue(long).await.unwrap();

    let _worker = world.worker().start().await;

    let end = async |enqueued| outcome(client, enqueued, DEADLINE).await;
    assert_eq!(end(&expiring).await.kind, EventKind::Expired);
    let timed_out = end(&slow).await;
    assert_eq!((timed_out.kind, timed_out.attempt), (EventKind::Failed, 2));
    assert!(
        timed_out.text().contains("timed out after 200ms"),
        "{}",
        timed_out.text()
    );
    for failed in [end(&late).await, end(&long).await] {
        assert_eq!(failed.kind, EventKind::Failed);
        assert!(failed.text().contains("deadline"), "{}", failed.text());
    }
    assert_eq!(
        messages_in(client, Place::Dead).await,
        3,
        "an expired job is not dead"
    );
}
