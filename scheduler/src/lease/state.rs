//! The lease without the bucket: pure, with every time as an argument.

use std::time::{Duration, Instant};

/// What to ask of the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// Nothing before this time.
    Nothing {
        /// When to look again.
        until: Instant,
    },
    /// Make the entry, which succeeds where nobody holds it.
    Create,
    /// Renew the entry, which succeeds where it is still ours.
    Renew {
        /// The revision that was granted last.
        revision: u64,
    },
}

/// One scheduler's view of one lease.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    length: Duration,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Waiting {
        try_at: Instant,
    },
    Held {
        revision: u64,
        term: u64,
        acting_until: Instant,
        renew_at: Instant,
    },
}

impl Lease {
    /// A lease of this length that is not held, to be tried for at once.
    pub(super) fn new(length: Duration, now: Instant) -> Self {
        Self {
            length,
            state: State::Waiting { try_at: now },
        }
    }

    /// What to ask now.
    pub(super) fn ask(&self, now: Instant) -> Ask {
        match self.state {
            State::Waiting { try_at } if try_at <= now => Ask::Create,
            State::Waiting { try_at } => Ask::Nothing { until: try_at },
            State::Held {
                renew_at, revision, ..
            } if renew_at <= now => Ask::Renew { revision },
            State::Held { renew_at, .. } => Ask::Nothing { until: renew_at },
        }
    }

    /// The entry is ours under `revision`; it was asked for at `asked_at`.
    ///
    /// A lease that lapsed meanwhile is a new one: what was done under it may have been done again
    /// by another.
    pub(super) fn granted(&mut self, asked_at: Instant, now: Instant, revision: u64) {
        let term = match self.state {
            State::Held {
                term, acting_until, ..
            } if now < acting_until => term,
            _ => revision,
        };
        self.state = State::Held {
            revision,
            term,
            acting_until: asked_at + self.length * 2 / 3,
            renew_at: asked_at + self.length / 3,
        };
    }

    /// Somebody else has it. `unit` in `0.0..=1.0` spreads the standbys' next tries.
    pub(super) fn refused(&mut self, now: Instant, unit: f64) {
        let pause = (self.length / 4).mul_f64(0.75 + unit.clamp(0.0, 1.0) / 2.0);
        self.state = State::Waiting {
            try_at: now + pause,
        };
    }

    /// No clear answer came: what is held stays held for as long as it was granted, and the
    /// question is repeated soon.
    pub(super) fn unanswered(&mut self, now: Instant) {
        let soon = now + self.length / 20;
        match &mut self.state {
            State::Waiting { try_at } => *try_at = soon,
            State::Held { renew_at, .. } => *renew_at = soon,
        }
    }

    /// Somebody gave it back: worth a try at once.
    pub(super) fn freed(&mut self, now: Instant) {
        if let State::Waiting { try_at } = &mut self.state {
            *try_at = now;
        }
    }

    /// The revision to give back, where it is held.
    pub(super) fn held(&self) -> Option<u64> {
        match self.state {
            State::Held { revision, .. } => Some(revision),
            State::Waiting { .. } => None,
        }
    }

    /// The term that may be acted on and until when. A term is the revision under which this
    /// stretch of leadership began; a later leader's is higher.
    pub(super) fn tenure(&self) -> Option<(u64, Instant)> {
        match self.state {
            State::Held {
                term, acting_until, ..
            } => Some((term, acting_until)),
            State::Waiting { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(9);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_fresh_lease_is_tried_for_at_once() {
        let now = Instant::now();
        assert_eq!(Lease::new(LENGTH, now).ask(now), Ask::Create);
    }

    #[test]
    fn a_holder_renews_at_a_third_and_stops_at_two_thirds_of_when_it_asked() {
        let asked = Instant::now();
        let mut lease = Lease::new(LENGTH, asked);
        lease.granted(asked, asked + seconds(2), 7);
        assert_eq!(lease.tenure(), Some((7, asked + seconds(6))));
        let until = asked + seconds(3);
        assert_eq!(lease.ask(asked + seconds(2)), Ask::Nothing { until });
        assert_eq!(lease.ask(until), Ask::Renew { revision: 7 });
    }

    #[test]
    fn renewing_in_time_keeps_the_term_and_renewing_late_begins_another() {
        let start = Instant::now();
        let mut lease = Lease::new(LENGTH, start);
        lease.granted(start, start, 7);
        lease.granted(start + seconds(3), start + seconds(3), 8);
        assert_eq!(lease.tenure(), Some((7, start + seconds(9))));
        // Paused: the renewal that was on its way is answered after two thirds have passed.
        lease.granted(start + seconds(10), start + seconds(10), 9);
        assert_eq!(lease.tenure(), Some((9, start + seconds(16))));
    }

    #[test]
    fn without_an_answer_the_end_does_not_move() {
        let start = Instant::now();
        let mut lease = Lease::new(LENGTH, start);
        lease.granted(start, start, 7);
        lease.unanswered(start + seconds(3));
        assert_eq!(lease.tenure(), Some((7, start + seconds(6))));
        assert!(matches!(lease.ask(start + seconds(4)), Ask::Renew { .. }));
    }

    #[test]
    fn a_refused_one_is_tried_again_within_a_third_of_the_lease() {
        let start = Instant::now();
        let mut lease = Lease::new(LENGTH, start);
        lease.granted(start, start, 7);
        for unit in [0.0, 1.0] {
            lease.refused(start, unit);
            assert_eq!(lease.tenure(), None);
            let Ask::Nothing { until } = lease.ask(start) else {
                panic!("asked at once")
            };
            assert!(until > start + seconds(1) && until <= start + seconds(3));
        }
        lease.freed(start);
        assert_eq!(lease.ask(start), Ask::Create);
    }
}
