//! Servers that go away and come back: with their store, with an empty one, with open pulls, while
//! clients publish.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use repull::client::{Client, Enqueued};
use repull::wire::{EventKind, Place};
use repull_tests::{DEADLINE, World, WorldBuilder, enqueue_all, job_with_id, messages_in, outcome};
use serde_json::json;

use super::{
    assert_all_free, assert_each_succeeded_once, assert_never_too_many, assert_watchdog_rested,
    short_leases, sleeper, sleepers, wait_promised, wait_running, wait_status,
};

/// E-2, C-4. A server keeps waiting pulls in memory only: after its restart nobody waits there.
#[tokio::test]
async fn an_idle_worker_asks_again_after_a_server_restart() {
    let mut world = World::start().await;
    let mut worker = world.worker().slots(4).start().await;
    wait_promised(&mut worker, 4).await;

    for _ in 0..3 {
        world.server_mut().kill().await;
        wait_status(&mut worker, "/readyz", 503).await;
        world.server_mut().restart().await;
        let enqueued = sleeper(&world, 0).await;
        outcome(world.client(), &enqueued, DEADLINE).await;
    }

    assert_all_free(&world, &mut worker).await;
    assert_watchdog_rested(&mut worker).await;
}

/// E-2, A-4. The same in the middle of work: what runs goes on and is settled when the server is
/// back, and the backlog is worked off.
#[tokio::test]
async fn a_backlog_is_worked_off_after_a_server_restart() {
    let mut world = short_leases(World::builder()).await;
    let mut worker = world.worker().slots(4).start().await;
    let jobs = enqueue_all(world.client(), sleepers(200, 20)).await;
    wait_running(&mut worker, 4).await;

    world.server_mut().kill().await;
    world.server_mut().restart().await;

    let again = assert_each_succeeded_once(&world, &jobs, DEADLINE).await;
    // What was on its way when the connection broke: at most one pull's worth beside what ran.
    assert!(again <= 8, "{again} jobs took more than one attempt");
    assert_all_free(&world, &mut worker).await;
}

/// C-9, D-7. A server that comes back with nothing in its store knows no stream and no consumer: the
/// worker makes them again instead of asking for what is not there.
#[tokio::test]
async fn a_worker_makes_its_consumer_again_on_a_server_that_lost_everything() {
    let mut world = World::start().await;
    let mut worker = world.worker().slots(2).start().await;
    wait_promised(&mut worker, 2).await;

    world.server_mut().restart_empty().await;
    // It may be ready again before anybody has seen that it was not.
    worker
        .wait_for_metric("repull_worker_reconnects_total", "it is back", |n| n >= 1.0)
        .await;
    wait_status(&mut worker, "/readyz", 200).await;

    assert_all_free(&world, &mut worker).await;
}

/// Liveness is about the process, readiness about its way to the broker: an orchestrator must not
/// restart workers because a server is away.
#[tokio::test]
async fn liveness_stays_and_readiness_fails_while_the_server_is_away() {
    let mut world = World::start().await;
    let mut worker = world.worker().slots(1).start().await;

    world.server_mut().kill().await;
    wait_status(&mut worker, "/readyz", 503).await;
    let (alive, text) = worker.http("/healthz").await;
    assert_eq!(alive, 200, "{text}");
    let (_, text) = worker.http("/readyz").await;
    assert!(text.contains("not connected"), "{text}");
    assert_eq!(worker.metrics().await.value("repull_worker_connected"), 0.0);

    world.server_mut().restart().await;
    wait_status(&mut worker, "/readyz", 200).await;
    assert_all_free(&world, &mut worker).await;
}

/// Enqueues jobs one after the other, each until it is said to be stored, as a careful producer
/// does; answers them when told to end.
fn produce(client: Client, end: Arc<AtomicBool>) -> tokio::task::JoinHandle<Vec<Enqueued>> {
    tokio::spawn(async move {
        let mut stored = Vec::new();
        while !end.load(Ordering::Relaxed) {
            let job = job_with_id("echo", &json!(1), &format!("produced-{}", stored.len()));
            if let Ok(enqueued) = client.enqueue(job).await {
                stored.push(enqueued);
            }
        }
        stored
    })
}

/// Cuts the producer's connection a few times and lets `strike` do more; then every job must be
/// stored once.
async fn publish_across(builder: WorldBuilder, strike: impl AsyncFn(&mut World)) {
    let mut world = builder.proxied().start().await;
    let producer = world.connect_to(&world.url()).await;
    let end = Arc::new(AtomicBool::new(false));
    let producing = produce(producer, Arc::clone(&end));
    let more = async |world: &World, more: u64| {
        let before = messages_in(world.client(), Place::Jobs).await;
        repull_tests::eventually(DEADLINE, "more jobs are stored", async || {
            (messages_in(world.client(), Place::Jobs).await >= before + more).then_some(())
        })
        .await;
    };
    more(&world, 20).await;
    for _ in 0..3 {
        for proxy in world.proxies() {
            proxy.cut_once();
        }
        more(&world, 20).await;
    }
    strike(&mut world).await;
    more(&world, 20).await;
    end.store(true, Ordering::Relaxed);
    let jobs = producing.await.expect("the producer");

    assert_eq!(
        messages_in(world.client(), Place::Jobs).await,
        jobs.len() as u64,
        "each job that the producer was told of is there once, and no other"
    );
    let url = world.server_url();
    let mut worker = world.worker().url(&url).slots(16).start().await;
    let again = assert_each_succeeded_once(&world, &jobs, DEADLINE).await;
    assert_eq!(again, 0);
    assert_never_too_many(&mut worker).await;
}

/// What is published while the connection breaks, and while the server crashes, is stored once.
#[tokio::test]
async fn publishes_across_an_outage_are_stored_exactly_once() {
    publish_across(World::builder(), async |world| {
        world.server_mut().kill().await;
        world.server_mut().restart().await;
    })
    .await;
}

/// F-7. The same on three replicas, with a new leader in between: no confirmed job is lost, and none
/// is stored twice.
#[tokio::test]
async fn publishes_across_a_change_of_leaders_are_stored_exactly_once() {
    publish_across(World::builder().cluster(3), async |world| {
        world.cluster().step_down("REPULL_JOBS").await;
        let leader = world.cluster().stream_leader("REPULL_JOBS").await;
        world.cluster_mut().kill_node(leader).await;
        world.cluster_mut().restart_node(leader).await;
    })
    .await;
}

/// The outcome of a job that ends during an outage waits for the connection and is stored once.
#[tokio::test]
async fn a_job_that_ends_during_an_outage_has_one_outcome() {
    let world = World::builder().proxied().start().await;
    let mut worker = world.worker().slots(1).start().await;
    let enqueued = sleeper(&world, 300).await;
    wait_running(&mut worker, 1).await;

    world.proxy().cut();
    wait_running(&mut worker, 0).await;
    let settling = worker.metrics().await.value("repull_worker_settling");
    assert_eq!(settling, 1.0, "its outcome can't be told yet");
    world.proxy().restore();

    let outcome = outcome(world.client(), &enqueued, DEADLINE).await;
    assert_eq!((outcome.kind, outcome.attempt), (EventKind::Succeeded, 1));
    let again = assert_each_succeeded_once(&world, &[enqueued], DEADLINE).await;
    assert_eq!(again, 0);
    assert_all_free(&world, &mut worker).await;
}
