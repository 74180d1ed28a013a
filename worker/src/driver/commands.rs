//! What the engine commands, carried out.

use async_nats::Subject;
use repull::wire::{self, Place};
use tracing::{error, warn};

use super::{Driver, Moment};
use crate::control;
use crate::engine::{
    CancelReason, Command, Event, Millis, NeverStarted, PullId, QueueIx, Seq, Status,
};
use crate::inbox::Token;
use crate::job_task::JobTask;
use crate::run;
use crate::settle::{self, Close, Step};

/// An ack that goes out at the end of the turn.
pub(super) struct Closing {
    sequence: u64,
    ack: Subject,
    close: Close,
}

impl Driver {
    /// Carries out everything that the engine wants done, and then sends the turn's acks.
    pub(super) async fn carry_out(&mut self) {
        self.moment = Moment::now();
        while let Some(command) = self.engine.next_command() {
            self.execute(command).await;
        }
        self.flush_closes().await;
        let snapshot = self.engine.snapshot();
        self.metrics
            .leases_lost
            .inc_by(snapshot.counters.leases_lost - self.metrics.leases_lost.get());
        self.slots.update(&snapshot);
        let namespace = self.client.namespace();
        self.beacon.beat(&self.slots.stats(), self.draining, || {
            self.jobs
                .values()
                .filter_map(|held| held.running(namespace))
                .collect()
        });
    }

    async fn execute(&mut self, command: Command) {
        match command {
            Command::Pull {
                epoch,
                lane,
                queue,
                pull,
                batch,
                expires,
                heartbeat,
            } => {
                if epoch == self.inbox.epoch {
                    let reply = self.inbox.pull_reply(lane, pull);
                    self.pull(queue, reply, pull, &pull_body(batch, expires, heartbeat))
                        .await;
                } else {
                    self.never_sent(pull);
                }
            }
            Command::Start { seq } => self.start(seq),
            Command::Refuse { seq } => self.hand_back(seq).await,
            Command::AckAgain { seq } => {
                let ack = self.jobs.get(&seq.0).map(|held| held.ack.clone());
                self.repeat(seq, ack).await;
            }
            Command::KeepAlive { queue, batch, seqs } => self.keep_alive(queue, batch, &seqs).await,
            Command::CancelHandler { seq, reason } => self.cancel_handler(seq, reason),
            Command::Settle { seq, .. } => self.settle(seq).await,
            Command::Confirm { seqs } => {
                for seq in seqs {
                    self.repeat(seq, None).await;
                }
            }
            Command::Forget { seq } => {
                self.jobs.remove(&seq.0);
                self.book.forget(seq.0);
            }
            Command::ReportStuck { seq } => self.report_stuck(seq),
            Command::AskBacklog { queue } => {
                if let Some(lane) = self.lanes.get(queue) {
                    let (client, control) = (self.client.clone(), self.control_sender.clone());
                    tokio::spawn(control::ask_backlog(
                        client,
                        queue,
                        lane.lane.clone(),
                        control,
                    ));
                }
            }
            Command::NewEpoch => {
                warn!("pulls go unanswered; subscribing anew");
                self.open_epoch();
            }
            Command::Reconnect => {
                warn!("jobs wait and none arrives; connecting anew");
                let nats = self.client.nats().clone();
                tokio::spawn(async move { nats.force_reconnect().await });
            }
            Command::Exit { fault } => {
                error!(
                    class = fault.class.as_str(),
                    reason = fault.message,
                    "nothing brought the jobs back; ending the process"
                );
                self.stalled(fault);
            }
            Command::Stopped => self.end = Some(Ok(())),
        }
    }

    async fn pull(&mut self, queue: QueueIx, reply: String, pull: PullId, body: &str) {
        let Some(lane) = self.lanes.get(queue) else {
            return;
        };
        let subject = lane.next_subject.clone();
        if let Some(lane) = self.metrics.lane(queue) {
            lane.pulls.inc();
        }
        if !self
            .send_for_reply(subject, reply, body.to_owned().into())
            .await
        {
            self.never_sent(pull);
        }
    }

