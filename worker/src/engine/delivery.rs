//! The way of a job through the engine: delivered, started, finished, settled.

use super::pulls::Taken;
use super::{CancelReason, Command, Engine, Epoch, Lane, Millis, QueueIx, Seq, Verdict};

impl Engine {
    pub(super) fn on_delivered(
        &mut self,
        epoch: Epoch,
        lane: Lane,
        queue: QueueIx,
        seq: Seq,
        pending: u64,
    ) {
        let promised = self.note_delivery(epoch, lane, queue, pending);
        let lease_until = self.lease_of(epoch);
        if let Some(job) = self.jobs.get_mut(seq) {
            // Its handler runs: a second one must not. If the lease had been lost, the job is ours
            // again, to be handed back when the handler has ended.
            if job.lost {
                job.regained_until = Some(lease_until);
            }
            return;
        }
        if self.settling.contains(seq) {
            // It is done; only its ack is not known to have arrived. (If it waited here for too
            // long, somebody else has it by now, and nothing is said about it.)
            if self.now < lease_until {
                let due = self.now + self.config.confirm_timeout;
                self.settling.renew(seq, lease_until, due);
                self.leases.cover(&self.config, self.now, lease_until);
                self.counters.acked_again += 1;
                self.commands.push_back(Command::AckAgain { seq });
            }
            return;
        }
        if self.now >= lease_until {
            // The process slept for longer than a lease, and the job waited in its buffers: the
            // server has given it to somebody else by now, so not even a NAK may be sent.
            self.counters.stale_deliveries += 1;
            self.commands.push_back(Command::Forget { seq });
        } else if self.drain.is_some() || (!promised && self.slots.free() == 0) {
            self.counters.refused += 1;
            self.commands.push_back(Command::Refuse { seq });
        } else {
            self.counters.unpromised += u64::from(!promised);
            self.start(queue, seq, lease_until);
        }
    }

    /// Accounts for a job that arrived; true if a pull of this epoch had promised it a slot.
    fn note_delivery(&mut self, epoch: Epoch, lane: Lane, queue: QueueIx, pending: u64) -> bool {
        let (now, current) = (self.now, epoch == self.epoch);
        let lively_until = now + self.config.heartbeat_missed();
        self.heard();
        self.watchdog.on_fetched();
        self.ask_at = now + self.config.reconcile;
        for queue in &mut self.queues {
            queue.starved_until = None;
        }
        let Some(queue) = self.queue_mut(queue) else {
            return false;
        };
        queue.backlog = pending;
        queue.backoff.reset();
        queue.lively_until = lively_until;
        if !current {
            return false;
        }
        let taken = queue.pulls.take(lane, lively_until);
        if let Taken::Filled(batch) = taken {
            queue.widen(batch);
        }
        if taken != Taken::Unpromised {
            self.slots.withdraw(1);
        }
        taken != Taken::Unpromised
    }

    fn start(&mut self, queue: QueueIx, seq: Seq, lease_until: Millis) {
        self.slots.take();
        self.jobs.start(seq, queue, lease_until);
        self.leases.cover(&self.config, self.now, lease_until);
        self.commands.push_back(Command::Start { seq });
    }

    pub(super) fn on_finished(&mut self, seq: Seq, verdict: Verdict) {
        let was_full = self.slots.idle() == 0;
        let Some(job) = self.jobs.finish(seq) else {
            self.counters.unknown_finishes += 1;
            return;
        };
        if !job.replaced {
            self.slots.free_one();
            if was_full {
                self.watchdog.on_first_idle(&self.config, self.now);
                self.ask_at = self.ask_at.max(self.now + self.config.reconcile);
            }
        }
        if job.lost || self.now >= job.lease_until {
            // Not counted yet where its end and that of its lease come in one turn.
            self.counters.leases_lost += u64::from(!job.lost);
            let ours = job.regained_until.is_some_and(|until| self.now < until);
            self.commands.push_back(match ours {
                true => Command::Refuse { seq },
                false => Command::Forget { seq },
            });
        } else if verdict == Verdict::Abandon {
            self.commands.push_back(Command::Forget { seq });
        } else {
            let due = self.now + self.config.confirm_timeout;
            self.settling.begin(seq, job.queue, job.lease_until, due);
            self.commands.push_back(Command::Settle { seq, verdict });
        }
    }

    pub(super) fn cancel(&mut self, seq: Seq, reason: CancelReason) {
        let stuck_at = self.now + self.config.cancel_grace;
        if self.jobs.cancel(seq, reason, stuck_at) {
            self.commands
                .push_back(Command::CancelHandler { seq, reason });
        }
    }

    /// Reports the handlers that did not stop when asked to, and replaces their slots if told to.
    pub(super) fn report_stuck(&mut self) {
        while let Some((seq, replaced)) = self.jobs.next_stuck(self.now, self.config.replace_stuck)
        {
            if replaced {
                self.slots.free_one();
            }
            self.counters.stuck += 1;
            self.commands.push_back(Command::ReportStuck { seq });
        }
    }

    /// Settles again what is not confirmed in time.
    pub(super) fn confirm_overdue(&mut self) {
        let next = self.now + self.config.confirm_timeout;
        let mut seqs = Vec::new();
        while let Some(seq) = self.settling.next_overdue(self.now, next) {
            seqs.push(seq);
        }
        if !seqs.is_empty() {
            self.counters.confirms += seqs.len() as u64;
            self.commands.push_back(Command::Confirm { seqs });
        }
    }
}
