//! How well the slots are used: counted by the loop as it turns.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use repull::id::TaskName;
use repull::wire::EventKind;

use super::{Driver, Moment};
use crate::delivery::Delivery;
use crate::engine::{QueueIx, Snapshot, Verdict};
use crate::metrics::{SlotMonitor, SlotStats};

/// Sums up slots over time, and measures how long free ones wait.
pub(super) struct SlotClock {
    monitor: SlotMonitor,
    stats: SlotStats,
    updated: Instant,
    /// Jobs were known to wait at the end of the last turn.
    waiting: bool,
    /// The same, and the worker wants them.
    backlog: bool,
    /// When slots came free that have no next job yet, while jobs were known to wait.
    freed: VecDeque<Instant>,
}

impl SlotClock {
    pub(super) fn new(monitor: SlotMonitor, slots: u32) -> Self {
        let stats = SlotStats {
            slots,
            ..SlotStats::default()
        };
        Self {
            monitor,
            stats,
            updated: Instant::now(),
            waiting: false,
            backlog: false,
            freed: VecDeque::new(),
        }
    }

    /// Takes the engine's state at the end of a turn.
    pub(super) fn update(&mut self, snapshot: &Snapshot) {
        let now = Instant::now();
        let passed = now.duration_since(self.updated);
        self.updated = now;
        let stats = &mut self.stats;
        if self.backlog {
            stats.backlog += passed;
            stats.backlog_busy += passed * stats.running;
        }
        stats.running = snapshot.running;
        stats.promised = snapshot.promised;
        stats.settling = snapshot.settling;
        stats.stuck = snapshot.stuck;
        stats.draining = snapshot.draining;
        stats.held_max = stats.held_max.max(snapshot.running + snapshot.promised);
        let counters = &snapshot.counters;
        stats.watchdog = [
            counters.watchdog_new_epochs,
            counters.watchdog_reconnects,
            counters.watchdog_exits,
        ];
        self.waiting = has_backlog(snapshot);
        self.backlog = self.waiting && !snapshot.draining;
        if !self.backlog {
            self.freed.clear();
        }
        self.monitor.write(self.stats);
    }

    /// A slot came free.
    pub(super) fn freed(&mut self, backlog: bool, now: Moment) {
        if backlog && self.freed.len() < self.stats.slots as usize {
            self.freed.push_back(now.instant);
        }
    }

    /// A job came from the server.
    pub(super) fn delivered(&mut self, now: Moment) {
        self.stats.last_delivery = Some(now.wall);
    }

    /// A job takes a slot; how long that slot waited for it, where jobs waited too.
    ///
    /// What is known of waiting jobs is out of date when another worker has taken them meanwhile. So
    /// a slot has waited no longer than its job has been there, and for a job that came back from
    /// elsewhere nobody can tell.
    pub(super) fn started_one(&mut self, delivery: &Delivery, now: Moment) -> Option<Duration> {
        self.stats.started += 1;
        let slot_waited = now.instant.duration_since(self.freed.pop_front()?);
        if delivery.info.deliveries > 1 {
            return None;
        }
        let waited = slot_waited.min(now.waited(delivery));
        self.stats.refill_max = self.stats.refill_max.max(waited);
        Some(waited)
    }

    /// Whether jobs were known to wait, wanted or not.
    pub(super) fn has_backlog(&self) -> bool {
        self.waiting
    }

    /// Whether more than half of the slots ran a job at the end of the last turn. With fewer, the first
    /// that ends is better replaced at once: the server is at work on its pull while the others end.
    pub(super) fn most_run(&self) -> bool {
        self.stats.running > self.stats.slots / 2
    }

    pub(super) fn started(&self) -> u64 {
        self.stats.started
    }

    pub(super) fn stats(&self) -> SlotStats {
        self.stats
    }
}

fn has_backlog(snapshot: &Snapshot) -> bool {
    snapshot
        .queues
        .iter()
        .any(|queue| queue.backlog > 0 && !queue.paused)
}

impl Driver {
    pub(super) fn engine_has_backlog(&self) -> bool {
        self.slots.backlog
    }

    pub(super) fn count_start(
        &mut self,
        queue: QueueIx,
        delivery: &Delivery,
        refill: Option<Duration>,
    ) {
        let registry = &self.crew.registry;
        let task = delivery.task_text();
        self.metrics.count_start(queue, task, || {
            task.parse()
                .is_ok_and(|name| registry.find(&name).is_some())
        });
        if let Some(lane) = self.metrics.lane(queue) {
            let waited = self.moment.waited(delivery);
            lane.wait_seconds.observe(waited.as_secs_f64());
        }
        if let Some(refill) = refill {
            self.metrics.refill_seconds.observe(refill.as_secs_f64());
        }
    }

    pub(super) fn count_end(
        &mut self,
        queue: QueueIx,
        ran: Option<&(TaskName, Duration)>,
        kind: Option<EventKind>,
        verdict: Verdict,
    ) {
        let outcome = match (kind, verdict) {
            (_, Verdict::HandBack) => "handed_back",
            (_, Verdict::Abandon) => "lease_lost",
            (Some(kind), _) => kind.as_str(),
            (None, _) => "superseded",
        };
        if let (Some((_, ran)), Some(lane)) = (ran, self.metrics.lane(queue)) {
            lane.run_seconds.observe(ran.as_secs_f64());
        }
        let known = ran
            .map(|(task, _)| task)
            .filter(|task| self.crew.registry.find(task).is_some());
        self.metrics.count_end(queue, known, outcome);
    }
}
