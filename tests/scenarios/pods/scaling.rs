//! A pool of real workers that an autoscaler drives up and down by the shipped formula.
//!
//! No cluster is needed to see whether the formula and the drains get along: the backlog is read
//! where KEDA reads it, from the server's monitoring, and pods end as a kubelet ends them.

use std::time::{Duration, Instant};

use repull::client::Enqueued;
use repull_tests::{DEADLINE, World, enqueue_all, events, eventually, job, messages_in};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::keda::{Autoscaler, Policy};
use super::{Ended, Pod, assert_all_succeeded, assert_drained, run_again};

/// How much faster the test's clock goes than the manifest's.
const FASTER: u32 = 120;

const SLOTS: u32 = 8;
const REPLICAS_MAX: u32 = 5;

/// What the pool has done, told when it is stopped.
#[derive(Default)]
struct Report {
    /// Its sizes, in order, each once in a row.
    sizes: Vec<u32>,
    ended: Vec<Ended>,
    /// Slots that were busy, and that there were, summed over the looks at which jobs waited.
    busy: u64,
    offered: u64,
    /// Slot seconds from the start to the removal of each pod.
    paid: f64,
}

/// A pool and the controllers that own its size.
struct Pool<'a> {
    world: &'a World,
    pods: Vec<(Pod, Instant)>,
    ending: Vec<JoinHandle<Ended>>,
    report: Report,
}

impl Pool<'_> {
    /// Follows the autoscaler until `stop`, then waits for the last pods to end.
    async fn drive(mut self, policy: Policy, stop: CancellationToken) -> Report {
        let started = Instant::now();
        let mut scaler = Autoscaler::new(policy);
        let mut poll = tokio::time::interval(policy.polling);
        loop {
            tokio::select! {
                _ = poll.tick() => {}
                () = stop.cancelled() => break,
            }
            let backlog = Backlog::read(self.world).await;
            let current = u32::try_from(self.pods.len()).expect("a handful of pods");
            if backlog.waiting > 0 {
                let slots = u64::from(current * SLOTS);
                // A job whose ack is on its way counts as running, and has left its slot.
                self.report.busy += backlog.running.min(slots);
                self.report.offered += slots;
            }
            let size = scaler.decide(started.elapsed(), backlog.lag(), current);
            self.resize(size).await;
        }
        self.resize(0).await;
        for pod in self.ending {
            let ended = pod.await.expect("a pod that ends");
            self.report.ended.push(ended);
        }
        self.report
    }

    async fn resize(&mut self, size: u32) {
        if self.report.sizes.last() != Some(&size) {
            self.report.sizes.push(size);
        }
        let size = size as usize;
        while self.pods.len() < size {
            self.pods
                .push((Pod::worker(self.world, SLOTS).await, Instant::now()));
        }
        // Nobody chooses the victim by what it runs; here it is the oldest.
        let surplus = self.pods.len().saturating_sub(size);
        for (pod, since) in self.pods.drain(..surplus) {
            let report = &mut self.report;
            report.paid += since.elapsed().as_secs_f64() * f64::from(SLOTS);
            self.ending.push(tokio::spawn(pod.delete()));
        }
    }
}

/// The jobs of the queue `default`.
struct Backlog {
    waiting: u64,
    running: u64,
}

impl Backlog {
    /// Reads it where KEDA's trigger does.
    async fn read(world: &World) -> Self {
        let page = "/jsz?acc=$G&consumers=true&config=true";
        let answer = world.server().monitoring(page).await;
        let parts = |of: &Value, list: &str| of[list].as_array().cloned().unwrap_or_default();
        let streams = parts(&answer["account_details"][0], "stream_detail");
        let jobs = streams
            .iter()
            .find(|stream| stream["name"] == "REPULL_JOBS");
        let consumers = parts(jobs.expect("the stream of jobs"), "consumer_detail");
        let consumer = consumers
            .iter()
            .find(|consumer| consumer["name"] == "default");
        let consumer = consumer.expect("the consumer that the scheduler makes");
        let count = |field: &str| consumer[field].as_u64().expect("a number");
        Self {
            waiting: count("num_pending"),
            running: count("num_ack_pending"),
        }
    }

