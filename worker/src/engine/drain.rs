//! Stopping: take nothing more, let what runs finish within its time, cancel the rest.

use super::{CancelReason, Command, Engine, Millis, Seq};

/// A worker that stops.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Drain {
    /// Until this moment jobs that were on their way may still arrive, to be handed back.
    linger_until: Millis,
    /// When what still runs is cancelled; `None` once that is done.
    cancel_at: Option<Millis>,
    /// When the worker stops even if handlers do not, or acks are not confirmed.
    end_at: Millis,
    stopped: bool,
}

impl Drain {
    pub(super) fn next_deadline(&self, now: Millis) -> Option<Millis> {
        let linger = Some(self.linger_until).filter(|until| now < *until);
        let end = [Some(self.end_at), self.cancel_at, linger]
            .into_iter()
            .flatten()
            .min();
        end.filter(|_| !self.stopped)
    }

    pub(super) fn rebase(&mut self, now: Millis) {
        self.linger_until = self.linger_until.since(now);
        self.cancel_at = self.cancel_at.map(|at| at.since(now));
        self.end_at = self.end_at.since(now);
    }
}

impl Engine {
    pub(super) fn on_drain(&mut self) {
        self.begin_drain(self.now + self.config.drain_timeout);
    }

    pub(super) fn on_stop_now(&mut self) {
        self.begin_drain(self.now);
        self.cancel_all(CancelReason::Stop);
    }

    /// Starts to drain, or shortens a drain that is under way.
    fn begin_drain(&mut self, cancel_at: Millis) {
        let last_words = self.config.cancel_grace + self.config.confirm_timeout;
        let drain = self.drain.get_or_insert(Drain {
            linger_until: self.now + self.config.pull_grace,
            cancel_at: Some(cancel_at),
            end_at: cancel_at + last_words,
            stopped: false,
        });
        drain.cancel_at = drain.cancel_at.map(|at| at.min(cancel_at));
        drain.end_at = drain.end_at.min(cancel_at + last_words);
    }

    /// The time to finish is over: cancels what still runs.
    pub(super) fn cancel_at_drain_end(&mut self) {
        let cancel_at = self.drain.as_ref().and_then(|drain| drain.cancel_at);
        if cancel_at.is_some_and(|at| self.now >= at) {
            self.cancel_all(CancelReason::Drain);
        }
    }

    fn cancel_all(&mut self, reason: CancelReason) {
        if let Some(drain) = &mut self.drain {
            drain.cancel_at = None;
        }
        let running: Vec<Seq> = self.jobs.iter().map(|(seq, _)| seq).collect();
        for seq in running {
            self.cancel(seq, reason);
        }
    }

    /// Says so when a draining worker has nothing left, or no time left.
    pub(super) fn stop_when_empty(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        let quiet = self.slots.promised() == 0 || self.now >= drain.linger_until;
        let empty = quiet && self.jobs.is_empty() && self.settling.active() == 0;
        if !drain.stopped && (empty || self.now >= drain.end_at) {
            drain.stopped = true;
            self.commands.push_back(Command::Stopped);
        }
    }
}
