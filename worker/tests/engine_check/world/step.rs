//! What each action does.

use repull_worker::engine::{Epoch, Event, Lane, Millis, PullId, QueueIx, Seq, Status, Verdict};

use super::{Action, Answer, Down, Violation, World};
use crate::server::Place;

impl World {
    /// Does one thing.
    pub(crate) fn step(&mut self, action: Action) -> Result<(), Violation> {
        match action {
            Action::Serve(queue) => self.serve(queue),
            Action::Receive(epoch, lane) => {
                let message = self.take_down(epoch, lane);
                self.turn(&[arrived(epoch, lane, &message)])?;
            }
            Action::ReceiveAll => {
                let mut events = Vec::new();
                for ((epoch, lane), messages) in std::mem::take(&mut self.down) {
                    events.extend(messages.iter().map(|message| arrived(epoch, lane, message)));
                }
                self.turn(&events)?;
            }
            Action::Hear => self.hear()?,
            Action::Finish(seq, verdict) => {
                if verdict == Verdict::Abandon {
                    self.budget.abandons -= 1;
                    self.disturbed = true; // It will be delivered again.
                }
                self.finish(&[(seq, verdict)])?;
            }
            Action::FinishAll => {
                let ends: Vec<_> = self
                    .handlers
                    .keys()
                    .map(|seq| (*seq, Verdict::Settle))
                    .collect();
                self.finish(&ends)?;
            }
            Action::Tick => self.turn(&[Event::Tick])?,
            Action::Pass => {
                self.now = self
                    .next_moment()
                    .expect("time passes when something is due");
                self.serve_time();
            }
            Action::OpenEpoch { late_arrive } => self.open_epoch(late_arrive)?,
            Action::Pause(queue) => {
                self.budget.pauses -= 1;
                self.paused[usize::from(queue.0)] = true;
                self.turn(&[Event::QueuePaused { queue }])?;
            }
            Action::Resume(queue) => {
                self.paused[usize::from(queue.0)] = false;
                self.turn(&[Event::QueueResumed { queue }])?;
            }
            Action::Cancel(seq) => {
                self.budget.cancels -= 1;
                self.turn(&[Event::Cancel { seq }])?;
            }
            Action::Drain => {
                self.budget.drains -= 1;
                self.drain_by(self.drain_spans.0);
                self.turn(&[Event::Drain])?;
            }
            Action::StopNow => {
                self.budget.stops -= 1;
                self.drain_by(Millis(0));
                self.turn(&[Event::StopNow])?;
            }
            Action::OtherAcks(seq) => self.server.ack(seq),
            Action::Notice => {
                self.noticed = true;
                self.turn(&[Event::Disconnected])?;
            }
            Action::Mend => {
                self.cut = false;
                self.noticed = false;
                self.open_epoch(false)?;
            }
            fault => self.fault(fault)?,
        }
        self.check()
    }

    fn drain_by(&mut self, time: Millis) {
        self.draining = true;
        self.ends_at = self.ends_at.min(self.now + time + self.drain_spans.1);
    }

    fn fault(&mut self, fault: Action) -> Result<(), Violation> {
        self.disturbed = true;
        if let Action::Reconnect { late_arrive } = fault {
            self.budget.reconnects -= 1;
            self.answers.clear();
            return self.open_epoch(late_arrive);
        }
        self.budget.faults -= 1;
        match fault {
            Action::LosePull(queue, index) => {
                self.server.waiting[usize::from(queue.0)].remove(index);
            }
            Action::EndPull(queue, index, status) => {
                let waiting = &mut self.server.waiting[usize::from(queue.0)];
                let ended = waiting.remove(index);
                if status == Status::Terminal {
                    waiting.clear(); // The others are gone too, and not told.
                }
                self.send_status(ended.epoch, ended.pull, status);
            }
            Action::LoseDown(epoch, lane) => drop(self.take_down(epoch, lane)),
            Action::LoseAnswer => drop(self.answers.pop_front()),
            Action::LoseNextSending => self.lose_next = true,
            Action::Cut => {
                self.cut = true;
                self.down.clear();
                self.answers.clear();
            }
            Action::Sleep(span) => {
                self.now = self.now + span;
                self.serve_time();
            }
            Action::OtherTakes(seq) => {
                let until = self.now + self.server.ack_wait;
                self.server.jobs.get_mut(&seq).expect("a ready job").place = Place::Others(until);
            }
            other => unreachable!("{other:?} is no fault"),
        }
        Ok(())
    }

