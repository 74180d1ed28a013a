//! What arrives, as the engine's events.

use async_nats::{Message, StatusCode};
use repull::client::{Answer, read_answer};
use repull::id::QueueName;
use tracing::{debug, error, info, warn};

use super::Driver;
use super::held::Held;
use crate::control::Control;
use crate::delivery::{Delivery, DeliveryInfo};
use crate::engine::{self, Epoch, Event, Millis, QueueIx, Seq};
use crate::inbox::{Inbox, Token};
use crate::job_task::Done;
use crate::metrics::StatusLabel;
use crate::settle::{Close, Settled};
use crate::status;

impl Driver {
    /// A message on one of the lanes: a job, or a word about a pull.
    pub(super) fn on_lane(
        &mut self,
        now: Millis,
        epoch: Epoch,
        lane: engine::Lane,
        message: Message,
    ) {
        if message.status.is_some() {
            let status = status::read(&message);
            self.metrics
                .statuses
                .get_or_create(&StatusLabel {
                    status: status_word(status),
                })
                .inc();
            let Some(pull) = Inbox::pull_of(&message.subject) else {
                return;
            };
            if status == engine::Status::NeverStarted(engine::NeverStarted::NoResponders) {
                self.seek_consumer(pull.queue());
            }
            self.engine.handle(
                now,
                Event::PullStatus {
                    epoch,
                    pull,
                    status,
                },
            );
            return;
        }
        let Some(ack) = message.reply.clone() else {
            warn!(subject = %message.subject, "a message without an ack subject came to the worker's inbox; passing it over");
            return;
        };
        let Some((queue, info)) = DeliveryInfo::parse(&ack)
            .and_then(|(consumer, info)| Some((self.lanes.find(consumer)?, info)))
        else {
            error!(%ack, "an ack subject can't be read; the job will come again");
            return;
        };
        let delivery = Delivery {
            subject: message.subject,
            headers: message.headers,
            body: message.payload,
            ack,
            info,
        };
        self.on_delivery(now, epoch, lane, queue, delivery);
    }

    fn on_delivery(
        &mut self,
        now: Millis,
        epoch: Epoch,
        lane: engine::Lane,
        queue: QueueIx,
        delivery: Delivery,
    ) {
        let DeliveryInfo {
            sequence,
            deliveries,
            pending,
            ..
        } = delivery.info;
        if deliveries > 1 {
            self.metrics.redeliveries.inc();
        }
        self.slots.delivered(self.moment);
        match self.jobs.get_mut(&sequence) {
            // It is held already: only its newest ack subject counts from now on.
            Some(held) => held.ack = delivery.ack,
            None => {
                self.jobs.insert(sequence, Held::new(queue, delivery));
            }
        }
        let seq = Seq(sequence);
        self.engine.handle(
            now,
            Event::Delivered {
                epoch,
                lane,
                queue,
                seq,
                deliveries,
                pending,
            },
        );
    }

    /// An attempt is over.
    pub(super) fn on_done(&mut self, now: Millis, done: Done) {
        let Done {
            sequence,
            verdict,
            plan,
            ran,
        } = done;
        self.slots.freed(self.engine_has_backlog(), self.moment);
        if let Some(held) = self.jobs.get_mut(&sequence) {
            let queue = held.queue;
            let kind = plan.as_ref().and_then(|plan| plan.kind);
            held.plan = plan;
            held.ended = true;
            self.count_end(queue, ran.as_ref(), kind, verdict);
        }
        self.engine.handle(
            now,
            Event::Finished {
                seq: Seq(sequence),
                verdict,
            },
        );
    }

