//! Pulls that are lost, refused, forgotten or come back to life: none of it may cost a slot, and none
//! may bring more jobs than there are slots.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use repull::wire::EventKind;
use repull_tests::{DEADLINE, Toward, World, enqueue_all, eventually, job, outcome};
use serde_json::json;

use super::{
    PULLS, assert_all_free, assert_each_succeeded_once, assert_never_too_many,
    assert_watchdog_rested, make_consumer, numbers, short_leases, sleeper, sleepers, wait_promised,
    wait_running,
};

/// E-3, E-6. A server goes on serving the pulls of before a reconnect if it sees the same inbox in
/// time: with one inbox, five slots would get ten jobs.
#[tokio::test]
async fn a_reconnect_with_open_pulls_brings_no_more_jobs_than_slots() {
    let world = short_leases(World::builder().proxied()).await;
    let mut worker = world.worker().slots(5).start().await;
    for round in 1..=5 {
        wait_promised(&mut worker, 5).await;
        world.proxy().cut_once();
        worker
            .wait_for_metric("repull_worker_reconnects_total", "it is back", |n| {
                n >= f64::from(round)
            })
            .await;
        let jobs = enqueue_all(world.client(), sleepers(15, 100)).await;
        let most = eventually(DEADLINE, "all of them are done", async || {
            let numbers = numbers(&world).await;
            assert!(
                numbers.num_ack_pending <= 10,
                "{} jobs are with a worker of five slots",
                numbers.num_ack_pending
            );
            (numbers.num_ack_pending == 0 && numbers.num_pending == 0).then_some(())
        });
        most.await;
        assert_each_succeeded_once(&world, &jobs, DEADLINE).await;
    }
    let metrics = worker.metrics().await;
    assert_eq!(
        metrics.value("repull_worker_handed_back_total"),
        0.0,
        "more jobs came than were asked for"
    );
    assert_all_free(&world, &mut worker).await;
}

/// B-4, B-5. A reconnect in the middle of work neither forgets the jobs that run nor the slots that
/// are free beside them.
#[tokio::test]
async fn a_reconnect_keeps_the_count_of_running_and_of_free_slots() {
    let world = short_leases(World::builder().proxied()).await;
    let mut worker = world.worker().slots(4).start().await;
    let long = enqueue_all(world.client(), sleepers(2, 4_000)).await;
    wait_running(&mut worker, 2).await;

    world.proxy().cut_once();
    worker
        .wait_for_metric("repull_worker_reconnects_total", "it is back", |n| n == 1.0)
        .await;
    let short = enqueue_all(world.client(), sleepers(20, 50)).await;
    wait_running(&mut worker, 4).await;
    for enqueued in &short {
        outcome(world.client(), enqueued, DEADLINE).await;
    }

    assert_never_too_many(&mut worker).await;
    let again = assert_each_succeeded_once(&world, &long, DEADLINE).await;
    assert_eq!(again, 0);
    assert_all_free(&world, &mut worker).await;
}

/// D-7. The consumer goes away under an open pull, with a job in hand, and is made again by somebody:
/// pulls go on, and the job that runs meanwhile is acked to the new consumer and not run twice.
#[tokio::test]
async fn a_consumer_that_is_deleted_and_made_again_is_pulled_from() {
    let world = short_leases(World::builder()).await;
    let mut worker = world.worker().slots(2).start().await;
    let running = sleeper(&world, 1_500).await;
    wait_running(&mut worker, 1).await;
    wait_promised(&mut worker, 1).await;

    let stream = world.jetstream().get_stream("REPULL_JOBS").await.unwrap();
    stream.delete_consumer("default").await.unwrap();
    make_consumer(&world, |_| {}).await;

    let more = enqueue_all(world.client(), sleepers(10, 10)).await;
    for enqueued in more.iter().chain([&running]) {
        let outcome = outcome(world.client(), enqueued, DEADLINE).await;
        assert_eq!(outcome.kind, EventKind::Succeeded);
    }
    assert_each_succeeded_once(&world, &[running], DEADLINE).await;
    let started = worker.metrics().await;
    assert_eq!(started.value("repull_worker_jobs_started_total"), 11.0);
    assert_all_free(&world, &mut worker).await;
}

/// D-7. Nobody makes it again: the worker does.
#[tokio::test]
async fn a_worker_makes_its_consumer_again_that_somebody_deleted() {
    let world = World::start().await;
    let mut worker = world.worker().slots(2).start().await;
    wait_promised(&mut worker, 2).await;

    let stream = world.jetstream().get_stream("REPULL_JOBS").await.unwrap();
    stream.delete_consumer("default").await.unwrap();

    assert_all_free(&world, &mut worker).await;
    assert_watchdog_rested(&mut worker).await;
}