    fn never_sent(&mut self, pull: PullId) {
        let status = Status::NeverStarted(NeverStarted::NotSent);
        self.tell(Event::PullStatus {
            epoch: self.epoch,
            pull,
            status,
        });
    }

    fn start(&mut self, seq: Seq) {
        let Some(held) = self.jobs.get_mut(&seq.0) else {
            return;
        };
        held.started = Some(self.moment);
        let Some(lane) = self.lanes.get(held.queue) else {
            return;
        };
        let task = JobTask {
            crew: self.crew.clone(),
            delivery: held.delivery.clone(),
            lane: lane.clone(),
            cancel: held.cancel.clone(),
            progress: held.progress.clone(),
        };
        let (queue, delivery) = (held.queue, held.delivery.clone());
        task.spawn(self.done_sender.clone());
        let refill = self.slots.started_one(&delivery, self.moment);
        self.count_start(queue, &delivery, refill);
    }

    /// Gives a job that was not started (or was lost and regained) back to its queue.
    async fn hand_back(&mut self, seq: Seq) {
        let Some(held) = self.jobs.remove(&seq.0) else {
            return;
        };
        self.book.forget(seq.0);
        self.metrics.handed_back.inc();
        let delivery = &held.delivery;
        let namespace = self.client.namespace();
        let job = wire::decode(
            namespace,
            Place::Jobs,
            &delivery.subject,
            delivery.headers.as_ref(),
            delivery.body.clone(),
        );
        let message = job.ok().and_then(|job| {
            let attempt = job.attempts_used.saturating_add(delivery.info.deliveries);
            settle::hand_back(namespace, &job, seq.0, attempt)
                .publish
                .pop()
        });
        match message {
            Some(message) => {
                self.backs.insert(seq.0, held.ack.clone());
                let reply = self.inbox.reply(Token::Back { sequence: seq.0 });
                self.publish(message, reply).await;
            }
            None => self.send(held.ack.clone(), "-NAK".into()).await,
        }
    }

    async fn keep_alive(&mut self, queue: QueueIx, batch: u64, seqs: &[Seq]) {
        let acks: Vec<Subject> = seqs
            .iter()
            .filter_map(|seq| self.jobs.get(&seq.0).map(|held| held.ack.clone()))
            .collect();
        let Some((last, others)) = acks.split_last() else {
            return;
        };
        for ack in others {
            self.send(ack.clone(), "+WPI".into()).await;
        }
        // A consumer handles what one connection sends it in order: this reply speaks for all.
        let reply = self.inbox.reply(Token::KeepAlive {
            queue: usize::from(queue.0),
            batch,
        });
        self.send_for_reply(last.clone(), reply, "+WPI".into())
            .await;
    }

    fn cancel_handler(&mut self, seq: Seq, reason: CancelReason) {
        let Some(held) = self.jobs.get(&seq.0) else {
            return;
        };
        let reason = match reason {
            CancelReason::LeaseLost => {
                warn!(subject = %held.delivery.subject, "lost the lease of a running job; cancelling it");
                run::CancelReason::LeaseLost
            }
            CancelReason::Requested => run::CancelReason::Requested(held.cancel_text.clone()),
            CancelReason::Drain => run::CancelReason::Drain,
            CancelReason::Stop => run::CancelReason::Stop,
        };
        held.cancel.cancel(reason);
    }

    async fn settle(&mut self, seq: Seq) {
        let Some(held) = self.jobs.get_mut(&seq.0) else {
            return;
        };
        let Some(plan) = held.plan.take() else { return };
        held.let_go_of_args();
        let (queue, ack) = (usize::from(held.queue.0), held.ack.clone());
        let mut steps = std::mem::take(&mut self.steps);
        self.book.open(seq.0, queue, ack, plan, &mut steps);
        self.take_steps(&mut steps).await;
        self.steps = steps;
    }

