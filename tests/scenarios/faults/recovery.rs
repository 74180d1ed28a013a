//! How long it takes until work goes on after a fault: measured and printed, for the table in
//! `docs/TESTING.md`. Ignored by default, since a figure is no verdict:
//! `cargo test -p repull-tests --test scenarios faults::recovery -- --ignored --nocapture --test-threads 1`

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use repull::client::Enqueued;
use repull::wire::{EventKind, Place};
use repull_tests::{DEADLINE, World, enqueue_all, events, eventually, messages_in};

use super::{assert_each_succeeded_once, sleepers, wait_running};

/// What is enqueued in each case, and what each job takes.
const JOBS: usize = 600;
const JOB_MS: u64 = 50;
const SLOTS: u32 = 8;

/// A load under way.
struct Load {
    jobs: Vec<Enqueued>,
}

impl Load {
    async fn start(world: &World) -> Self {
        let jobs = enqueue_all(world.client(), sleepers(JOBS, JOB_MS)).await;
        eventually(DEADLINE, "the load is under way", async || {
            let left = messages_in(world.client(), Place::Jobs).await;
            (left < (JOBS - JOBS / 10) as u64).then_some(())
        })
        .await;
        Self { jobs }
    }

    /// Waits for the end and prints what the outcomes say: when the next job started after the fault,
    /// when the last job that had to run again did so, and how many those were.
    async fn report(self, world: &World, fault: &str, at: DateTime<Utc>) {
        assert_each_succeeded_once(world, &self.jobs, Duration::from_secs(180)).await;
        let events = events(world.client()).await;
        let after = |event: &&repull::wire::JobEvent| event.started_at.is_some_and(|it| it > at);
        let outcomes: Vec<_> = events
            .values()
            .flatten()
            .filter(|event| event.kind == EventKind::Succeeded)
            .collect();
        let seconds =
            |started: Option<DateTime<Utc>>| started.map(|started| (started - at).as_seconds_f64());
        let next = outcomes
            .iter()
            .copied()
            .filter(after)
            .filter_map(|event| event.started_at)
            .min();
        let again: Vec<_> = outcomes.iter().filter(|event| event.attempt > 1).collect();
        let last_again = again.iter().filter_map(|event| event.started_at).max();
        let pause = longest_pause(outcomes.iter().filter_map(|event| event.started_at), at);
        println!(
            "{fault}: next start after {:.2} s, longest pause between starts {pause:.2} s, \
             {} jobs ran again, the last after {:.2} s, lost {}, outcomes twice 0",
            seconds(next).unwrap_or(f64::NAN),
            again.len(),
            seconds(last_again).unwrap_or(0.0),
            JOBS - outcomes.len(),
        );
    }
}

/// The longest time without a start, from the fault on.
fn longest_pause(starts: impl Iterator<Item = DateTime<Utc>>, at: DateTime<Utc>) -> f64 {
    let starts: BTreeSet<_> = starts.filter(|start| *start > at).collect();
    let mut before = at;
    let mut longest = 0.0_f64;
    for start in starts {
        longest = longest.max((start - before).as_seconds_f64());
        before = start;
    }
    longest
}

/// A worker is killed; another one is there. The lease is the default one.
#[tokio::test]
#[ignore = "measures"]
async fn worker_killed() {
    let world = World::start().await;
    let mut killed = world.worker().slots(SLOTS).start().await;
    let mut other = world.worker().slots(SLOTS).start().await;
    let load = Load::start(&world).await;
    wait_running(&mut other, SLOTS).await;
    let at = Utc::now();
    killed.kill().await;
    load.report(&world, "worker SIGKILL", at).await;
}

/// The server is killed and started again at once.
#[tokio::test]
#[ignore = "measures"]
async fn server_restarted() {
    let mut world = World::start().await;
    let _worker = world.worker().slots(SLOTS).start().await;
    let load = Load::start(&world).await;
    let at = Utc::now();
    let started = Instant::now();
    world.server_mut().kill().await;
    world.server_mut().restart().await;
    let away = started.elapsed().as_secs_f64();
    load.report(
        &world,
        &format!("server killed and back after {away:.2} s"),
        at,
    )
    .await;
}

/// The leaders of the stream and of the consumer step down.
#[tokio::test]
#[ignore = "measures"]
async fn leaders_step_down() {
    let world = World::builder().cluster(3).start().await;
    let _worker = world.worker().slots(SLOTS).start().await;
    let load = Load::start(&world).await;
    let at = Utc::now();
    world.cluster().step_down("REPULL_JOBS").await;
    world
        .cluster()
        .consumer_step_down("REPULL_JOBS", "default")
        .await;
    load.report(&world, "stream and consumer leader step down, R3", at)
        .await;
}

/// The node that leads the stream is killed.
#[tokio::test]
#[ignore = "measures"]
async fn leader_killed() {
    let mut world = World::builder().cluster(3).start().await;
    let _worker = world.worker().slots(SLOTS).start().await;
    let load = Load::start(&world).await;
    let leader = world.cluster().stream_leader("REPULL_JOBS").await;
    let at = Utc::now();
    world.cluster_mut().kill_node(leader).await;
    load.report(&world, "stream leader SIGKILL, R3", at).await;
}

/// A worker's network is gone for 30 s, twice its lease; another worker goes on.
#[tokio::test]
#[ignore = "measures"]
async fn worker_partitioned() {
    let world = World::builder().proxied().start().await;
    let _cut_off = world.worker().slots(SLOTS).start().await;
    let url = world.server_url();
    let _other = world.worker().url(&url).slots(SLOTS).start().await;
    let load = Load::start(&world).await;
    let at = Utc::now();
    world.proxy().stall();
    tokio::time::sleep(Duration::from_secs(30)).await;
    world.proxy().restore();
    load.report(&world, "worker partitioned for 30 s", at).await;
}

/// A worker is frozen for longer than its lease; another worker goes on.
#[tokio::test]
#[ignore = "measures"]
async fn worker_frozen() {
    let world = World::start().await;
    let mut frozen = world.worker().slots(SLOTS).start().await;
    let _other = world.worker().slots(SLOTS).start().await;
    let load = Load::start(&world).await;
    let at = Utc::now();
    frozen.pause();
    tokio::time::sleep(Duration::from_secs(20)).await;
    frozen.resume();
    load.report(&world, "worker SIGSTOP for 20 s", at).await;
}
