//! Every metric of a worker, in one table.
//!
//! The gauges of slots are read together from one snapshot, so that `running + promised` never
//! looks larger than the slots there are because a scrape fell between two updates.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use repull::id::TaskName;
use rustc_hash::FxHashMap;

use crate::engine::QueueIx;

/// A queue's lane, as a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct QueueLabel {
    pub(crate) queue: String,
}

/// A queue's lane and a task, as labels. The tasks are those the worker has handlers for, and
/// `unknown`, so that they are bounded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct TaskLabels {
    pub(crate) queue: String,
    pub(crate) task: String,
}

/// The same with how the attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OutcomeLabels {
    pub(crate) queue: String,
    pub(crate) task: String,
    pub(crate) outcome: &'static str,
}

/// What a pull was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StatusLabel {
    pub(crate) status: &'static str,
}

/// What the watchdog did.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ActionLabel {
    pub(crate) action: &'static str,
}

/// The slots and what they do, at one moment, and sums that belong to them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SlotStats {
    /// Slots there are.
    pub slots: u32,
    /// Slots with a running job.
    pub running: u32,
    /// Slots promised to open pulls.
    pub promised: u32,
    /// Ended jobs whose ack is not confirmed.
    pub settling: u32,
    /// Handlers that ignore their cancellation.
    pub stuck: u32,
    /// Whether the worker is ending.
    pub draining: bool,
    /// The most `running + promised` has ever been.
    pub held_max: u32,
    /// Time during which jobs were known to wait on the server.
    pub backlog: Duration,
    /// Slots times time, busy, while jobs were known to wait.
    pub backlog_busy: Duration,
    /// The longest that a free slot waited for its next job while jobs waited.
    pub refill_max: Duration,
    /// Jobs started.
    pub started: u64,
    /// When a job last arrived.
    pub last_delivery: Option<chrono::DateTime<chrono::Utc>>,
    /// Watchdog actions: new epochs, reconnects, exits.
    pub watchdog: [u64; 3],
}

impl SlotStats {
    /// Busy slots over all slots while a backlog existed, from 0 to 1; none where none existed.
    pub fn utilisation(&self) -> Option<f64> {
        let whole = self.backlog.as_secs_f64() * f64::from(self.slots);
        (whole > 0.0).then(|| self.backlog_busy.as_secs_f64() / whole)
    }
}

/// A worker's slots, readable while it runs.
#[derive(Clone, Debug, Default)]
pub struct SlotMonitor(Arc<Mutex<SlotStats>>);

impl SlotMonitor {
    /// The state at this moment.
    pub fn read(&self) -> SlotStats {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self, stats: SlotStats) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stats;
    }
}

impl Collector for SlotMonitor {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stats = self.read();
        let mut gauge = |name: &str, help: &str, value: i64| -> fmt::Result {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(
                name,
                help,
                None,
                prometheus_client::metrics::MetricType::Gauge,
            )?)
        };
        gauge("slots", "Slots of this worker", stats.slots.into())?;
        gauge(
            "slots_running",
            "Slots with a running job",
            stats.running.into(),
        )?;
        gauge(
            "slots_promised",
            "Slots promised to open pulls",
            stats.promised.into(),
        )?;
        gauge(
            "slots_held_max",
            "The most that running and promised slots have been together",
            stats.held_max.into(),
        )?;
        gauge(
            "settling",
            "Ended jobs whose ack is not confirmed yet",
            stats.settling.into(),
        )?;
        gauge(
            "stuck_handlers",
            "Handlers that ignore their cancellation",
            stats.stuck.into(),
        )?;
        gauge(
            "draining",
            "1 while the worker is ending",
            stats.draining.into(),
        )?;
        let mut seconds = |name: &str, help: &str, value: Duration| -> fmt::Result {
            let counter = ConstCounter::new(value.as_secs_f64());
            counter.encode(encoder.encode_descriptor(
                name,
                help,
                Some(&Unit::Seconds),
                prometheus_client::metrics::MetricType::Counter,
            )?)
        };
        seconds(
            "backlog",
            "Time during which jobs were known to wait on the server",
            stats.backlog,
        )?;
        seconds(
            "backlog_busy_slot",
            "Slots times time, busy, while jobs were known to wait",
            stats.backlog_busy,
        )?;
        for (action, count) in ["new_epoch", "reconnect", "exit"]
            .into_iter()
            .zip(stats.watchdog)
        {
            let counter = ConstCounter::new(count);
            let mut descriptor = encoder.encode_descriptor(
                "watchdog_actions",
                "What the watchdog had to do against a stall; 0 in health",
                None,
                prometheus_client::metrics::MetricType::Counter,
            )?;
            counter.encode(descriptor.encode_family(&ActionLabel { action })?)?;
        }
        Ok(())
    }
}

/// The metrics that are counted where things happen.
#[derive(Debug)]
pub(crate) struct Metrics {
    started: Family<TaskLabels, Counter>,
    finished: Family<OutcomeLabels, Counter>,
    wait_seconds: Family<QueueLabel, Histogram, fn() -> Histogram>,
    run_seconds: Family<QueueLabel, Histogram, fn() -> Histogram>,
    pulls: Family<QueueLabel, Counter>,
    pub(crate) refill_seconds: Histogram,
    pub(crate) statuses: Family<StatusLabel, Counter>,
    pub(crate) redeliveries: Counter,
    pub(crate) handed_back: Counter,
    pub(crate) leases_lost: Counter,
    pub(crate) connected: Gauge,
    pub(crate) reconnects: Counter,
    /// Those of each lane, looked up once.
    lanes: Vec<LaneMetrics>,
}

