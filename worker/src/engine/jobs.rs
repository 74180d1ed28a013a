//! The jobs whose handlers run here, and how long each is ours.
//!
//! The *lease* of a job is the time until which the server gives it to nobody else: `ack_wait`
//! from its delivery, and then from the sending of each keep-alive that was confirmed in time.

use std::collections::{BTreeMap, VecDeque};

use super::{CancelReason, Millis, QueueIx, Seq};

/// A job whose handler has been started and has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Job {
    pub(super) queue: QueueIx,
    /// Ours until this moment, unless a keep-alive moves it.
    pub(super) lease_until: Millis,
    /// The lease is over: whatever the handler says, nothing is told to the server.
    pub(super) lost: bool,
    /// Delivered to us again after the lease was lost: that lease is over at this moment.
    pub(super) regained_until: Option<Millis>,
    /// Asked to stop, and why.
    pub(super) cancelled: Option<CancelReason>,
    /// Did not stop within the grace after it was asked to.
    pub(super) stuck: bool,
    /// Its slot has been given to another job, since the handler does not stop.
    pub(super) replaced: bool,
}

/// All jobs that run here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Jobs {
    running: BTreeMap<Seq, Job>,
    /// Cancelled jobs by the moment at which they count as stuck, oldest first.
    graces: VecDeque<(Millis, Seq)>,
    replaced: u32,
    stuck: u32,
}

impl Jobs {
    /// Jobs that hold a slot.
    pub(super) fn holding(&self) -> u32 {
        self.running.len() as u32 - self.replaced
    }

    /// Jobs whose handler did not stop in time, and still runs.
    pub(super) fn stuck(&self) -> u32 {
        self.stuck
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    pub(super) fn get_mut(&mut self, seq: Seq) -> Option<&mut Job> {
        self.running.get_mut(&seq)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Seq, &Job)> {
        self.running.iter().map(|(seq, job)| (*seq, job))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Seq, &mut Job)> {
        self.running.iter_mut().map(|(seq, job)| (*seq, job))
    }

    pub(super) fn start(&mut self, seq: Seq, queue: QueueIx, lease_until: Millis) {
        let job = Job {
            queue,
            lease_until,
            lost: false,
            regained_until: None,
            cancelled: None,
            stuck: false,
            replaced: false,
        };
        let twin = self.running.insert(seq, job);
        assert!(twin.is_none(), "{seq:?} started while it runs");
    }

    /// Removes a job whose handler ended. `None` if no such handler runs.
    pub(super) fn finish(&mut self, seq: Seq) -> Option<Job> {
        let job = self.running.remove(&seq)?;
        if job.cancelled.is_some() && !job.stuck {
            self.graces.retain(|(_, cancelled)| *cancelled != seq);
        }
        self.stuck -= u32::from(job.stuck);
        self.replaced -= u32::from(job.replaced);
        Some(job)
    }

    /// Notes that a handler is asked to stop; false if it already was, or does not run.
    pub(super) fn cancel(&mut self, seq: Seq, reason: CancelReason, stuck_at: Millis) -> bool {
        let Some(job) = self.running.get_mut(&seq) else {
            return false;
        };
        if job.cancelled.is_some() {
            return false;
        }
        job.cancelled = Some(reason);
        self.graces.push_back((stuck_at, seq));
        true
    }

    /// The next cancelled job that has not stopped by now, with whether its slot is to be freed.
    pub(super) fn next_stuck(&mut self, now: Millis, replace: bool) -> Option<(Seq, bool)> {
        let (_, seq) = *self
            .graces
            .front()
            .filter(|(stuck_at, _)| now >= *stuck_at)?;
        self.graces.pop_front();
        let job = self
            .running
            .get_mut(&seq)
            .expect("graces holds running jobs");
        job.stuck = true;
        job.replaced = replace;
        self.stuck += 1;
        self.replaced += u32::from(replace);
        Some((seq, replace))
    }

    /// When the next cancelled job counts as stuck.
    pub(super) fn next_grace(&self) -> Option<Millis> {
        self.graces.front().map(|(stuck_at, _)| *stuck_at)
    }

    pub(super) fn rebase(&mut self, now: Millis) {
        for job in self.running.values_mut() {
            job.lease_until = job.lease_until.since(now);
            job.regained_until = job.regained_until.map(|until| until.since(now));
        }
        for (stuck_at, _) in &mut self.graces {
            *stuck_at = stuck_at.since(now);
        }
    }
}
