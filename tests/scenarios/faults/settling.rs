//! Confirmations that are lost while a job is being settled: what is said again is stored once.

use std::sync::atomic::{AtomicUsize, Ordering};

use repull::wire::EventKind;
use repull_tests::{DEADLINE, Message, Toward, Verdict, World, events, job, outcome};
use serde_json::json;

use super::{assert_all_free, assert_each_succeeded_once, sleeper};

/// A world in which the first message of a kind is lost.
async fn losing_first(toward: Toward, lost: fn(&Message) -> bool) -> World {
    let world = World::builder().intercepted().start().await;
    let seen = AtomicUsize::new(0);
    world.interceptor().judge(move |way, message| {
        let hit = way == toward && lost(message) && seen.fetch_add(1, Ordering::Relaxed) == 0;
        if hit { Verdict::Swallow } else { Verdict::Pass }
    });
    world
}

async fn settles_once(toward: Toward, lost: fn(&Message) -> bool) {
    let world = losing_first(toward, lost).await;
    let mut worker = world.worker().slots(1).start().await;
    let enqueued = sleeper(&world, 0).await;
    let outcome = outcome(world.client(), &enqueued, DEADLINE).await;
    assert_eq!((outcome.kind, outcome.attempt), (EventKind::Succeeded, 1));
    let again = assert_each_succeeded_once(&world, &[enqueued], DEADLINE).await;
    assert_eq!(again, 0);
    let started = worker.metrics().await;
    assert_eq!(started.value("repull_worker_jobs_started_total"), 1.0);
    assert_all_free(&world, &mut worker).await;
}

#[tokio::test]
async fn an_outcome_that_is_lost_on_its_way_is_told_again() {
    settles_once(Toward::Server, |message| {
        message.subject.starts_with("repull.results.")
    })
    .await;
}

/// The stream has it, and the worker does not know: the second publish is the duplicate of the first.
#[tokio::test]
async fn an_outcome_whose_confirmation_is_lost_is_stored_once() {
    settles_once(Toward::Client, |message| message.subject.contains(".a.p.")).await;
}

#[tokio::test]
async fn an_ack_that_is_lost_is_given_again() {
    settles_once(Toward::Server, |message| {
        message.subject.starts_with("$JS.ACK.") && message.payload.starts_with(b"+ACK")
    })
    .await;
}

#[tokio::test]
async fn an_ack_whose_confirmation_is_lost_settles_its_job() {
    settles_once(Toward::Client, |message| message.subject.contains(".a.b.")).await;
}

/// A retry whose publish is confirmed late: the next attempt is stored once, and the old message goes
/// only then.
#[tokio::test]
async fn a_retry_whose_confirmation_is_lost_is_stored_once() {
    let world = losing_first(Toward::Client, |message| message.subject.contains(".a.p.")).await;
    let _scheduler = world.scheduler().url(&world.server_url()).start().await;
    let mut worker = world.worker().slots(1).start().await;
    let mut failing = job("fail", &json!({"times": 1}));
    failing.backoff = Some("10ms,1,10ms".parse().unwrap());
    let enqueued = world.client().enqueue(failing).await.unwrap();

    let outcome = outcome(world.client(), &enqueued, DEADLINE).await;

    assert_eq!((outcome.kind, outcome.attempt), (EventKind::Succeeded, 2));
    let all = &events(world.client()).await[enqueued.address.id.as_str()];
    let kinds: Vec<EventKind> = all.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Retrying, EventKind::Succeeded]);
    assert_all_free(&world, &mut worker).await;
}
