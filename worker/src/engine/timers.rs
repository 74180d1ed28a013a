//! All timers of the engine in one place: when the next is due, and what is done then.

use super::{Backlog, Command, Engine, Millis, QueueIx};

impl Engine {
    /// When the engine wants to be called again at the latest, with
    /// [`Event::Tick`](super::Event::Tick) if nothing else happens. May lie in the past.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        let timers = [
            Some(self.pulse_at),
            self.hold_until,
            self.leases.next_deadline(),
            self.jobs.next_grace(),
            self.settling.next_due(),
            self.drain
                .as_ref()
                .and_then(|drain| drain.next_deadline(self.now)),
            self.wants_jobs().then_some(self.ask_at),
            self.wants_jobs()
                .then(|| self.watchdog.next_deadline(self.now)),
        ];
        let pulls = self
            .queues
            .iter()
            .filter_map(super::queue::Queue::next_write_off);
        let retries = self.queues.iter().filter_map(|queue| queue.backoff.until);
        let retries = retries.filter(|until| *until > self.now);
        timers
            .into_iter()
            .flatten()
            .chain(pulls)
            .chain(retries)
            .min()
    }

    /// Does what is due.
    pub(super) fn run_timers(&mut self) {
        if self.hold_until.is_some_and(|until| self.now >= until) {
            self.hold_until = None;
        }
        self.keep_jobs();
        self.report_stuck();
        self.confirm_overdue();
        self.write_off_overdue();
        self.cancel_at_drain_end();
        self.ask_backlog();
        self.watch();
    }

    /// Slots are idle, and there is a queue that may fill them.
    pub(super) fn wants_jobs(&self) -> bool {
        self.drain.is_none()
            && self.slots.idle() > 0
            && self.queues.iter().any(|queue| !queue.paused)
    }

    /// The slow reconciliation: slots have been idle for a while, ask whether that is right.
    fn ask_backlog(&mut self) {
        if self.now < self.ask_at || !self.wants_jobs() {
            return;
        }
        self.ask_at = self.now + self.config.reconcile;
        for (index, queue) in self.queues.iter().enumerate() {
            if !queue.paused {
                self.commands.push_back(Command::AskBacklog {
                    queue: QueueIx(index as u16),
                });
            }
        }
    }

    pub(super) fn on_backlog(&mut self, queue: QueueIx, backlog: Backlog) {
        self.heard();
        let believed_until: Millis = self.now + self.config.reconcile * 3;
        let deliverable = backlog.deliverable();
        self.doubt_pulls(queue, deliverable > 0 && backlog.waiting == 0);
        if let Some(queue) = self.queue_mut(queue) {
            queue.backlog = deliverable;
            queue.starved_until = (deliverable > 0 && !queue.paused).then_some(believed_until);
        }
        self.watch();
    }
}
