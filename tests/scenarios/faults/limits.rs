//! Queues with a limit, queues that share a pool, and retries that wait: none of them may stop a
//! queue that has work and a worker with a free slot.

use repull::id::QueueName;
use repull::wire::Place;
use repull_tests::{DEADLINE, World, enqueue_all, eventually, job, job_on, messages_in, outcome};
use serde_json::json;

use super::{
    assert_all_free, assert_each_succeeded_once, assert_watchdog_rested, numbers, sleeper,
    sleepers, wait_running,
};

async fn limited_to(limit: u32) -> World {
    let world = World::start().await;
    world
        .client()
        .limit_queue(&QueueName::default(), Some(limit))
        .await
        .expect("a limit for the queue");
    world
}

/// A limit of one over two workers: the end of a job and the arrival of the next race all the
/// time, and none is forgotten.
#[tokio::test]
async fn a_limit_of_one_never_runs_two_and_never_forgets_the_next() {
    let world = limited_to(1).await;
    let mut workers = [
        world.worker().slots(4).start().await,
        world.worker().slots(4).start().await,
    ];
    let mut jobs = Vec::new();
    for _ in 0..100 {
        jobs.push(sleeper(&world, 2).await);
        let mut running = 0.0;
        for worker in &mut workers {
            running += worker.metrics().await.value("repull_worker_slots_running");
        }
        // The two are not read at the same moment: a job may end in one and another start in the
        // other in between. The broker's own count can't be misread.
        assert!(running <= 2.0);
        assert!(numbers(&world).await.num_ack_pending <= 1);
    }
    let again = assert_each_succeeded_once(&world, &jobs, DEADLINE).await;
    assert_eq!(again, 0);
    for worker in &mut workers {
        assert_watchdog_rested(worker).await;
    }
}

/// F-1. Jobs that wait for their retry do not count against the limit of their queue.
#[tokio::test]
async fn failing_jobs_in_backoff_do_not_stop_a_limited_queue() {
    let world = limited_to(2).await;
    let mut worker = world.worker().slots(8).start().await;
    let failing = (0..6).map(|_| {
        let mut failing = job("fail", &json!({"times": 9}));
        failing.backoff = Some("1h,1,1h".parse().unwrap());
        failing
    });
    enqueue_all(world.client(), failing.collect()).await;
    eventually(DEADLINE, "six jobs wait for their retry", async || {
        (messages_in(world.client(), Place::Later).await == 6).then_some(())
    })
    .await;
    assert_eq!(numbers(&world).await.num_ack_pending, 0);
    assert_all_free(&world, &mut worker).await;
}

/// F-3. The last failed attempt leaves the work queue; it does not stay there without a reader.
#[tokio::test]
async fn a_job_without_attempts_left_leaves_the_work_queue() {
    let world = World::start().await;
    let mut worker = world.worker().slots(1).start().await;
    let mut failing = job("fail", &json!({"times": 9}));
    failing.max_attempts = Some(1);
    let enqueued = world.client().enqueue(failing).await.unwrap();
    outcome(world.client(), &enqueued, DEADLINE).await;
    assert_all_free(&world, &mut worker).await;
    assert_eq!(messages_in(world.client(), Place::Jobs).await, 0);
    assert_eq!(messages_in(world.client(), Place::Dead).await, 1);
}

/// B-8. Two queues share one slot: an idle one takes nothing from a busy one, and a busy one does not
/// hide the other.
#[tokio::test]
async fn queues_that_share_one_slot_starve_each_other_in_no_way() {
    let world = World::start().await;
    let mut worker = world
        .worker()
        .slots(1)
        .queue("default")
        .queue("other")
        .start()
        .await;
    let busy = enqueue_all(world.client(), sleepers(300, 5)).await;
    wait_running(&mut worker, 1).await;
    for _ in 0..5 {
        let other = job_on("other", "echo", &json!(1));
        let other = world.client().enqueue(other).await.unwrap();
        outcome(world.client(), &other, DEADLINE).await;
        assert!(
            messages_in(world.client(), Place::Jobs).await > 0,
            "the backlog was gone before the other queue's job was done"
        );
    }
    assert_each_succeeded_once(&world, &busy, DEADLINE).await;
    assert_watchdog_rested(&mut worker).await;
}

/// Pausing a queue and resuming it, while jobs run and wait.
#[tokio::test]
async fn a_paused_queue_rests_and_goes_on_when_it_is_resumed() {
    let world = World::start().await;
    let mut worker = world.worker().slots(2).start().await;
    let queue = QueueName::default();
    for _ in 0..3 {
        world
            .client()
            .pause_queue(&queue, "test", "rest")
            .await
            .unwrap();
        worker
            .wait_for_line(
                "the queue's settings changed queue=default paused=true",
                DEADLINE,
            )
            .await;
        let jobs = enqueue_all(world.client(), sleepers(10, 1)).await;
        world.client().resume_queue(&queue).await.unwrap();
        assert_each_succeeded_once(&world, &jobs, DEADLINE).await;
    }
    assert_all_free(&world, &mut worker).await;
    assert_watchdog_rested(&mut worker).await;
}