    pub(crate) fn serve(&mut self, queue: QueueIx) {
        let served = self.server.serve(self.now, queue);
        if let Some((epoch, lane, seq, deliveries, pending)) = served {
            if self.cut {
                return;
            }
            let job = Down::Job {
                queue,
                seq,
                deliveries,
                pending,
            };
            self.down.entry((epoch, lane)).or_default().push_back(job);
        }
    }

    fn take_down(&mut self, epoch: Epoch, lane: Lane) -> Down {
        let messages = self
            .down
            .get_mut(&(epoch, lane))
            .expect("a message is on its way");
        let message = messages.pop_front().expect("a message is on its way");
        if messages.is_empty() {
            self.down.remove(&(epoch, lane));
        }
        message
    }

    fn send_status(&mut self, epoch: Epoch, pull: PullId, status: Status) {
        if self.cut {
            return;
        }
        let lane = self.down.entry((epoch, pull.lane())).or_default();
        lane.push_back(Down::Status { pull, status });
    }

    fn hear(&mut self) -> Result<(), Violation> {
        let event = match self.answers.pop_front().expect("an answer is on its way") {
            Answer::Settled(seq) => {
                self.settling.remove(&seq);
                Event::Settled { seq }
            }
            Answer::Extended(queue, batch) => Event::Extended { queue, batch },
            Answer::Backlog(queue) => Event::BacklogSeen {
                queue,
                backlog: self.server.backlog(queue),
            },
        };
        self.turn(&[event])
    }

    fn finish(&mut self, ends: &[(Seq, Verdict)]) -> Result<(), Violation> {
        let mut events = Vec::new();
        for (seq, verdict) in ends {
            self.handlers.remove(seq).expect("a running handler ends");
            self.stuck.remove(seq);
            self.ended.insert(*seq, *verdict);
            events.push(Event::Finished {
                seq: *seq,
                verdict: *verdict,
            });
        }
        self.turn(&events)?;
        self.ended.clear();
        Ok(())
    }

    fn open_epoch(&mut self, late_arrive: bool) -> Result<(), Violation> {
        self.asked_epoch = false;
        self.epoch = Epoch(self.epoch.0 + 1);
        for waiting in &mut self.server.waiting {
            waiting.clear();
        }
        if !late_arrive {
            self.down.clear();
        }
        self.disturbed = true;
        self.turn(&[Event::EpochChanged { epoch: self.epoch }])
    }

    /// What the server does by itself by now.
    fn serve_time(&mut self) {
        let now = self.now;
        self.server.lapse(now);
        let mut statuses = Vec::new();
        for waiting in &mut self.server.waiting {
            for pull in waiting.iter_mut() {
                if let Some((interval, next)) = &mut pull.heartbeat
                    && now >= *next
                {
                    *next = now + *interval;
                    statuses.push((pull.epoch, pull.pull, Status::Heartbeat));
                }
            }
            waiting.retain(|pull| {
                let over = now >= pull.ends_at;
                if over {
                    let status = Status::Expired {
                        unfilled: Some(pull.left),
                    };
                    statuses.push((pull.epoch, pull.pull, status));
                }
                !over
            });
        }
        for (epoch, pull, status) in statuses {
            self.send_status(epoch, pull, status);
        }
    }
}

fn arrived(epoch: Epoch, lane: Lane, message: &Down) -> Event {
    match *message {
        Down::Job {
            queue,
            seq,
            deliveries,
            pending,
        } => Event::Delivered {
            epoch,
            lane,
            queue,
            seq,
            deliveries,
            pending,
        },
        Down::Status { pull, status } => Event::PullStatus {
            epoch,
            pull,
            status,
        },
    }
}