    /// What the trigger makes of it: running jobs count.
    fn lag(&self) -> u64 {
        self.waiting + self.running
    }
}

/// Enqueues a job for each of these lengths and waits until all of them are done.
async fn burst(world: &World, lengths_ms: impl Iterator<Item = u64>) -> Vec<Enqueued> {
    let jobs = lengths_ms.map(|ms| job("sleep", &json!({"ms": ms})));
    let enqueued = enqueue_all(world.client(), jobs.collect()).await;
    eventually(2 * DEADLINE, "the burst is worked off", async || {
        (messages_in(world.client(), repull::wire::Place::Jobs).await == 0).then_some(())
    })
    .await;
    enqueued
}

/// Waits until no worker is listed any more.
async fn asleep(world: &World) {
    eventually(DEADLINE, "the pool is asleep", async || {
        world
            .client()
            .workers()
            .await
            .ok()?
            .is_empty()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_pool_scales_to_its_backlog_and_to_zero_and_loses_nothing() {
    let world = World::start().await;
    // As the scheduler does: with no worker there, there must be a consumer to read.
    let scheduler = Pod::scheduler(&world).await;
    let policy = Policy {
        lag_threshold: SLOTS,
        replicas_max: REPLICAS_MAX,
        ..Policy::shipped().faster(FASTER)
    };
    let stop = CancellationToken::new();
    let pool = Pool {
        world: &world,
        pods: Vec::new(),
        ending: Vec::new(),
        report: Report::default(),
    };
    let load = async {
        let mut jobs = burst(&world, (0..600).map(|n| 100 + n % 7 * 25)).await;
        asleep(&world).await;
        jobs.extend(burst(&world, [50].into_iter()).await);
        // The pool shrinks while the long ones of this burst still run, longer than a drain.
        let long = |n| if n % 5 == 0 { 6_000 } else { 400 };
        jobs.extend(burst(&world, (0..40).map(long)).await);
        asleep(&world).await;
        stop.cancel();
        jobs
    };
    let (report, jobs) = tokio::join!(pool.drive(policy, stop.clone()), load);
    assert_drained(&scheduler.delete().await);

    let events = events(world.client()).await;
    assert_all_succeeded(&events, &jobs);
    assert_eq!(run_again(&events), 0, "a drain used up attempts");
    report.ended.iter().for_each(assert_drained);
    let sizes = &report.sizes;
    assert!(
        sizes.contains(&REPLICAS_MAX),
        "never at its maximum: {sizes:?}"
    );
    let asleep = sizes.iter().filter(|size| **size == 0).count();
    assert!(asleep >= 2, "was not at zero in between: {sizes:?}");
    // Each job started once, but for those that a drain handed back.
    let started: usize = report.ended.iter().filter_map(|ended| ended.started).sum();
    let surplus = started - jobs.len();
    let slots = SLOTS as usize * report.ended.len();
    assert!(surplus <= slots, "{surplus} starts more than jobs");
    let utilisation = report.busy as f64 / report.offered as f64;
    let slowest = report.ended.iter().map(|ended| ended.took).max();
    println!(
        "{} jobs by a pool of the sizes {sizes:?}: {:.1} % of the slots busy while jobs waited, \
         {:.1} % of all slot seconds, {surplus} handed back, the slowest drain took {:.1?}",
        jobs.len(),
        100.0 * utilisation,
        100.0 * job_seconds(&events) / report.paid,
        slowest.unwrap_or(Duration::ZERO),
    );
    assert!(utilisation > 0.7, "slots idled beside a backlog");
}

/// The time that attempts took, summed up.
fn job_seconds(events: &std::collections::HashMap<String, Vec<repull::wire::JobEvent>>) -> f64 {
    let outcomes = events.values().flatten();
    outcomes
        .filter_map(|event| (event.at - event.started_at?).to_std().ok())
        .map(|ran| ran.as_secs_f64())
        .sum()
}