    /// The server's answer to something we sent.
    pub(super) async fn on_answer(&mut self, now: Millis, message: &Message) {
        let Some(token) = Token::read(&message.subject) else {
            return;
        };
        let nobody = message.status == Some(StatusCode::NO_RESPONDERS);
        let mut settled = Settled::default();
        match token {
            Token::Publish { sequence, index } => {
                let answer = read_answer("", message.status, &message.payload);
                let mut steps = std::mem::take(&mut self.steps);
                if let Some(error) = self.book.published(sequence, index, answer, &mut steps) {
                    error!(sequence, %error, "something that settles a job was refused");
                }
                self.take_steps(&mut steps).await;
                self.steps = steps;
            }
            // Nobody is there to take the ack: it counts as not given, and is given again.
            Token::Acks { .. } | Token::Ack { .. } | Token::KeepAlive { .. } if nobody => {
                debug!(?token, "no consumer took an ack");
            }
            Token::Acks { queue, batch } => self.book.confirmed(queue, batch, &mut settled),
            Token::Ack { sequence } => self.book.confirmed_one(sequence, &mut settled),
            Token::KeepAlive { queue, batch } => {
                let queue = QueueIx(u16::try_from(queue).unwrap_or(u16::MAX));
                self.engine.handle(now, Event::Extended { queue, batch });
            }
            Token::Back { sequence } => self.on_back(sequence, message).await,
        }
        for sequence in settled.sequences {
            self.jobs.remove(&sequence);
            self.engine
                .handle(now, Event::Settled { seq: Seq(sequence) });
        }
    }

    /// A job that was given back is on its queue again, or could not be put there.
    async fn on_back(&mut self, sequence: u64, message: &Message) {
        let answer = read_answer("", message.status, &message.payload);
        let Some(ack) = self.backs.remove(&sequence) else {
            return;
        };
        match answer {
            // Where the subject is not ours any more, somebody else has it.
            Answer::Stored { .. } | Answer::WrongLast => self.send(ack, Close::Ack.payload()).await,
            Answer::Again { .. } | Answer::Final(_) => self.send(ack, "-NAK".into()).await,
        }
    }

    pub(super) async fn on_control(&mut self, message: Control) {
        match message {
            Control::QueueChanged(name) => self.on_queue_changed(&name),
            Control::CancelJob { id, reason, reply } => self.cancel_job(&id, &reason, reply).await,
            Control::EpochOpened(inbox) => self.on_epoch_opened(inbox).await,
            Control::EpochFailed(epoch) => self.on_epoch_failed(epoch),
            Control::ConsumerSought(queue, found) => self.on_consumer_sought(queue, found),
            Control::Backlog(queue, backlog) => self.tell(Event::BacklogSeen { queue, backlog }),
        }
    }

    /// Pauses or resumes the lanes of a queue. A pull that is open would still bring what comes in, so
    /// the subscriptions of a paused queue's pulls are left.
    fn on_queue_changed(&mut self, name: &QueueName) {
        let paused = self.crew.queues.get(name).paused.is_some();
        info!(queue = %name, paused, "the queue's settings changed");
        let before = self.engine.snapshot();
        let mut has_pulls = false;
        for (index, seen) in before.queues.iter().enumerate() {
            let Ok(ix) = u16::try_from(index).map(QueueIx) else {
                continue;
            };
            let lane = self.lanes.get(ix);
            if lane.is_none_or(|lane| lane.lane.queue != *name) {
                continue;
            }
            has_pulls |= seen.open_pulls > 0;
            self.tell(match paused {
                true => Event::QueuePaused { queue: ix },
                false => Event::QueueResumed { queue: ix },
            });
        }
        if paused && has_pulls && !self.draining {
            self.open_epoch();
        }
    }

    async fn cancel_job(&mut self, id: &str, reason: &str, reply: Option<async_nats::Subject>) {
        let found = self
            .jobs
            .iter_mut()
            .find(|(_, held)| held.started.is_some() && !held.ended && held.is(id));
        let Some((&sequence, held)) = found else {
            return;
        };
        info!(job = id, reason, "cancelling a running job on request");
        reason.clone_into(&mut held.cancel_text);
        if let Some(reply) = reply {
            let worker = self.crew.worker.to_string();
            self.send(reply, worker.into()).await;
        }
        self.tell(Event::Cancel { seq: Seq(sequence) });
    }
}

fn status_word(status: engine::Status) -> &'static str {
    use engine::{NeverStarted, Status};
    match status {
        Status::Heartbeat => "heartbeat",
        Status::Expired { .. } => "expired",
        Status::NeverStarted(NeverStarted::NoResponders) => "no_responders",
        Status::NeverStarted(NeverStarted::WaitingFull) => "waiting_full",
        Status::NeverStarted(NeverStarted::NotSent) => "not_sent",
        Status::Terminal => "terminal",
        Status::Refused => "refused",
        Status::Unknown => "unknown",
    }
}
