//! A normal form of the engine's state, for the model check.

use super::{Counters, Engine, Millis, PullId, QueueIx};

impl Engine {
    /// Tells the same state relative to `now`, without what only counts up: two engines that will
    /// behave alike from here on are equal then. Pulls are renamed by `rename`, which must keep
    /// queue and lane.
    #[doc(hidden)]
    pub fn make_canonical(&mut self, now: Millis, rename: impl Fn(PullId) -> PullId) {
        let engine = self;
        engine.now = Millis(0);
        engine.counters = Counters::default();
        engine.next_pull = 0;
        engine.jobs.rebase(now);
        engine.settling.rebase(now);
        engine.leases.rebase(now);
        engine.watchdog.rebase(now);
        if let Some(slept) = &mut engine.slept {
            slept.rebase(now);
        }
        if let Some(drain) = &mut engine.drain {
            drain.rebase(now);
        }
        for queue in &mut engine.queues {
            queue.rebase(now);
            for pull in queue.pulls.iter_mut() {
                pull.id = rename(pull.id);
            }
        }
        engine.hold_until = engine.hold_until.map(|until| until.since(now));
        for moment in [
            &mut engine.fresh_until,
            &mut engine.pulse_at,
            &mut engine.ask_at,
        ] {
            *moment = moment.since(now);
        }
    }

    /// The open pulls, for renaming.
    #[doc(hidden)]
    #[must_use]
    pub fn open_pulls(&self) -> Vec<PullId> {
        self.queues
            .iter()
            .flat_map(|queue| queue.pulls.iter())
            .map(|pull| pull.id)
            .collect()
    }

    /// How many keep-alives were sent since this one, and it; zero if it no longer counts.
    #[doc(hidden)]
    #[must_use]
    pub fn keep_alive_age(&self, queue: QueueIx, batch: u64) -> u64 {
        self.leases.age(queue, batch)
    }

    /// The time of the latest event.
    #[doc(hidden)]
    #[must_use]
    pub fn now(&self) -> Millis {
        self.now
    }
}
