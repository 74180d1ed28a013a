//! Inboxes that are left under load: by a worker that drains, and by one that gets a new epoch. A job
//! that was on its way there costs no attempt, which matters most to a job that has only one.

use repull::id::QueueName;
use repull_tests::{DEADLINE, Process, World, enqueue_all, outcome};

use super::{
    assert_all_free, assert_each_succeeded_once, assert_never_too_many, numbers, sleeper, sleepers,
    wait_promised,
};

const SLOTS: u32 = 32;

/// Jobs that have one attempt each, and no time to lose on a second.
fn single_shots(count: usize) -> Vec<repull::job::Job> {
    let mut jobs = sleepers(count, 5);
    for job in &mut jobs {
        job.max_attempts = Some(1);
    }
    jobs
}

/// Waits until the worker has started so many jobs.
async fn wait_started(worker: &mut Process, count: f64) {
    worker
        .wait_for_metric("repull_worker_jobs_started_total", "jobs start", |n| {
            n >= count
        })
        .await;
}

/// F-8. Workers that come and go under load use up no attempt of any job.
#[tokio::test]
async fn a_drain_under_load_uses_up_no_attempt() {
    let world = World::start().await;
    let jobs = enqueue_all(world.client(), single_shots(6_000)).await;
    let mut worker = world.worker().slots(SLOTS).start().await;
    for _ in 0..4 {
        wait_started(&mut worker, 300.0).await;
        let heir = world.worker().slots(SLOTS).start().await;
        let mut leaving = std::mem::replace(&mut worker, heir);
        leaving.terminate();
        let status = leaving.wait_exit(DEADLINE).await;
        assert!(status.success(), "a drain ends well, not with {status}");
    }
    let again = assert_each_succeeded_once(&world, &jobs, DEADLINE).await;
    assert_eq!(again, 0, "a drain used up attempts");
    assert_all_free(&world, &mut worker).await;
}

/// C-4. The pulls of a busy worker are replaced over and over (as after a reconnect; here since its
/// queue is paused and resumed), and what was on its way still runs, once, as the first attempt.
#[tokio::test]
async fn a_new_epoch_under_load_uses_up_no_attempt() {
    let world = World::start().await;
    let queue = QueueName::default();
    let jobs = enqueue_all(world.client(), single_shots(4_000)).await;
    let mut worker = world.worker().slots(SLOTS).start().await;
    for round in 1..=8 {
        wait_started(&mut worker, f64::from(round) * 100.0).await;
        let paused = world.client().pause_queue(&queue, "test", "round").await;
        paused.expect("a paused queue");
        wait_promised(&mut worker, 0).await;
        world.client().resume_queue(&queue).await.expect("resumed");
    }
    let again = assert_each_succeeded_once(&world, &jobs, DEADLINE).await;
    assert_eq!(again, 0, "a new epoch used up attempts");
    assert_never_too_many(&mut worker).await;
    assert_all_free(&world, &mut worker).await;
}

/// A pause takes back the pull that an idle worker has open: nothing that comes later is started.
#[tokio::test]
async fn a_pause_reaches_a_worker_that_waits_for_jobs() {
    let world = World::start().await;
    let queue = QueueName::default();
    let mut worker = world.worker().slots(4).start().await;
    wait_promised(&mut worker, 4).await;
    let paused = world.client().pause_queue(&queue, "test", "rest").await;
    paused.expect("a paused queue");
    wait_promised(&mut worker, 0).await;
    let left = || async { (numbers(&world).await.num_waiting == 0).then_some(()) };
    repull_tests::eventually(DEADLINE, "no pull waits at the server", left).await;

    let enqueued = sleeper(&world, 1).await;
    let info = numbers(&world).await;
    assert_eq!((info.num_pending, info.num_ack_pending), (1, 0));

    world.client().resume_queue(&queue).await.expect("resumed");
    outcome(world.client(), &enqueued, DEADLINE).await;
    assert_all_free(&world, &mut worker).await;
}
