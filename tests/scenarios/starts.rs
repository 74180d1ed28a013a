//! Workers and schedulers that are there before what they need: they wait, say for what, and do not wait
//! for ever.

use std::time::{Duration, Instant};

use repull_tests::{
    Binary, DEADLINE, NatsServer, Process, World, enqueue_all, eventually, get, job, outcome,
};
use serde_json::json;

/// A process at an address where nothing listens any more.
async fn without_server(binary: Binary, arguments: &[&str]) -> (NatsServer, Process) {
    let mut server = NatsServer::start().await;
    server.kill().await;
    let process = Process::builder(binary)
        .env("NATS_URL", server.url())
        .env("REPULL_HTTP", "127.0.0.1:0")
        .args(arguments);
    (server, process.spawn())
}

async fn worker_without_server(arguments: &[&str]) -> (NatsServer, Process) {
    without_server(Binary::Worker, arguments).await
}

/// In a cluster that starts as a whole it must not be restarted with growing pauses meanwhile.
#[tokio::test]
async fn a_scheduler_waits_for_the_server_alive_and_not_ready() {
    let (mut server, mut scheduler) = without_server(Binary::Scheduler, &[]).await;
    scheduler.wait_for_line("can't start yet", DEADLINE).await;
    let (status, reason) = scheduler.http("/readyz").await;
    assert_eq!(status, 503);
    assert!(
        reason.starts_with("starting: no connection to NATS"),
        "{reason}"
    );
    assert_eq!(scheduler.http("/healthz").await.0, 200);
    let metrics = scheduler.metrics().await;
    assert_eq!(metrics.value("repull_scheduler_leader"), 0.0);

    server.restart().await;

    scheduler.wait_until_ready().await;
    scheduler
        .wait_for_metric("repull_scheduler_leader", "it leads", |n| n == 1.0)
        .await;
    scheduler.stop().await;
}

#[tokio::test]
async fn a_scheduler_that_waits_ends_with_the_reason_or_when_it_is_asked_to() {
    let (_server, mut scheduler) =
        without_server(Binary::Scheduler, &["--start-timeout", "1s"]).await;
    let status = scheduler.wait_exit(DEADLINE).await;
    assert_eq!(status.code(), Some(1));
    let log = scheduler.stderr();
    for part in ["could not start within 1 s", "no connection to NATS at"] {
        assert!(log.contains(part), "no `{part}` in\n{log}");
    }

    let (_server, mut scheduler) = without_server(Binary::Scheduler, &[]).await;
    scheduler.wait_for_line("can't start yet", DEADLINE).await;
    scheduler.terminate();
    assert!(scheduler.wait_exit(DEADLINE).await.success());
}

#[tokio::test]
async fn a_worker_waits_for_the_server_alive_and_not_ready() {
    let (mut server, mut worker) = worker_without_server(&[]).await;
    let address = worker.http_address().await;
    let said = "/readyz says what is waited for";
    let reason = eventually(DEADLINE, said, async || {
        let (status, body) = get(&address, "/readyz").await.ok()?;
        assert_eq!(status, 503);
        body.contains("no connection to NATS").then_some(body)
    })
    .await;
    assert!(reason.starts_with("starting: "), "{reason}");
    assert_eq!(worker.http("/healthz").await.0, 200);
    assert_eq!(worker.metrics().await.value("repull_worker_connected"), 0.0);

    server.restart().await;

    worker.wait_until_ready().await;
    assert_eq!(worker.metrics().await.value("repull_worker_connected"), 1.0);
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_that_waits_ends_with_the_reason_when_its_patience_is_over() {
    let (_server, mut worker) = worker_without_server(&["--start-timeout", "1s"]).await;

    let status = worker.wait_exit(DEADLINE).await;

    assert_eq!(status.code(), Some(1));
    let log = worker.stderr();
    for part in ["could not start within 1 s", "no connection to NATS at"] {
        assert!(log.contains(part), "no `{part}` in\n{log}");
    }
}

#[tokio::test]
async fn a_worker_that_waits_ends_at_once_when_it_is_asked_to() {
    let (_server, mut worker) = worker_without_server(&[]).await;
    worker.wait_for_line("can't start yet", DEADLINE).await;
    let asked = Instant::now();

    worker.stop().await;

    assert!(asked.elapsed() < Duration::from_secs(30));
}

/// In a cluster whoever is first makes the streams, with as many copies as it was told.
#[tokio::test]
async fn a_worker_that_is_first_in_a_cluster_makes_streams_with_their_copies() {
    let world = World::builder().cluster(3).without_topology().start().await;
    let mut worker = world.worker().env("REPULL_REPLICAS", "3").start().await;

    let client = world.connect().await;
    for stream in ["REPULL_JOBS", "REPULL_LATER", "KV_REPULL_SCHEDULES"] {
        let stream = client.jetstream().get_stream(stream).await.unwrap();
        let config = &stream.cached_info().config;
        assert_eq!(config.num_replicas, 3, "{}", config.name);
    }
    let enqueued = enqueue_all(&client, vec![job("echo", &json!(1))]).await;
    outcome(&client, &enqueued[0], DEADLINE).await;
    worker.stop().await;
}
