//! What the engine's commands do: the part of the driver, with a check of each.

use repull_worker::engine::{Command, Event, Seq, Verdict};

use super::{Answer, Handler, Violation, World};
use crate::server::{Place, Waiting};
use crate::shell::claims;

impl World {
    /// Hands events to the engine, and carries out what it wants done.
    pub(crate) fn turn(&mut self, events: &[Event]) -> Result<(), Violation> {
        let commands = self.shell.turn(self.now, events);
        let lost = self.lose_next || self.cut;
        for command in commands {
            self.carry_out(command, lost)?;
        }
        Ok(())
    }

    pub(super) fn carry_out(&mut self, command: Command, lost: bool) -> Result<(), Violation> {
        for seq in claims(&command) {
            self.check_holder(seq, &command)?;
        }
        match command {
            Command::Pull { .. } => self.pull(&command, lost)?,
            Command::Start { seq } => self.start(seq)?,
            Command::Refuse { seq } => {
                if !self.draining && !self.disturbed {
                    return Err(format!("{seq:?} is handed back though nothing went wrong"));
                }
                if !self.sending_is_lost(lost) {
                    self.server.nak(seq);
                }
            }
            Command::Settle { seq, verdict } => {
                if self.ended.get(&seq) != Some(&verdict) {
                    return Err(format!("{seq:?} is settled without having ended so"));
                }
                self.settling.insert(seq, verdict);
                self.ack(seq, lost);
            }
            Command::AckAgain { seq } => self.ack_settling(seq, lost)?,
            Command::Confirm { seqs } => {
                for seq in seqs {
                    self.ack_settling(seq, lost)?;
                }
            }
            Command::KeepAlive { queue, batch, seqs } => {
                if !self.sending_is_lost(lost) {
                    for seq in seqs {
                        self.server.extend(self.now, seq);
                    }
                    self.answers.push_back(Answer::Extended(queue, batch));
                }
            }
            Command::CancelHandler { seq, .. } => {
                let handler = self.handlers.get_mut(&seq);
                let Some(handler) = handler.filter(|handler| !handler.cancelled) else {
                    return Err(format!("{seq:?} is cancelled twice, or does not run"));
                };
                handler.cancelled = true;
            }
            Command::Forget { seq } => drop(self.settling.remove(&seq)),
            Command::ReportStuck { seq } => {
                let cancelled = self
                    .handlers
                    .get(&seq)
                    .is_some_and(|handler| handler.cancelled);
                if !cancelled || !self.stuck.insert(seq) {
                    return Err(format!("{seq:?} is reported as stuck, wrongly or twice"));
                }
            }
            Command::AskBacklog { queue } => {
                if !self.sending_is_lost(lost) {
                    self.answers.push_back(Answer::Backlog(queue));
                }
            }
            Command::NewEpoch | Command::Reconnect => self.asked_epoch = true,
            Command::Exit { .. } => self.exited = true,
            Command::Stopped => {
                if std::mem::replace(&mut self.stopped, true) {
                    return Err("stopped twice".into());
                }
                self.check_nothing_left()?;
            }
        }
        Ok(())
    }

    /// The first sending of a turn that is to be lost takes the others with it.
    pub(super) fn sending_is_lost(&mut self, lost: bool) -> bool {
        if lost {
            self.lose_next = false;
        }
        lost
    }

    pub(super) fn pull(&mut self, command: &Command, lost: bool) -> Result<(), Violation> {
        let Command::Pull {
            epoch,
            lane,
            queue,
            pull,
            batch,
            expires,
            heartbeat,
        } = *command
        else {
            unreachable!("called for pulls")
        };
        let queue_at = usize::from(queue.0);
        if batch == 0 || self.paused[queue_at] || self.draining {
            return Err(format!("{command:?} must not be sent"));
        }
        if heartbeat.is_some_and(|heartbeat| heartbeat * 2 > expires) {
            return Err(format!("{command:?}: the server refuses such a heartbeat"));
        }
        if epoch == self.epoch && !self.sending_is_lost(lost) {
            let now = self.now;
            self.server.waiting[queue_at].push(Waiting {
                epoch,
                lane,
                pull,
                left: batch,
                ends_at: now + expires,
                heartbeat: heartbeat.map(|interval| (interval, now + interval)),
            });
        }
        Ok(())
    }

    pub(super) fn start(&mut self, seq: Seq) -> Result<(), Violation> {
        if self.settling.contains_key(&seq) {
            return Err(format!("{seq:?} is run again although it is done"));
        }
        if self.handlers.insert(seq, Handler::default()).is_some() {
            return Err(format!("{seq:?} is started while it runs"));
        }
        Ok(())
    }

    pub(super) fn ack_settling(&mut self, seq: Seq, lost: bool) -> Result<(), Violation> {
        if !self.settling.contains_key(&seq) {
            return Err(format!("{seq:?} is acked and was not being settled"));
        }
        self.ack(seq, lost);
        Ok(())
    }

    pub(super) fn ack(&mut self, seq: Seq, lost: bool) {
        if self.sending_is_lost(lost) {
            return;
        }
        match self.settling[&seq] {
            Verdict::HandBack => self.server.hand_back(seq),
            Verdict::Settle | Verdict::Abandon => self.server.ack(seq),
        }
        self.answers.push_back(Answer::Settled(seq));
    }

    /// A worker that stops before its time is over has nothing left to do.
    fn check_nothing_left(&self) -> Result<(), Violation> {
        let (running, settling) = (self.handlers.len(), self.shell.engine.snapshot().settling);
        if running + settling as usize > 0 && self.now < self.ends_at {
            return Err(format!(
                "stopped with {running} running, {settling} settling, and time"
            ));
        }
        Ok(())
    }

    /// Nothing may be said about a job by a worker that does not hold it.
    pub(super) fn check_holder(&self, seq: Seq, command: &Command) -> Result<(), Violation> {
        match self.server.jobs.get(&seq).map(|job| &job.place) {
            Some(Place::Ours(until)) if self.now < *until => Ok(()),
            Some(Place::Acked) => Ok(()),
            place => Err(format!(
                "{command:?}, but {seq:?} is {place:?} at {}",
                self.now
            )),
        }
    }
}
