//! Jobs whose handlers ended and whose ack (or return) is not confirmed yet.
//!
//! Their slots are free again, but the server may still deliver them a second time: a second copy
//! must find its twin here and be acked again instead of run again.

use std::collections::{BTreeMap, VecDeque};

use super::{Millis, QueueIx, Seq, Verdict};

/// A job that is being settled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Settle {
    pub(super) queue: QueueIx,
    pub(super) verdict: Verdict,
    pub(super) lease_until: Millis,
    /// When it is looked at again; tells its live entry in the order from old ones.
    due: Millis,
}

/// All jobs that are being settled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Settling {
    jobs: BTreeMap<Seq, Settle>,
    /// By due time, which is also the order of entry. May hold entries that are over.
    order: VecDeque<(Millis, Seq)>,
}

/// What to do with a job whose confirmation is overdue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// Send the ack again.
    Confirm(Seq),
    /// Let go of it: a NAK that comes twice would take the job from its next worker.
    Forget(Seq),
}

impl Settling {
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(super) fn get_mut(&mut self, seq: Seq) -> Option<&mut Settle> {
        self.jobs.get_mut(&seq)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Seq, &Settle)> {
        self.jobs.iter().map(|(seq, settle)| (*seq, settle))
    }

    pub(super) fn begin(
        &mut self,
        seq: Seq,
        queue: QueueIx,
        verdict: Verdict,
        lease_until: Millis,
        due: Millis,
    ) {
        self.jobs.insert(
            seq,
            Settle {
                queue,
                verdict,
                lease_until,
                due,
            },
        );
        self.order.push_back((due, seq));
    }

    /// Removes a job that is settled or no longer ours.
    pub(super) fn end(&mut self, seq: Seq) -> Option<Settle> {
        let settle = self.jobs.remove(&seq);
        self.drop_old();
        settle
    }

    /// Drops the entries at the front of the order that no longer stand for a job.
    fn drop_old(&mut self) {
        while let Some((due, seq)) = self.order.front() {
            if self.jobs.get(seq).is_some_and(|settle| settle.due == *due) {
                break;
            }
            self.order.pop_front();
        }
    }

    /// When the next confirmation is overdue.
    pub(super) fn next_due(&self) -> Option<Millis> {
        self.order.front().map(|(due, _)| *due)
    }

    /// The next job whose confirmation is overdue; an ack is due again at `next`.
    pub(super) fn next_overdue(&mut self, now: Millis, next: Millis) -> Option<Overdue> {
        self.drop_old();
        let (_, seq) = *self.order.front().filter(|(due, _)| now >= *due)?;
        self.order.pop_front();
        let settle = self.jobs.get_mut(&seq).expect("old entries are dropped");
        if settle.verdict == Verdict::HandBack {
            self.jobs.remove(&seq);
            self.drop_old();
            return Some(Overdue::Forget(seq));
        }
        settle.due = next;
        self.order.push_back((next, seq));
        self.drop_old();
        Some(Overdue::Confirm(seq))
    }

    /// Makes every ack due now: what was sent before a reconnect may never have arrived.
    pub(super) fn hurry(&mut self, now: Millis) {
        self.drop_old();
        let mut order = VecDeque::with_capacity(self.jobs.len());
        for (due, seq) in self.order.drain(..) {
            let Some(settle) = self.jobs.get_mut(&seq).filter(|settle| settle.due == due) else {
                continue;
            };
            if settle.verdict == Verdict::Settle {
                settle.due = settle.due.min(now);
            }
            order.push_back((settle.due, seq));
        }
        // Keeps the order sorted: acks that are due now come before the rest.
        order.make_contiguous().sort_by_key(|(due, _)| *due);
        self.order = order;
    }

    pub(super) fn rebase(&mut self, now: Millis) {
        self.order
            .retain(|(due, seq)| self.jobs.get(seq).is_some_and(|job| job.due == *due));
        for settle in self.jobs.values_mut() {
            settle.due = settle.due.since(now);
            settle.lease_until = settle.lease_until.since(now);
        }
        for (due, _) in &mut self.order {
            *due = due.since(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settling(seqs: &[u64], verdict: Verdict) -> Settling {
        let mut settling = Settling::default();
        for (at, seq) in seqs.iter().enumerate() {
            settling.begin(
                Seq(*seq),
                QueueIx(0),
                verdict,
                Millis(900),
                Millis(100 + at as u64),
            );
        }
        settling
    }

    #[test]
    fn an_unconfirmed_ack_is_due_again_and_again() {
        let mut settling = settling(&[1], Verdict::Settle);
        assert_eq!(settling.next_overdue(Millis(99), Millis(0)), None);
        assert_eq!(
            settling.next_overdue(Millis(100), Millis(200)),
            Some(Overdue::Confirm(Seq(1)))
        );
        assert_eq!(settling.next_due(), Some(Millis(200)));
        assert_eq!(
            settling.next_overdue(Millis(200), Millis(300)),
            Some(Overdue::Confirm(Seq(1)))
        );
    }

    #[test]
    fn a_return_is_never_sent_twice() {
        let mut settling = settling(&[1], Verdict::HandBack);
        assert_eq!(
            settling.next_overdue(Millis(100), Millis(200)),
            Some(Overdue::Forget(Seq(1)))
        );
        assert!(settling.is_empty());
    }

    #[test]
    fn a_job_that_is_settled_twice_is_not_mixed_up_with_its_first_time() {
        let mut settling = settling(&[1, 2], Verdict::Settle);
        settling.end(Seq(2));
        settling.begin(
            Seq(2),
            QueueIx(0),
            Verdict::Settle,
            Millis(900),
            Millis(150),
        );
        settling.end(Seq(1));
        assert_eq!(settling.next_due(), Some(Millis(150)));
    }

    #[test]
    fn a_reconnect_makes_every_ack_due_at_once() {
        let mut settling = settling(&[1, 2], Verdict::Settle);
        settling.hurry(Millis(50));
        assert_eq!(
            settling.next_overdue(Millis(50), Millis(150)),
            Some(Overdue::Confirm(Seq(1)))
        );
        assert_eq!(
            settling.next_overdue(Millis(50), Millis(150)),
            Some(Overdue::Confirm(Seq(2)))
        );
        assert_eq!(settling.next_overdue(Millis(50), Millis(150)), None);
    }
}
