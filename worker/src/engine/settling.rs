//! Jobs whose handlers ended and whose ack (or return) is not confirmed yet.
//!
//! Their slots are free again, but the server may still deliver them a second time: a second copy
//! must find its twin here and be acked again instead of run again. That holds beyond the end of
//! the lease, since only then does the server deliver it: a job whose lease *lapsed* is no longer
//! acked on our own account, but it stays known for a while in case it comes back to us.

use std::collections::{BTreeMap, VecDeque};

use super::{Millis, QueueIx, Seq};

/// A job that is being settled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Settle {
    pub(super) queue: QueueIx,
    pub(super) lease_until: Millis,
    /// When it is looked at again; tells its live entry in the order from old ones.
    due: Millis,
    /// The lease is over: known until this moment, and not acked unless it comes back.
    known_until: Option<Millis>,
}

impl Settle {
    pub(super) fn is_lapsed(&self) -> bool {
        self.known_until.is_some()
    }

    /// When its lease, or our memory of it, is over.
    pub(super) fn ends_at(&self) -> Millis {
        self.known_until.unwrap_or(self.lease_until)
    }
}

/// All jobs that are being settled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Settling {
    jobs: BTreeMap<Seq, Settle>,
    /// By due time, which is also the order of entry. May hold entries that are over.
    order: VecDeque<(Millis, Seq)>,
    /// How many of the jobs have lapsed.
    lapsed: usize,
}

impl Settling {
    /// Jobs that are being settled, without those that lapsed.
    pub(super) fn active(&self) -> usize {
        self.jobs.len() - self.lapsed
    }

    /// Jobs that lapsed and are still known.
    pub(super) fn lapsed(&self) -> usize {
        self.lapsed
    }

    pub(super) fn contains(&self, seq: Seq) -> bool {
        self.jobs.contains_key(&seq)
    }

    pub(super) fn get_mut(&mut self, seq: Seq) -> Option<&mut Settle> {
        self.jobs.get_mut(&seq)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Seq, &Settle)> {
        self.jobs.iter().map(|(seq, settle)| (*seq, settle))
    }

    pub(super) fn begin(&mut self, seq: Seq, queue: QueueIx, lease_until: Millis, due: Millis) {
        let settle = Settle {
            queue,
            lease_until,
            due,
            known_until: None,
        };
        let twin = self.jobs.insert(seq, settle);
        assert!(twin.is_none(), "{seq:?} ran while it was being settled");
        self.order.push_back((due, seq));
    }

    /// Removes a job that is settled or no longer ours.
    pub(super) fn end(&mut self, seq: Seq) -> Option<Settle> {
        let settle = self.jobs.remove(&seq);
        self.lapsed -= usize::from(settle.as_ref().is_some_and(Settle::is_lapsed));
        self.drop_old();
        settle
    }

    /// Notes the end of a job's lease: no more acks for it, but it stays known.
    pub(super) fn lapse(&mut self, seq: Seq, known_until: Millis) {
        let settle = self.jobs.get_mut(&seq).filter(|settle| !settle.is_lapsed());
        settle.expect("an active job lapses").known_until = Some(known_until);
        self.lapsed += 1;
        self.drop_old();
    }

    /// A job that is being settled was delivered to us again: it is ours again.
    pub(super) fn renew(&mut self, seq: Seq, lease_until: Millis, due: Millis) {
        let settle = self.jobs.get_mut(&seq).expect("a known job is renewed");
        settle.lease_until = settle.lease_until.max(lease_until);
        if settle.known_until.take().is_some() {
            settle.due = due;
            self.lapsed -= 1;
            self.order.push_back((due, seq));
        }
    }

    /// Drops the entries at the front of the order that no longer stand for a job.
    fn drop_old(&mut self) {
        while let Some((due, seq)) = self.order.front() {
            if self.is_live(*due, *seq) {
                break;
            }
            self.order.pop_front();
        }
    }

