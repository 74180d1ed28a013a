//! Connections that are dead without an error, come back at the wrong moment, or come back again and
//! again.

use std::time::{Duration, Instant};

use repull_tests::{DEADLINE, Proxy, World, enqueue_all, outcome};

use super::{
    assert_all_free, assert_each_succeeded_once, short_leases, sleeper, sleepers, wait_promised,
    wait_running, wait_status,
};

/// How soon a dead peer must be noticed.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);

/// Lets the network go silent by `stall` with `busy` jobs running, and waits until the worker says
/// so; then the network is well again, and the worker must be, too.
async fn half_open(stall: fn(&Proxy), busy: usize) {
    let world = short_leases(World::builder().proxied()).await;
    let mut worker = world.worker().slots(4).start().await;
    let running = enqueue_all(world.client(), sleepers(busy, 600_000)).await;
    wait_running(&mut worker, u32::try_from(busy).unwrap()).await;
    wait_promised(&mut worker, u32::try_from(4 - busy).unwrap()).await;

    stall(world.proxy());
    let waiting = sleeper(&world, 1).await;
    let started = Instant::now();
    wait_status(&mut worker, "/readyz", 503).await;
    let noticed = started.elapsed();
    assert!(noticed < NOTICED_WITHIN, "it took {noticed:?}");
    let (alive, _) = worker.http("/healthz").await;
    assert_eq!(alive, 200);

    for job in &running {
        let cancelled = world.client().cancel(&job.address.id, "enough").await;
        cancelled.unwrap();
    }
    world.proxy().restore();
    outcome(world.client(), &waiting, DEADLINE).await;
    assert_all_free(&world, &mut worker).await;
}

/// A-2, C-2, C-7. An idle worker on a connection that carries nothing notices within seconds.
#[tokio::test]
async fn a_half_open_connection_is_noticed_by_an_idle_worker() {
    half_open(Proxy::stall, 0).await;
}

/// C-1. So does one that writes all the time: what it sends is no sign of life of the other side.
#[tokio::test]
async fn a_half_open_connection_is_noticed_by_a_busy_worker() {
    half_open(Proxy::stall, 3).await;
}

/// Nothing comes, but everything goes: jobs are given to a worker that never sees them.
#[tokio::test]
async fn a_connection_that_only_carries_away_from_the_worker_is_noticed() {
    half_open(Proxy::stall_to_client, 0).await;
}

/// A server that is frozen (SIGSTOP) is a half-open connection too; it wakes with everything it had.
#[tokio::test]
async fn a_frozen_server_is_waited_out() {
    let mut world = short_leases(World::builder()).await;
    let mut worker = world.worker().slots(4).start().await;
    let jobs = enqueue_all(world.client(), sleepers(100, 20)).await;
    wait_running(&mut worker, 4).await;

    world.server_mut().pause();
    wait_running(&mut worker, 0).await;
    world.server_mut().resume();

    assert_each_succeeded_once(&world, &jobs, DEADLINE).await;
    assert_all_free(&world, &mut worker).await;
}

/// A-4, C-4. Jobs that come while the connection is gone are found when it is back, each time.
#[tokio::test]
async fn a_backlog_that_grew_during_an_outage_is_worked_off() {
    let world = World::builder().proxied().start().await;
    let mut worker = world.worker().slots(2).start().await;
    for _ in 0..4 {
        wait_promised(&mut worker, 2).await;
        world.proxy().cut();
        world.proxy().wait_for_connections(0).await;
        let jobs = enqueue_all(world.client(), sleepers(20, 1)).await;
        world.proxy().restore();
        let again = assert_each_succeeded_once(&world, &jobs, DEADLINE).await;
        assert_eq!(again, 0);
    }
    assert_all_free(&world, &mut worker).await;
}

/// C-5. The connection breaks again while it is being made again, many times over.
#[tokio::test]
async fn a_connection_that_breaks_while_it_comes_back_comes_back_in_the_end() {
    let world = short_leases(World::builder().proxied()).await;
    let mut worker = world.worker().slots(4).start().await;
    let jobs = enqueue_all(world.client(), sleepers(400, 10)).await;
    for _ in 0..10 {
        let accepted = world.proxy().accepted();
        repull_tests::eventually(DEADLINE, "the worker connects again", async || {
            // Each look breaks what has come so far, be it a connection or half a greeting.
            world.proxy().cut_once();
            (world.proxy().accepted() > accepted).then_some(())
        })
        .await;
    }
    assert_each_succeeded_once(&world, &jobs, DEADLINE).await;
    assert_all_free(&world, &mut worker).await;
}
