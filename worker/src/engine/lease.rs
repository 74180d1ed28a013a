//! Keeping jobs: one timer per worker tells the server which jobs are still being worked on, and
//! finds those whose lease is over.

use super::{CancelReason, Command, Config, Engine, Epoch, Millis, QueueIx, Seq};

/// Unconfirmed keep-alives kept per queue; an older one would extend next to nothing.
const BATCHES_MAX: usize = 4;

/// How many times `ack_wait` a job stays known whose ack was not confirmed within its lease.
const KNOWN_LEASES: u64 = 4;

/// The keep-alive timer and what it sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Leases {
    /// When running jobs are looked through for those that need a keep-alive.
    at: Option<Millis>,
    /// No lease ends before this, as of the last look; jobs started since are looked at in time.
    floor: Option<Millis>,
    /// Sent and not confirmed, oldest first.
    batches: Vec<Batch>,
    next_batch: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Batch {
    queue: QueueIx,
    number: u64,
    /// The lease it gives once it is confirmed.
    lease_until: Millis,
    /// When it is repeated unless it is confirmed.
    repeat_at: Millis,
    /// When the next is due once it is confirmed: a third of a lease after this one.
    next_at: Millis,
    seqs: Vec<Seq>,
}

impl Leases {
    /// Sees to it that a job which starts now gets its keep-alive in time.
    pub(super) fn cover(&mut self, config: &Config, now: Millis, lease_until: Millis) {
        let third = config.ack_wait.fraction(1, 3);
        // A job that waited before it reached us has less than its full lease.
        let at = if lease_until < now + third * 2 {
            now
        } else {
            now + third
        };
        self.at = Some(self.at.map_or(at, |current| current.min(at)));
    }

    /// Makes the next keep-alive due now.
    pub(super) fn hurry(&mut self, now: Millis) {
        self.at = self.at.map(|at| at.min(now));
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        [self.at, self.floor].into_iter().flatten().min()
    }

    fn push(&mut self, batch: Batch) {
        let mut kept = 0;
        let queue = batch.queue;
        self.batches.push(batch);
        for index in (0..self.batches.len()).rev() {
            if self.batches[index].queue == queue {
                kept += 1;
                if kept > BATCHES_MAX {
                    self.batches.remove(index);
                }
            }
        }
    }

    /// Takes out a confirmed batch; what was sent before it has arrived too, and gives less.
    fn confirm(&mut self, queue: QueueIx, number: u64) -> Option<Batch> {
        let is_it = |batch: &Batch| batch.queue == queue && batch.number == number;
        let index = self.batches.iter().position(is_it)?;
        let batch = self.batches.remove(index);
        self.batches
            .retain(|other| other.queue != queue || other.number > number);
        Some(batch)
    }

    pub(super) fn age(&self, queue: QueueIx, number: u64) -> u64 {
        let is_it = |batch: &&Batch| batch.queue == queue && batch.number == number;
        self.batches
            .iter()
            .find(is_it)
            .map_or(0, |batch| self.next_batch - batch.number)
    }

    pub(super) fn rebase(&mut self, now: Millis) {
        self.at = self.at.map(|at| at.since(now));
        self.floor = self.floor.map(|floor| floor.since(now));
        for batch in &mut self.batches {
            batch.lease_until = batch.lease_until.since(now);
            batch.repeat_at = batch.repeat_at.since(now);
            batch.next_at = batch.next_at.since(now);
            batch.number = self.next_batch - batch.number;
        }
        self.next_batch = 0;
    }
}

/// Jobs that arrive after the process slept may have waited for all that time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slept {
    /// The last epoch of before.
    epoch: Epoch,
    /// The lease of what arrives from it.
    lease_until: Millis,
    /// All that had been waiting has arrived by this moment.
    until: Millis,
}

impl Slept {
    pub(super) fn rebase(&mut self, now: Millis) {
        self.lease_until = self.lease_until.since(now);
        self.until = self.until.since(now);
    }
}

impl Engine {
    /// The lease of a job that arrives now. It may have waited since the end of the last turn,
    /// or since before the process slept.
    pub(super) fn lease_of(&self, epoch: Epoch) -> Millis {
        let fresh_until = self.fresh_until.min(self.now + self.config.ack_wait);
        match &self.slept {
            Some(slept) if epoch <= slept.epoch => slept.lease_until.min(fresh_until),
            _ => fresh_until,
        }
    }

    /// Notices that the process did not run for a good part of a lease (suspended, stopped, or
    /// starved of the processor). Jobs that were on their way to it have waited in buffers, nobody
    /// knows how long, and jobs that arrive by a fresh inbox have not: so one is asked for. Gaps of
    /// up to half a lease are covered by the first keep-alive.
    pub(super) fn notice_sleep(&mut self) {
        let lease = self.config.ack_wait;
        if self.now + lease <= self.fresh_until + lease.fraction(1, 2) {
            return;
        }
        // What arrives now may also have waited through an earlier sleep.
        let earlier = self
            .slept
            .take()
            .map_or(Millis::NEVER, |slept| slept.lease_until);
        let lease_until = self.fresh_until.min(earlier);
        self.slept = Some(Slept {
            epoch: self.epoch,
            lease_until,
            until: self.now + lease,
        });
        self.counters.sleeps += 1;
        self.request_epoch();
    }

    /// Forgets a sleep when the loop has turned for so long that nothing can still be waiting.
    pub(super) fn shake_off_sleep(&mut self) {
        if self
            .slept
            .as_ref()
            .is_some_and(|slept| self.now >= slept.until)
        {
            self.slept = None;
        }
    }

