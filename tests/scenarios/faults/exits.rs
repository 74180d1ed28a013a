//! Every way in which an attempt can end gives its slot back, exactly once.
//!
//! Each test runs a worker with a single slot to the end in question, and then asks its metrics that
//! no slot is in use, and the worker itself for another job.

use std::time::Duration;

use repull::job::Timeout;
use repull::wire::{EventKind, Place};
use repull_tests::{
    DEADLINE, Process, Toward, Verdict, World, enqueue_all, eventually, job, messages_in, outcome,
};
use serde_json::json;

use super::{assert_all_free, short_leases, sleeper, wait_running};

async fn one_slot() -> (World, Process) {
    let world = World::start().await;
    let worker = world.worker().slots(1).start().await;
    (world, worker)
}

#[tokio::test]
async fn a_handler_that_returns_frees_its_slot() {
    let (world, mut worker) = one_slot().await;
    let enqueued = sleeper(&world, 1).await;
    let outcome = outcome(world.client(), &enqueued, DEADLINE).await;
    assert_eq!(outcome.kind, EventKind::Succeeded);
    assert_all_free(&world, &mut worker).await;
}

/// B-6. An error keeps neither the slot nor the message.
#[tokio::test]
async fn a_handler_that_fails_frees_its_slot() {
    let (world, mut worker) = one_slot().await;
    let failing = (0..5).map(|_| job("fail", &json!({"times": 9})));
    enqueue_all(world.client(), failing.collect()).await;
    eventually(DEADLINE, "five jobs wait for a retry", async || {
        (messages_in(world.client(), Place::Later).await == 5).then_some(())
    })
    .await;
    assert_all_free(&world, &mut worker).await;
    assert_eq!(messages_in(world.client(), Place::Jobs).await, 0);
}

/// B-1. A task that nobody here knows: the slot that asyncjobs never gave back.
#[tokio::test]
async fn an_unknown_task_frees_its_slot() {
    let (world, mut worker) = one_slot().await;
    for n in 0..3 {
        let mut unknown = job("no.such.task", &json!(n));
        unknown.max_attempts = Some(1);
        let enqueued = world.client().enqueue(unknown).await.unwrap();
        let outcome = outcome(world.client(), &enqueued, DEADLINE).await;
        assert_eq!(outcome.kind, EventKind::Failed);
    }
    assert_all_free(&world, &mut worker).await;
}

/// B-10, D-3. What is no job ends neither the loop nor the slot, and is not met a second time.
#[tokio::test]
async fn an_undecodable_message_frees_its_slot() {
    let (world, mut worker) = one_slot().await;
    for n in 0..5 {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Repull-Timeout", "soon");
        let subject = format!("repull.jobs.default.echo.bad-{n}");
        let publish =
            world
                .jetstream()
                .publish_with_headers(subject, headers, vec![0xff, 0xfe, n].into());
        publish.await.unwrap().await.unwrap();
    }
    eventually(DEADLINE, "all five lie with the dead", async || {
        (messages_in(world.client(), Place::Dead).await == 5).then_some(())
    })
    .await;
    assert_all_free(&world, &mut worker).await;
    assert_eq!(messages_in(world.client(), Place::Jobs).await, 0);
}

#[tokio::test]
async fn a_handler_that_takes_too_long_frees_its_slot() {
    let (world, mut worker) = one_slot().await;
    let mut slow = job("sleep", &json!({"ms": 600_000}));
    slow.timeout = Some(Timeout::After(Duration::from_millis(50)));
    slow.max_attempts = Some(1);
    let enqueued = world.client().enqueue(slow).await.unwrap();
    let outcome = outcome(world.client(), &enqueued, DEADLINE).await;
    assert_eq!(outcome.kind, EventKind::Failed);
    assert!(outcome.text().contains("timed out"), "{}", outcome.text());
    assert_all_free(&world, &mut worker).await;
}

/// B-2. A job that is cancelled while it runs.
#[tokio::test]
async fn a_cancelled_job_frees_its_slot() {
    let (world, mut worker) = one_slot().await;
    let enqueued = sleeper(&world, 600_000).await;
    wait_running(&mut worker, 1).await;
    let cancelled = world.client().cancel(&enqueued.address.id, "enough").await;
    assert!(cancelled.unwrap()[0].worker.is_some());
    let outcome = outcome(world.client(), &enqueued, DEADLINE).await;
    assert_eq!(outcome.kind, EventKind::Cancelled);
    assert_all_free(&world, &mut worker).await;
}

/// B-7. A program that ignores SIGTERM is killed when its grace is over.
#[tokio::test]
async fn a_program_that_ignores_its_cancellation_frees_its_slot() {
    let world = World::start().await;
    let mut worker = world
        .worker()
        .slots(1)
        .env("REPULL_CANCEL_GRACE", "500ms")
        .config(
            "builtins = true\n[tasks.stubborn]\n\
             exec = [\"sh\", \"-c\", \"trap '' TERM; while :; do sleep 1; done\"]\n",
        )
        .start()
        .await;
    let enqueued = world.client().enqueue(job("stubborn", &json!(1))).await;
    let enqueued = enqueued.unwrap();
    wait_running(&mut worker, 1).await;
    world
        .client()
        .cancel(&enqueued.address.id, "enough")
        .await
        .unwrap();
    let outcome = outcome(world.client(), &enqueued, DEADLINE).await;
    assert_eq!(outcome.kind, EventKind::Cancelled);
    assert_all_free(&world, &mut worker).await;
}

/// A job whose ack was lost is delivered a second time; it is acked again and not run again.
#[tokio::test]
async fn a_job_that_is_delivered_twice_frees_its_slot_and_runs_once() {
    let world = short_leases(World::builder().intercepted()).await;
    let mut worker = world.worker().slots(1).start().await;
    world.interceptor().judge(|toward, message| {
        // The keep-alives too: with them the job would never be delivered again.
        match message.subject.starts_with("$JS.ACK.") && toward == Toward::Server {
            true => Verdict::Swallow,
            false => Verdict::Pass,
        }
    });
    let enqueued = sleeper(&world, 1).await;
    worker
        .wait_for_metric("repull_worker_redeliveries_total", "it came again", |n| {
            n >= 1.0
        })
        .await;
    world.interceptor().let_pass();

    let outcome = outcome(world.client(), &enqueued, DEADLINE).await;
    assert_eq!((outcome.kind, outcome.attempt), (EventKind::Succeeded, 1));
    eventually(DEADLINE, "its message is gone", async || {
        (messages_in(world.client(), Place::Jobs).await == 0).then_some(())
    })
    .await;
    let started = worker.metrics().await;
    assert_eq!(started.value("repull_worker_jobs_started_total"), 1.0);
    assert_all_free(&world, &mut worker).await;
}
