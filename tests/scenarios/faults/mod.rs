//! Faults: every way in which a worker has been seen to stop fetching, to leak a slot, to lose a job
//! or to run one twice, provoked on real servers.
//!
//! The catalogue behind the ids (`A-1` to `F-8`) is in `docs/TESTING.md`, with the test of each line
//! or the reason why it can't happen here. What is checked is seen from outside only: metrics and
//! health over HTTP, the broker's numbers, the stored outcomes.

mod answers;
mod broker;
mod connection;
mod dead;
mod exits;
mod handover;
mod leases;
mod limits;
mod outages;
mod pulls;
mod recovery;
mod settling;
mod stuck;
mod wakeups;

use std::time::Duration;

use async_nats::jetstream::consumer::Info;
use repull::client::Enqueued;
use repull::id::{Lane, QueueName};
use repull::topology::{Layout, Topology};
use repull::wire::EventKind;
use repull_tests::{
    DEADLINE, Message, Process, World, WorldBuilder, all_settled, assert_outcomes, enqueue_all,
    events, eventually, job, outcome,
};
use serde_json::json;

/// The lease of jobs in tests that wait for its end.
const LEASE: Duration = Duration::from_secs(2);

/// A pull of the queue `default`.
const PULLS: &str = "$JS.API.CONSUMER.MSG.NEXT.REPULL_JOBS.default";

/// Starts a world whose queue `default` has a short lease.
pub(crate) async fn short_leases(builder: WorldBuilder) -> World {
    let world = builder.start().await;
    make_consumer(&world, |_| {}).await;
    world
}

/// Makes the consumer of the queue `default` with a short lease and what `change` does to it.
async fn make_consumer(
    world: &World,
    change: impl FnOnce(&mut async_nats::jetstream::consumer::pull::Config),
) {
    let layout = Layout {
        ack_wait: LEASE,
        ..Layout::default()
    };
    let topology = Topology::new(world.client().namespace().clone(), layout);
    let mut config = topology.consumer(&Lane::normal(QueueName::default()), None);
    change(&mut config);
    world
        .jetstream()
        .create_consumer_on_stream(config, "REPULL_JOBS")
        .await
        .expect("the queue's consumer");
}

/// The broker's numbers of the queue `default`.
async fn numbers(world: &World) -> Info {
    let lane = Lane::normal(QueueName::default());
    let info = world.client().lane_info(&lane).await;
    info.expect("the consumer's numbers").expect("a consumer")
}

/// Waits until that many jobs run in the worker.
pub(crate) async fn wait_running(worker: &mut Process, count: u32) {
    let what = format!("{count} jobs run");
    worker
        .wait_for_metric("repull_worker_slots_running", &what, |running| {
            running == f64::from(count)
        })
        .await;
}

/// Waits until that many slots of the worker are promised to open pulls.
async fn wait_promised(worker: &mut Process, count: u32) {
    let what = format!("{count} slots are promised");
    worker
        .wait_for_metric("repull_worker_slots_promised", &what, |promised| {
            promised == f64::from(count)
        })
        .await;
}

/// Asserts that no slot is in use, that nothing is left to settle, and that the worker still works.
async fn assert_all_free(world: &World, worker: &mut Process) {
    wait_running(worker, 0).await;
    worker
        .wait_for_metric("repull_worker_settling", "nothing is being settled", |n| {
            n == 0.0
        })
        .await;
    let slots = worker.metrics().await.value("repull_worker_slots");
    let probes = (0..2 * slots as usize).map(|n| job("echo", &json!(n)));
    for enqueued in enqueue_all(world.client(), probes.collect()).await {
        let outcome = outcome(world.client(), &enqueued, DEADLINE).await;
        assert_eq!(outcome.kind, EventKind::Succeeded);
    }
    wait_running(worker, 0).await;
    assert_never_too_many(worker).await;
}

/// Asserts that the worker never ran and asked for more jobs together than it has slots.
async fn assert_never_too_many(worker: &mut Process) {
    let metrics = worker.metrics().await;
    let (held, slots) = (
        metrics.value("repull_worker_slots_held_max"),
        metrics.value("repull_worker_slots"),
    );
    assert!(held <= slots, "{held} of {slots} slots were held");
}

/// Asserts that the watchdog had nothing to do.
async fn assert_watchdog_rested(worker: &mut Process) {
    let metrics = worker.metrics().await;
    assert_eq!(metrics.value("repull_worker_watchdog_actions_total"), 0.0);
}

/// Waits until every job is done, and asserts that each has exactly one outcome, a success. Answers
/// how many took more than one attempt.
async fn assert_each_succeeded_once(world: &World, jobs: &[Enqueued], within: Duration) -> usize {
    all_settled(world.client(), within).await;
    let events = events(world.client()).await;
    let ids: Vec<String> = jobs.iter().map(|job| job.address.id.to_string()).collect();
    assert_outcomes(&events, &ids, EventKind::Succeeded);
    let again = |event: &&repull::wire::JobEvent| event.attempt > 1;
    events.values().flatten().filter(again).count()
}

/// That many jobs that sleep so long.
fn sleepers(count: usize, ms: u64) -> Vec<repull::job::Job> {
    (0..count)
        .map(|_| job("sleep", &json!({"ms": ms})))
        .collect()
}

/// Enqueues one job of the built-in task `sleep`.
async fn sleeper(world: &World, ms: u64) -> Enqueued {
    let job = job("sleep", &json!({"ms": ms}));
    world.client().enqueue(job).await.expect("a stored job")
}

/// Waits for a status of an HTTP page.
async fn wait_status(worker: &mut Process, path: &str, status: u16) {
    let address = worker.http_address().await;
    let what = format!("{path} answers {status}");
    eventually(DEADLINE, &what, async || {
        let (found, _) = repull_tests::get(&address, path).await.ok()?;
        (found == status).then_some(())
    })
    .await;
}

/// The stream sequence that an ack is about.
fn sequence_of_ack(ack: &Message) -> Option<u64> {
    let numbers: Vec<&str> = ack.subject.split('.').collect();
    // `$JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>…`, or two tokens more before those.
    let at = if numbers.len() == 9 { 5 } else { 7 };
    numbers.get(at)?.parse().ok()
}