    /// Whether an entry of the order stands for a job, and not for an earlier time of it.
    fn is_live(&self, due: Millis, seq: Seq) -> bool {
        self.jobs
            .get(&seq)
            .is_some_and(|settle| settle.due == due && !settle.is_lapsed())
    }

    /// When the next confirmation is overdue.
    pub(super) fn next_due(&self) -> Option<Millis> {
        self.order.front().map(|(due, _)| *due)
    }

    /// The next job whose confirmation is overdue; it is due again at `next`.
    pub(super) fn next_overdue(&mut self, now: Millis, next: Millis) -> Option<Seq> {
        self.drop_old();
        let (_, seq) = *self.order.front().filter(|(due, _)| now >= *due)?;
        self.order.pop_front();
        let settle = self.jobs.get_mut(&seq).expect("old entries are dropped");
        settle.due = next;
        self.order.push_back((next, seq));
        self.drop_old();
        Some(seq)
    }

    /// Makes every ack due now: what was sent before a reconnect may never have arrived.
    pub(super) fn hurry(&mut self, now: Millis) {
        let order = std::mem::take(&mut self.order);
        for (due, seq) in order {
            if self.is_live(due, seq) {
                let settle = self
                    .jobs
                    .get_mut(&seq)
                    .expect("a live entry stands for a job");
                settle.due = settle.due.min(now);
                self.order.push_back((settle.due, seq));
            }
        }
    }

    pub(super) fn rebase(&mut self, now: Millis) {
        let order = std::mem::take(&mut self.order);
        self.order = order
            .into_iter()
            .filter(|(due, seq)| self.is_live(*due, *seq))
            .collect();
        for settle in self.jobs.values_mut() {
            settle.due = settle.due.since(now);
            settle.lease_until = settle.lease_until.since(now);
            settle.known_until = settle.known_until.map(|until| until.since(now));
        }
        for (due, _) in &mut self.order {
            *due = due.since(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settling(seqs: &[u64]) -> Settling {
        let mut settling = Settling::default();
        for (at, seq) in seqs.iter().enumerate() {
            let due = Millis(100 + at as u64);
            settling.begin(Seq(*seq), QueueIx(0), Millis(900), due);
        }
        settling
    }

    #[test]
    fn an_unconfirmed_ack_is_due_again_and_again() {
        let mut settling = settling(&[1]);
        assert_eq!(settling.next_overdue(Millis(99), Millis(0)), None);
        assert_eq!(
            settling.next_overdue(Millis(100), Millis(200)),
            Some(Seq(1))
        );
        assert_eq!(settling.next_due(), Some(Millis(200)));
        assert_eq!(
            settling.next_overdue(Millis(200), Millis(300)),
            Some(Seq(1))
        );
    }

    #[test]
    fn a_job_that_is_settled_twice_is_not_mixed_up_with_its_first_time() {
        let mut settling = settling(&[1, 2]);
        settling.end(Seq(2));
        settling.begin(Seq(2), QueueIx(0), Millis(900), Millis(150));
        settling.end(Seq(1));
        assert_eq!(settling.next_due(), Some(Millis(150)));
    }

    #[test]
    fn a_lapsed_job_is_known_but_not_acked_until_it_comes_back() {
        let mut settling = settling(&[1]);
        settling.lapse(Seq(1), Millis(1_000));
        assert_eq!((settling.active(), settling.lapsed()), (0, 1));
        assert_eq!(settling.next_due(), None);
        settling.renew(Seq(1), Millis(1_500), Millis(700));
        assert_eq!(
            (settling.active(), settling.next_due()),
            (1, Some(Millis(700)))
        );
    }

    #[test]
    fn a_reconnect_makes_every_ack_due_at_once() {
        let mut settling = settling(&[1, 2]);
        settling.hurry(Millis(50));
        assert_eq!(settling.next_overdue(Millis(50), Millis(150)), Some(Seq(1)));
        assert_eq!(settling.next_overdue(Millis(50), Millis(150)), Some(Seq(2)));
        assert_eq!(settling.next_overdue(Millis(50), Millis(150)), None);
    }
}
