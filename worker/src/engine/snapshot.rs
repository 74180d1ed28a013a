//! What the engine shows of itself: for metrics, health and the worker's beacon.

use super::Engine;

/// The state of the engine at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Slots there are.
    pub slots: u32,
    /// Slots that run a job.
    pub running: u32,
    /// Slots promised to open pulls.
    pub promised: u32,
    /// Jobs whose settling is not confirmed.
    pub settling: u32,
    /// Handlers that did not stop when asked to and still run.
    pub stuck: u32,
    /// The worker is stopping.
    pub draining: bool,
    /// Each queue, in the order of the config.
    pub queues: Vec<QueueSnapshot>,
    /// What has happened so far.
    pub counters: Counters,
}

/// The state of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSnapshot {
    /// Slots promised to its open pulls.
    pub promised: u32,
    /// Its open pulls.
    pub open_pulls: u32,
    /// Jobs that wait on the server, as far as known.
    pub backlog: u64,
    /// Somebody paused it.
    pub paused: bool,
    /// Its pulls came to nothing, so the next one waits.
    pub backing_off: bool,
}

/// What happened since the start; each only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counters {
    /// Jobs handed back at once: no slot was free for them, or the worker was draining.
    pub refused: u64,
    /// Jobs that no open pull had asked for and that found a free slot.
    pub unpromised: u64,
    /// Jobs dropped since the process slept for longer than their lease before it saw them.
    pub stale_deliveries: u64,
    /// Times the process did not run for half a lease or more while jobs were on their way.
    pub sleeps: u64,
    /// Jobs delivered again after they were done, and acked again.
    pub acked_again: u64,
    /// Acks sent again since they were not confirmed in time.
    pub confirms: u64,
    /// Jobs whose lease ran out while they ran or were being settled.
    pub leases_lost: u64,
    /// Handlers reported as stuck.
    pub stuck: u64,
    /// Ends reported of handlers that did not run: a fault of the shell.
    pub unknown_finishes: u64,
    /// Pulls given up: past their deadline, silent, or unknown to the server.
    pub pulls_written_off: u64,
    /// Pulls that never started or were ended by the server.
    pub pulls_failed: u64,
    /// Jobs that the server counts as delivered to a pull and that did not arrive here.
    pub jobs_lost_on_the_way: u64,
    /// New epochs asked for, by whatever guard.
    pub new_epochs: u64,
    /// New epochs asked for by the watchdog.
    pub watchdog_new_epochs: u64,
    /// Reconnects asked for by the watchdog.
    pub watchdog_reconnects: u64,
    /// Ends of the process asked for by the watchdog.
    pub watchdog_exits: u64,
}

impl Engine {
    /// The state at this moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let queues = self.queues.iter().map(|queue| QueueSnapshot {
            promised: queue.pulls.promised(),
            open_pulls: queue.pulls.open(),
            backlog: queue.backlog,
            paused: queue.paused,
            backing_off: queue.backoff.until.is_some_and(|until| self.now < until),
        });
        Snapshot {
            slots: self.slots.total(),
            running: self.slots.running(),
            promised: self.slots.promised(),
            settling: self.settling.active() as u32,
            stuck: self.jobs.stuck(),
            draining: self.drain.is_some(),
            queues: queues.collect(),
            counters: self.counters,
        }
    }
}
