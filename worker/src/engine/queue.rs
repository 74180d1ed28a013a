//! What the engine knows of one queue.

use super::pulls::Pulls;
use super::{Config, Millis};

/// A queue among those that share the slots.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Queue {
    pub(super) paused: bool,
    pub(super) pulls: Pulls,
    /// Jobs that wait on the server as far as known; more than none makes the queue *hot*.
    pub(super) backlog: u64,
    /// The most slots it is promised on the strength of its backlog. Down to one when it did not
    /// deliver what it has (it is at its limit, or others were faster), doubled when it fills a
    /// pull of that size: a queue that cannot deliver so keeps few slots from the others.
    pub(super) window: u32,
    pub(super) backoff: Backoff,
    /// Not to be probed before this.
    pub(super) probe_at: Millis,
    /// Balance of the smooth weighted round robin.
    pub(super) credit: i64,
    /// Units dealt to it in this turn and not yet sent; zero between turns.
    pub(super) planned: u32,
    /// Until this moment its open pulls are not silent: a job of the queue arrived recently.
    pub(super) lively_until: Millis,
    /// The consumer's numbers showed jobs to deliver, and are believed until this moment.
    pub(super) starved_until: Option<Millis>,
}

impl Queue {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            paused: false,
            pulls: Pulls::new(config.pulls_max),
            backlog: 0,
            window: u32::MAX,
            backoff: Backoff::default(),
            probe_at: Millis(0),
            credit: 0,
            planned: 0,
            lively_until: Millis(0),
            starved_until: None,
        }
    }

    /// May be asked for jobs now.
    pub(super) fn is_eligible(&self, now: Millis) -> bool {
        !self.paused && self.backoff.until.is_none_or(|until| now >= until)
    }

    /// May be asked for jobs, and is known to have some.
    pub(super) fn is_hot(&self, now: Millis) -> bool {
        self.backlog > 0 && self.is_eligible(now)
    }

    /// How many more slots a hot queue can use, as far as known. Slots promised beyond its backlog
    /// would only be kept from the others.
    pub(super) fn wants(&self) -> u32 {
        let asked = u64::from(self.pulls.promised()) + u64::from(self.planned);
        let most = self.backlog.min(u64::from(self.window));
        u32::try_from(most.saturating_sub(asked)).unwrap_or(u32::MAX)
    }

    /// A pull of this size was filled.
    pub(super) fn widen(&mut self, batch: u32) {
        if batch >= self.window {
            self.window = batch.saturating_mul(2);
        }
    }

    /// When one of its open pulls has to be written off.
    pub(super) fn next_write_off(&self) -> Option<Millis> {
        let ends = |pull: &super::pulls::Pull| match pull.silent_at {
            Some(silent_at) => pull.deadline.min(silent_at.max(self.lively_until)),
            None => pull.deadline,
        };
        self.pulls.iter().map(ends).min()
    }

    pub(super) fn rebase(&mut self, now: Millis) {
        self.backoff.until = self.backoff.until.map(|until| until.since(now));
        self.probe_at = self.probe_at.since(now);
        self.lively_until = self.lively_until.since(now);
        self.starved_until = self.starved_until.map(|until| until.since(now));
        for pull in self.pulls.iter_mut() {
            pull.early_until = pull.early_until.since(now);
            pull.deadline = pull.deadline.since(now);
            pull.silent_at = pull.silent_at.map(|at| at.since(now));
        }
    }
}

/// Growing waits after pulls that came to nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Backoff {
    pub(super) until: Option<Millis>,
    delay: Millis,
}

impl Backoff {
    /// Waits: at first for `first`, then twice as long each time, at most `longest`.
    pub(super) fn fail(&mut self, now: Millis, (first, longest): (Millis, Millis)) {
        if self.until.is_some_and(|until| now < until) {
            return; // Several pulls that failed together are one failure.
        }
        self.delay = (self.delay * 2).clamp(first, longest);
        self.until = Some(now + self.delay);
    }

    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_over_after_success() {
        let mut backoff = Backoff::default();
        let mut now = Millis(1_000);
        let mut waits = Vec::new();
        for _ in 0..5 {
            backoff.fail(now, (Millis(50), Millis(300)));
            let until = backoff.until.unwrap();
            waits.push(until.since(now).0);
            now = until;
        }
        assert_eq!(waits, [50, 100, 200, 300, 300]);
        backoff.reset();
        backoff.fail(now, (Millis(50), Millis(300)));
        assert_eq!(backoff.until, Some(now + Millis(50)));
    }

    #[test]
    fn pulls_that_fail_together_are_one_failure() {
        let mut backoff = Backoff::default();
        for _ in 0..8 {
            backoff.fail(Millis(0), (Millis(50), Millis(300)));
        }
        assert_eq!(backoff.until, Some(Millis(50)));
    }
}