/// The metrics of one lane.
#[derive(Debug)]
pub(crate) struct LaneMetrics {
    name: String,
    pub(crate) wait_seconds: Histogram,
    pub(crate) run_seconds: Histogram,
    pub(crate) pulls: Counter,
    /// Started attempts by task, looked up once each.
    starts: FxHashMap<String, Counter>,
    /// Ended attempts by task and outcome, looked up once each.
    ends: FxHashMap<(Option<TaskName>, &'static str), Counter>,
}

fn wide() -> Histogram {
    Histogram::new([
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
        300.0, 1800.0, 7200.0,
    ])
}

impl Metrics {
    /// Registers all of them, with the slots, under `repull_worker`.
    pub(crate) fn register(registry: &mut Registry, slots: &SlotMonitor) -> Self {
        let registry = registry.sub_registry_with_prefix("repull_worker");
        registry.register_collector(Box::new(slots.clone()));
        let metrics = Self {
            started: Family::default(),
            finished: Family::default(),
            wait_seconds: Family::new_with_constructor(wide as fn() -> Histogram),
            run_seconds: Family::new_with_constructor(wide as fn() -> Histogram),
            refill_seconds: Histogram::new([
                0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                1.0, 2.5, 5.0, 10.0,
            ]),
            pulls: Family::default(),
            lanes: Vec::new(),
            statuses: Family::default(),
            redeliveries: Counter::default(),
            handed_back: Counter::default(),
            leases_lost: Counter::default(),
            connected: Gauge::default(),
            reconnects: Counter::default(),
        };
        registry.register("jobs_started", "Attempts started", metrics.started.clone());
        registry.register(
            "jobs_finished",
            "Attempts ended, by how",
            metrics.finished.clone(),
        );
        registry.register_with_unit(
            "job_wait",
            "From the moment a job was stored on its queue to the start of its attempt, by the server's and this clock",
            Unit::Seconds,
            metrics.wait_seconds.clone(),
        );
        registry.register_with_unit(
            "job_run",
            "How long attempts ran",
            Unit::Seconds,
            metrics.run_seconds.clone(),
        );
        registry.register_with_unit(
            "slot_refill",
            "From a slot coming free while jobs wait to the start of the next job",
            Unit::Seconds,
            metrics.refill_seconds.clone(),
        );
        registry.register("pulls", "Pulls sent", metrics.pulls.clone());
        registry.register(
            "pull_statuses",
            "Answers to pulls that were no job",
            metrics.statuses.clone(),
        );
        registry.register(
            "redeliveries",
            "Jobs that had been delivered before",
            metrics.redeliveries.clone(),
        );
        registry.register(
            "handed_back",
            "Jobs given back to the queue",
            metrics.handed_back.clone(),
        );
        registry.register(
            "leases_lost",
            "Jobs whose lease ran out while they ran here",
            metrics.leases_lost.clone(),
        );
        registry.register(
            "connected",
            "1 while connected to NATS",
            metrics.connected.clone(),
        );
        registry.register(
            "reconnects",
            "Times the connection to NATS came back",
            metrics.reconnects.clone(),
        );
        metrics
    }

    /// Looks the metrics of the lanes up, in the engine's order.
    pub(crate) fn bind<'l>(&mut self, lanes: impl Iterator<Item = &'l String>) {
        let of = |name: &String| {
            let label = QueueLabel {
                queue: name.clone(),
            };
            LaneMetrics {
                name: name.clone(),
                wait_seconds: self.wait_seconds.get_or_create(&label).clone(),
                run_seconds: self.run_seconds.get_or_create(&label).clone(),
                pulls: self.pulls.get_or_create(&label).clone(),
                starts: FxHashMap::default(),
                ends: FxHashMap::default(),
            }
        };
        self.lanes = lanes.map(of).collect();
    }

    /// The metrics of one lane.
    pub(crate) fn lane(&self, queue: QueueIx) -> Option<&LaneMetrics> {
        self.lanes.get(usize::from(queue.0))
    }

    /// Counts an attempt that starts. `is_known` says whether there is a handler for the task here:
    /// those without share a label, so that the labels are bounded.
    pub(crate) fn count_start(
        &mut self,
        queue: QueueIx,
        task: &str,
        is_known: impl FnOnce() -> bool,
    ) {
        let Some(lane) = self.lanes.get_mut(usize::from(queue.0)) else {
            return;
        };
        if let Some(counter) = lane.starts.get(task) {
            counter.inc();
            return;
        }
        let known = is_known();
        let task = if known { task } else { "unknown" }.to_owned();
        let labels = TaskLabels {
            queue: lane.name.clone(),
            task: task.clone(),
        };
        let counter = self.started.get_or_create(&labels).clone();
        counter.inc();
        if known {
            lane.starts.insert(task, counter);
        }
    }

    /// Counts an attempt that is over; none stands for a task without a handler here.
    pub(crate) fn count_end(
        &mut self,
        queue: QueueIx,
        task: Option<&TaskName>,
        outcome: &'static str,
    ) {
        let Some(lane) = self.lanes.get_mut(usize::from(queue.0)) else {
            return;
        };
        let ended = lane
            .ends
            .entry((task.cloned(), outcome))
            .or_insert_with(|| {
                let task = task.map_or("unknown", TaskName::as_str).to_owned();
                let labels = OutcomeLabels {
                    queue: lane.name.clone(),
                    task,
                    outcome,
                };
                self.finished.get_or_create(&labels).clone()
            });
        ended.inc();
    }
}
