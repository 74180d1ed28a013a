//! Messages that the client library can't read at all: a header that is no UTF-8, or has no colon. The
//! server stores them from whoever may submit jobs, and a client that gets one drops its connection.

use std::time::Duration;

use repull_tests::{DEADLINE, World, all_settled, enqueue_all, eventually, job};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const UNREADABLE: [&[u8]; 2] = [b"Name: M\xfcller\r\n", b"no colon\r\n"];

/// The client library panics over it.
const DEADLY: &[u8] = b"A: b\rc\r\n";

/// Publishes by hand: no client library would write such headers.
async fn publish(world: &World, subject: &str, header: &[u8]) {
    let address = world.server_url().replace("nats://", "");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let headers = [b"NATS/1.0\r\n", header, b"\r\n"].concat();
    let line = format!(
        "CONNECT {{\"verbose\":false,\"headers\":true}}\r\nHPUB {subject} {} {}\r\n",
        headers.len(),
        headers.len() + 1
    );
    let text = [line.as_bytes(), &headers, b"1\r\nPING\r\n"].concat();
    stream.write_all(&text).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"PONG\r\n") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn jobs_behind_an_unreadable_one_run() {
    let world = World::start().await;
    let _scheduler = world.scheduler().start().await;
    let _ = world.cli(&["queue", "pause", "default"]).await.success();
    for (number, header) in UNREADABLE.into_iter().enumerate() {
        let subject = format!("{}.jobs.default.echo.bad-{number}", world.namespace());
        publish(&world, &subject, header).await;
    }
    let jobs = (0..20).map(|n| job("echo", &json!(n))).collect();
    enqueue_all(world.client(), jobs).await;
    let mut worker = world.worker().slots(50).start().await;
    let _ = world.cli(&["queue", "resume", "default"]).await.success();

    all_settled(world.client(), Duration::from_secs(60)).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_scheduler_starts_beside_an_unreadable_later_job() {
    let world = World::start().await;
    world.scheduler().start().await.stop().await;
    for (number, header) in UNREADABLE.iter().chain(&[DEADLY]).enumerate() {
        let subject = format!("{}.later.default.echo.bad-{number}", world.namespace());
        publish(&world, &subject, header).await;
    }
    let later =
        job("echo", &json!(1)).not_before(repull::clock::now() + Duration::from_millis(500));
    enqueue_all(world.client(), vec![later]).await;

    let mut scheduler = world.scheduler().spawn();

    eventually(DEADLINE, "it is ready", async || {
        let (status, _) = scheduler.http("/readyz").await;
        (status == 200).then_some(())
    })
    .await;
    let mut worker = world.worker().start().await;
    all_settled(world.client(), DEADLINE).await;
    let dead = world.cli(&["dead", "list", "--json"]).await.success();
    for reason in [
        "are not UTF-8",
        "header line `no colon`",
        "header line `A: b c`",
    ] {
        assert!(dead.stdout.contains(reason), "{reason}: {}", dead.stdout);
    }
    worker.stop().await;
    scheduler.stop().await;
}