/// E-4. A waiting list that is full drops a pull with a heartbeat without a word: only the missing
/// heartbeat tells.
#[tokio::test]
async fn a_pull_that_a_full_waiting_list_dropped_in_silence_is_sent_again() {
    const WAITING: i64 = 512;
    let world = World::start().await;
    make_consumer(&world, |config| config.max_waiting = WAITING).await;
    let crowd = world.server().connect().await;
    let mut answers = crowd.subscribe("crowd.*").await.unwrap();
    for n in 0..WAITING {
        let body = r#"{"batch":1,"expires":600000000000}"#;
        crowd
            .publish_with_reply(PULLS, format!("crowd.{n}"), body.into())
            .await
            .unwrap();
    }
    eventually(DEADLINE, "the waiting list is full", async || {
        (numbers(&world).await.num_waiting == 512).then_some(())
    })
    .await;
    let mut worker = world.worker().slots(1).start().await;
    wait_promised(&mut worker, 1).await;

    answers.unsubscribe().await.unwrap();
    while answers.next().await.is_some() {}
    drop(crowd);
    let started = Instant::now();
    assert_all_free(&world, &mut worker).await;
    let waited = started.elapsed();
    assert!(waited < Duration::from_secs(20), "it took {waited:?}");
    assert_watchdog_rested(&mut worker).await;
}

/// E-5. A pull that the consumer's limits refuse is not sent again and again at once, and goes through
/// when the limit is lifted.
#[tokio::test]
async fn a_pull_that_is_refused_is_not_repeated_in_a_hot_loop() {
    let world = World::start().await;
    make_consumer(&world, |config| config.max_batch = 1).await;
    let mut worker = world.worker().slots(8).start().await;
    let enqueued = sleeper(&world, 0).await;
    let refused = |metrics: &repull_tests::Metrics| {
        metrics.sum(
            "repull_worker_pull_statuses_total",
            &[("status", "refused")],
        )
    };
    let address = worker.http_address().await;
    let started = Instant::now();
    eventually(DEADLINE, "the pull was refused five times", async || {
        let (_, page) = repull_tests::get(&address, "/metrics").await.ok()?;
        (refused(&repull_tests::Metrics::parse(&page))? >= 5.0).then_some(())
    })
    .await;
    let waited = started.elapsed();
    assert!(
        waited > Duration::from_millis(700),
        "five pulls within {waited:?}"
    );

    make_consumer(&world, |config| config.max_batch = 0).await;
    outcome(world.client(), &enqueued, DEADLINE).await;
    assert_all_free(&world, &mut worker).await;
}

/// B-3. No prefetch: behind a long job waits nothing that another worker could run.
#[tokio::test]
async fn a_busy_worker_holds_no_job_that_it_does_not_run() {
    let world = World::start().await;
    let mut busy = world.worker().slots(1).start().await;
    let long = sleeper(&world, 600_000).await;
    wait_running(&mut busy, 1).await;
    let waiting = enqueue_all(world.client(), sleepers(5, 1)).await;
    assert_eq!(numbers(&world).await.num_ack_pending, 1);

    let mut other = world.worker().slots(1).start().await;
    for enqueued in &waiting {
        let outcome = outcome(world.client(), enqueued, DEADLINE).await;
        assert_eq!(outcome.attempt, 1);
    }

    let started = other.metrics().await;
    assert_eq!(started.value("repull_worker_jobs_started_total"), 5.0);
    world
        .client()
        .cancel(&long.address.id, "enough")
        .await
        .unwrap();
    assert_all_free(&world, &mut busy).await;
}

/// Several workers share one consumer: each job is given to one of them, and none is copied.
#[tokio::test]
async fn workers_of_one_queue_share_its_jobs() {
    let world = World::start().await;
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(world.worker().slots(4).start().await);
    }
    let jobs = enqueue_all(
        world.client(),
        (0..300).map(|_| job("sleep", &json!({"ms": 5}))).collect(),
    )
    .await;
    let again = assert_each_succeeded_once(&world, &jobs, DEADLINE).await;
    assert_eq!(again, 0);
    let mut started = 0.0;
    for worker in &mut workers {
        let own = worker.metrics().await;
        let own = own.value("repull_worker_jobs_started_total");
        assert!(own > 0.0, "one of three workers got nothing");
        started += own;
    }
    assert_eq!(started, 300.0);
}

/// E-10. A delivery that never arrives (a client drops what it can't hold): its slot and its job come
/// back by themselves.
#[tokio::test]
async fn a_job_that_is_lost_on_its_way_comes_again_and_so_does_its_slot() {
    let world = short_leases(World::builder().intercepted()).await;
    let mut worker = world.worker().slots(1).start().await;
    wait_promised(&mut worker, 1).await;
    world.interceptor().judge(|toward, message| {
        let first = message
            .reply
            .as_ref()
            .is_some_and(|reply| reply.starts_with("$JS.ACK.REPULL_JOBS.default.1."));
        match first && toward == Toward::Client {
            true => repull_tests::Verdict::Swallow,
            false => repull_tests::Verdict::Pass,
        }
    });
    let enqueued = sleeper(&world, 1).await;

    let outcome = outcome(world.client(), &enqueued, Duration::from_secs(30)).await;
    assert_eq!((outcome.kind, outcome.attempt), (EventKind::Succeeded, 2));
    world.interceptor().let_pass();
    assert_all_free(&world, &mut worker).await;
}