    /// Looks through the jobs if a keep-alive or the end of a lease is due.
    pub(super) fn keep_jobs(&mut self) {
        if self
            .leases
            .next_deadline()
            .is_none_or(|deadline| self.now < deadline)
        {
            return;
        }
        self.give_up_lost();
        if self.leases.at.is_some_and(|at| self.now >= at) {
            self.send_keep_alives();
        }
    }

    /// Cancels the jobs whose lease is over, and no longer acks those that only wait for the
    /// confirmation of their ack.
    fn give_up_lost(&mut self) {
        let now = self.now;
        let is_over = |lease_until: Millis| now >= lease_until;
        let mut lost = Vec::new();
        for (seq, job) in self.jobs.iter_mut() {
            if !job.lost && is_over(job.lease_until) {
                job.lost = true;
                lost.push(seq);
            }
        }
        for seq in lost {
            self.counters.leases_lost += 1;
            self.cancel(seq, CancelReason::LeaseLost);
        }
        self.let_settling_lapse();
        let running = self
            .jobs
            .iter()
            .filter(|(_, job)| !job.lost)
            .map(|(_, job)| job.lease_until);
        let settling = self.settling.iter().map(|(_, settle)| settle.ends_at());
        self.leases.floor = running.chain(settling).min();
    }

    /// Stops acking the jobs whose lease is over, and forgets them in the end. How many such jobs
    /// are remembered is bounded; the oldest go first.
    fn let_settling_lapse(&mut self) {
        let now = self.now;
        let over = self
            .settling
            .iter()
            .filter(|(_, settle)| now >= settle.ends_at());
        let over: Vec<(Seq, bool)> = over
            .map(|(seq, settle)| (seq, settle.is_lapsed()))
            .collect();
        let known_until = now + self.config.ack_wait * KNOWN_LEASES;
        for (seq, forget) in over {
            if forget {
                self.settling.end(seq);
                self.commands.push_back(Command::Forget { seq });
            } else {
                self.counters.leases_lost += 1;
                self.settling.lapse(seq, known_until);
            }
        }
        let excess = self
            .settling
            .lapsed()
            .saturating_sub(self.config.settling_max as usize);
        let lapsed = self
            .settling
            .iter()
            .filter(|(_, settle)| settle.is_lapsed());
        let oldest: Vec<Seq> = lapsed.map(|(seq, _)| seq).take(excess).collect();
        for seq in oldest {
            self.settling.end(seq);
            self.commands.push_back(Command::Forget { seq });
        }
    }

    /// Sends a keep-alive for each queue with jobs that have used up a third of their lease. The
    /// younger ones are covered by the next, long before their lease ends.
    fn send_keep_alives(&mut self) {
        let (now, third) = (self.now, self.config.ack_wait.fraction(1, 3));
        self.leases.batches.retain(|batch| now < batch.lease_until);
        if self.jobs.is_empty() && self.settling.active() == 0 {
            self.leases.batches.clear();
            self.leases.at = None;
            return;
        }
        let repeat_at = now + third.min(self.config.confirm_timeout);
        for index in 0..self.queues.len() {
            let queue = QueueIx(index as u16);
            let seqs = self.jobs_to_keep(queue, now + third * 2);
            if seqs.is_empty() {
                continue;
            }
            let number = self.leases.next_batch;
            self.leases.next_batch += 1;
            self.commands.push_back(Command::KeepAlive {
                queue,
                batch: number,
                seqs: seqs.clone(),
            });
            let lease_until = now + self.config.ack_wait;
            let next_at = now + third;
            self.leases.push(Batch {
                queue,
                number,
                lease_until,
                repeat_at,
                next_at,
                seqs,
            });
        }
        let confirmed = self.leases.batches.is_empty();
        self.leases.at = Some(if confirmed { now + third } else { repeat_at });
    }

    fn jobs_to_keep(&self, queue: QueueIx, horizon: Millis) -> Vec<Seq> {
        let running = self
            .jobs
            .iter()
            .filter(|(_, job)| job.queue == queue && !job.lost && job.lease_until <= horizon);
        let settling = self.settling.iter().filter(|(_, settle)| {
            settle.queue == queue && !settle.is_lapsed() && settle.lease_until <= horizon
        });
        running
            .map(|(seq, _)| seq)
            .chain(settling.map(|(seq, _)| seq))
            .collect()
    }

    /// A keep-alive arrived: it counts from when it was sent, for jobs whose lease has not ended
    /// in the meantime. (One that ends before the confirmation may have ended before the server
    /// saw the keep-alive, which then prolonged somebody else's lease.)
    pub(super) fn on_extended(&mut self, queue: QueueIx, batch: u64) {
        self.heard();
        let Some(batch) = self.leases.confirm(queue, batch) else {
            return;
        };
        let now = self.now;
        for seq in &batch.seqs {
            let job = self.jobs.get_mut(*seq).filter(|job| !job.lost);
            let lease = match job {
                Some(job) => Some(&mut job.lease_until),
                None => self
                    .settling
                    .get_mut(*seq)
                    .map(|settle| &mut settle.lease_until),
            };
            if let Some(lease_until) = lease.filter(|lease_until| now < **lease_until) {
                *lease_until = batch.lease_until.max(*lease_until);
            }
        }
        if self.leases.batches.is_empty() && self.leases.at == Some(batch.repeat_at) {
            self.leases.at = Some(batch.next_at);
        }
    }
}