    /// Goes on with a plan whose confirmation is overdue; its ack is then confirmed by itself.
    async fn repeat(&mut self, seq: Seq, ack: Option<Subject>) {
        let mut steps = std::mem::take(&mut self.steps);
        self.book.repeat(seq.0, ack, &mut steps);
        for step in steps.drain(..) {
            match step {
                Step::Close {
                    sequence,
                    ack,
                    close,
                    ..
                } => {
                    let reply = self.inbox.reply(Token::Ack { sequence });
                    self.send_for_reply(ack, reply, close.payload()).await;
                }
                Step::Publish {
                    sequence,
                    index,
                    message,
                } => {
                    let reply = self.inbox.reply(Token::Publish { sequence, index });
                    self.publish(message, reply).await;
                }
            }
        }
        self.steps = steps;
    }

    /// Publishes at once; acks wait for the end of the turn.
    pub(super) async fn take_steps(&mut self, steps: &mut Vec<Step>) {
        for step in steps.drain(..) {
            match step {
                Step::Publish {
                    sequence,
                    index,
                    message,
                } => {
                    let reply = self.inbox.reply(Token::Publish { sequence, index });
                    self.publish(message, reply).await;
                }
                Step::Close {
                    sequence,
                    queue,
                    ack,
                    close,
                } => {
                    if let Some(closes) = self.closes.get_mut(queue) {
                        closes.push(Closing {
                            sequence,
                            ack,
                            close,
                        });
                    }
                }
            }
        }
    }

    /// Sends the turn's acks; the last one to each consumer asks for a reply.
    async fn flush_closes(&mut self) {
        for queue in 0..self.closes.len() {
            let Some(closes) = self
                .closes
                .get_mut(queue)
                .filter(|closes| !closes.is_empty())
            else {
                continue;
            };
            let mut closes = std::mem::take(closes);
            let last = closes.len() - 1;
            self.batch += 1;
            self.book.closed(
                queue,
                self.batch,
                closes.iter().map(|closing| closing.sequence).collect(),
            );
            for (index, closing) in closes.drain(..).enumerate() {
                if index == last {
                    let reply = self.inbox.reply(Token::Acks {
                        queue,
                        batch: self.batch,
                    });
                    self.send_for_reply(closing.ack, reply, closing.close.payload())
                        .await;
                } else {
                    self.send(closing.ack, closing.close.payload()).await;
                }
            }
            // Keeps the buffer.
            if let Some(slot) = self.closes.get_mut(queue) {
                *slot = closes;
            }
        }
    }

    fn report_stuck(&self, seq: Seq) {
        let Some(held) = self.jobs.get(&seq.0) else {
            return;
        };
        let ran = held.started.map(|at| at.instant.elapsed());
        error!(subject = %held.delivery.subject, ?ran, "a handler ignores its cancellation and keeps its slot");
    }
}

/// The body of a pull request. Durations are in nanoseconds.
fn pull_body(batch: u32, expires: Millis, heartbeat: Option<Millis>) -> String {
    let expires = expires.0.saturating_mul(1_000_000);
    match heartbeat {
        Some(heartbeat) => {
            let heartbeat = heartbeat.0.saturating_mul(1_000_000);
            format!(r#"{{"batch":{batch},"expires":{expires},"idle_heartbeat":{heartbeat}}}"#)
        }
        None => format!(r#"{{"batch":{batch},"expires":{expires}}}"#),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulls_say_what_the_server_expects() {
        assert_eq!(
            pull_body(5, Millis(30_000), Some(Millis(5_000))),
            r#"{"batch":5,"expires":30000000000,"idle_heartbeat":5000000000}"#
        );
        assert_eq!(
            pull_body(5, Millis(250), None),
            r#"{"batch":5,"expires":250000000}"#
        );
    }
}
