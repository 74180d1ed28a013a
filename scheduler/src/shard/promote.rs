//! The way of a later job into the work queue: read, publish, remove.
//!
//! Many jobs are on their way at once, but each of them takes one step after the other: what is
//! published was read a moment ago, so that a job that was cancelled is not, and nothing is removed
//! before the work queue has confirmed that it holds the job.
//!
//! A crash, or a lost answer, between publishing and removing is healed by looking: the second
//! publish has the same message id and wants an empty subject. Where the work queue has forgotten the
//! id, after two minutes or its server's restart, it refuses for as long as the job is queued or
//! runs; and a job that has ended meanwhile is known by its outcome, which is looked for wherever an
//! earlier publish is possible. The same look keeps a retry away that was held up in a network until
//! its job had ended elsewhere.

use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;
use repull::client::{Answer, Client, Error, Expect, Message, Reply};
use repull::id::JobId;
use repull::telemetry::trace::{self, Step};
use repull::wire::{Address, Place, headers};
use tracing::{debug, warn};

use super::{Item, Shard, lookup};
use crate::delayed;
use crate::later::access::{Access, Read};

/// The longest pause before a job that another of its id holds back is looked at again.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The same for a fire that waits for the end of its schedule's previous run.
const BUFFERED_PAUSE_MAX: Duration = Duration::from_secs(2);

/// The first pause where it is the job's own previous attempt that is about to be acked.
const OWN_PAUSE: Duration = Duration::from_millis(20);

/// A later job on its way.
#[derive(Debug)]
pub(crate) struct Promotion {
    pub(crate) sequence: u64,
    tries: u32,
    /// It may have been published before, by us or by a leader before us.
    ambiguous: bool,
    /// What it is published under: nothing is sent where the subject names no job.
    target: String,
    msg_id: String,
    nonce: Option<String>,
    attempts_used: u32,
    buffered: bool,
    /// A read got no answer that can be believed but of the stream's leader, or none at all.
    of_leader: bool,
}

/// A request to the stream of later jobs that is under way.
#[derive(Debug)]
pub(crate) enum Asked {
    /// To read the message.
    Read(Box<Promotion>),
    /// To remove it.
    Removal(Box<Promotion>),
}

/// What a lookup beside the loop found.
#[derive(Debug)]
pub(crate) enum Promoted {
    /// Whether its message, which was read, is to be published.
    Read(Box<Promotion>, Result<Reading, Error>),
    /// What is in the way in the work queue.
    InTheWay(Box<Promotion>, Result<Way, Error>),
    /// It is queued, and is not among the later jobs any more.
    Removed(Box<Promotion>, Result<(), Error>),
}

/// What is to become of a later message that was read.
#[derive(Debug)]
pub(crate) enum Reading {
    /// Its job has ended.
    Ended,
    /// The run that it waits for waits itself for a retry.
    NotYet,
    /// To be published.
    Message(Box<StreamMessage>),
}

/// What holds a later job back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Nothing any more.
    Free,
    /// This very publish, from an earlier try.
    Same,
    /// The same enqueue's earlier attempt.
    Own,
    /// Another job of the same id.
    Other,
}

impl Promotion {
    /// A later job whose time has come. Where another leader may have begun with it, `ambiguous`.
    pub(crate) fn new(sequence: u64, ambiguous: bool) -> Self {
        Self {
            sequence,
            tries: 0,
            ambiguous,
            target: String::new(),
            msg_id: String::new(),
            nonce: None,
            attempts_used: 0,
            buffered: false,
            of_leader: false,
        }
    }

    /// Takes from the message what the way needs.
    fn learn(&mut self, client: &Client, message: &StreamMessage) {
        let header = |name| lookup::header(&message.headers, name);
        let namespace = client.namespace();
        let prefix = |place: Place| format!("{namespace}.{}.", place.token());
        let rest = message
            .subject
            .strip_prefix(prefix(Place::Later).as_str())
            .unwrap_or_default();
        let job_id = header(headers::JOB_ID).and_then(|id| JobId::new(id).ok());
        self.buffered = job_id.is_some();
        let rest = match (&job_id, rest.rsplit_once('.')) {
            (Some(id), Some((lane_and_task, _))) => format!("{lane_and_task}.{id}"),
            _ => rest.to_owned(),
        };
        self.target = format!("{}{rest}", prefix(Place::Jobs));
        self.nonce = header(headers::NONCE).map(str::to_owned);
        self.attempts_used = header(headers::ATTEMPT)
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0);
        let id = rest.rsplit('.').next().unwrap_or_default();
        self.msg_id = format!(
            "{}:{}:{}",
            self.nonce.as_deref().unwrap_or(id),
            self.attempts_used,
            self.sequence
        );
    }

    fn address(&self, client: &Client) -> Option<Address> {
        Address::parse(client.namespace(), Place::Jobs, &self.target).ok()
    }

    fn message(&self, stored: &StreamMessage) -> Message {
        let mut headers = async_nats::HeaderMap::new();
        for (name, values) in stored.headers.iter() {
            let name_text: &str = name.as_ref();
            let stays = name_text != headers::RUN_AT
                && name_text != headers::JOB_ID
                && !name_text.starts_with(headers::SERVER_PREFIX);
            for value in values.iter().filter(|_| stays) {
                headers.append(name.clone(), value.clone());
            }
        }
        Message {
            subject: self.target.clone(),
            headers,
            body: stored.payload.clone(),
            id: self.msg_id.clone(),
            expect: Expect::Nothing,
        }
    }
}

impl Shard {
    /// Starts with a later job.
    pub(super) async fn promote(&mut self, sequence: u64, ambiguous: bool) {
        if self.promoting.insert(sequence) {
            self.read(Box::new(Promotion::new(sequence, ambiguous)))
                .await;
        }
    }

    /// Reads it, for the first time or again: it may have been cancelled or replaced meanwhile.
    pub(super) async fn read(&mut self, promotion: Box<Promotion>) {
        let (subject, body) = self.access.read(promotion.sequence, promotion.of_leader);
        self.asked
            .send(Asked::Read(promotion), subject, None, body)
            .await;
    }

    /// Takes the answer to a request of a promotion.
    pub(super) async fn later_answered(&mut self, asked: Asked, reply: Reply) {
        match (asked, reply) {
            (Asked::Read(mut promotion), Reply::Came(answer)) => {
                match self.access.read_answer(*answer) {
                    Read::Found(stored) => self.found(promotion, stored).await,
                    Read::Absent => self.through(&promotion),
                    Read::AskLeader if !promotion.of_leader => {
                        promotion.of_leader = true;
                        self.read(promotion).await;
                    }
                    Read::AskLeader => self.stumbled(promotion, "no answer of the stream's leader"),
                    Read::Failed(reason) => self.stumbled(promotion, &reason),
                }
            }
            (Asked::Read(mut promotion), Reply::Lost(reason)) => {
                // Who may not read directly is told so by silence.
                promotion.of_leader = true;
                self.stumbled(promotion, &reason);
            }
            // Where a cancel came in between, whoever cancels looks once more in the work queue.
            (Asked::Removal(promotion), Reply::Came(answer)) if Access::is_removed(&answer) => {
                self.through(&promotion);
            }
            (Asked::Removal(promotion), _) => {
                let client = self.client.clone();
                self.work(async move {
                    let removed = lookup::delete(&client, Place::Later, promotion.sequence).await;
                    Promoted::Removed(promotion, removed.map(drop))
                });
            }
        }
    }

    /// Goes on with a message that is there: at once, or after a look at what else is known of the
    /// job where that may be in its way.
    async fn found(&mut self, mut promotion: Box<Promotion>, stored: Box<StreamMessage>) {
        promotion.learn(&self.client, &stored);
        let Some(address) = promotion.address(&self.client) else {
            // No job's subject: queued all the same, where it is found and told of as malformed.
            return self.publish(promotion, &stored).await;
        };
        let held_up = lookup::was_held_up(&stored);
        if !(promotion.ambiguous || held_up || promotion.buffered) {
            return self.publish(promotion, &stored).await;
        }
        let client = self.client.clone();
        self.work(async move {
            let reading = look(&client, &mut promotion, &address, stored, held_up).await;
            Promoted::Read(promotion, reading)
        });
    }

    async fn publish(&mut self, promotion: Box<Promotion>, stored: &StreamMessage) {
        let mut message = promotion.message(stored);
        if trace::is_on()
            && let Some(address) = promotion.address(&self.client)
        {
            trace::publish(Step::Forward, &address, &mut message.headers);
        }
        self.pipeline
            .send(Item::Promotion(promotion), message)
            .await;
    }

    /// Takes what a lookup found.
    pub(super) async fn promoted(&mut self, step: Promoted) {
        match step {
            Promoted::Read(promotion, Ok(Reading::Message(stored))) => {
                self.publish(promotion, &stored).await;
            }
            Promoted::Read(promotion, Ok(Reading::Ended)) => self.remove(promotion).await,
            Promoted::Read(promotion, Ok(Reading::NotYet)) => self.blocked(promotion, Way::Other),
            Promoted::InTheWay(promotion, Ok(Way::Same)) => self.remove(promotion).await,
            Promoted::InTheWay(promotion, Ok(way)) => self.blocked(promotion, way),
            Promoted::Removed(promotion, Ok(())) => self.through(&promotion),
            Promoted::Removed(mut promotion, Err(error)) => {
                // Its job is queued. It may have ended, and the work queue may have forgotten its id,
                // by the time of the next try.
                promotion.ambiguous = true;
                self.stumbled(promotion, &error.to_string());
            }
            Promoted::Read(promotion, Err(error)) | Promoted::InTheWay(promotion, Err(error)) => {
                self.stumbled(promotion, &error.to_string());
            }
        }
    }

    /// Takes the work queue's answer to a promotion.
    pub(super) async fn promotion_answered(
        &mut self,
        mut promotion: Box<Promotion>,
        answer: Answer,
    ) {
        match answer {
            Answer::Stored { .. } => self.remove(promotion).await,
            Answer::WrongLast => {
                let client = self.client.clone();
                self.work(async move {
                    let way = in_the_way(&client, &promotion).await;
                    Promoted::InTheWay(promotion, way)
                });
            }
            Answer::Again { reason } => {
                promotion.ambiguous = true;
                self.stumbled(promotion, &reason);
            }
            Answer::Final(error) => self.stumbled(promotion, &error.to_string()),
        }
    }

    async fn remove(&mut self, promotion: Box<Promotion>) {
        let (subject, body) = self.access.remove(promotion.sequence);
        self.asked
            .send(Asked::Removal(promotion), subject, None, body)
            .await;
    }

    fn blocked(&mut self, mut promotion: Box<Promotion>, way: Way) {
        promotion.tries += 1;
        let tries = promotion.tries;
        let pause = match way {
            Way::Free => Duration::ZERO,
            Way::Own => delayed::pause(tries, PAUSE_MAX).max(OWN_PAUSE),
            _ if promotion.buffered => delayed::pause(tries, BUFFERED_PAUSE_MAX),
            _ => delayed::pause(tries + 5, PAUSE_MAX),
        };
        self.delayed.push(pause, Item::Promotion(promotion));
    }

    fn stumbled(&mut self, mut promotion: Box<Promotion>, reason: &str) {
        self.metrics.publish_errors.inc();
        promotion.tries += 1;
        if promotion.tries.is_power_of_two() && promotion.tries > 1 {
            warn!(
                subject = promotion.target,
                sequence = promotion.sequence,
                tries = promotion.tries,
                reason,
                "a later job could not be queued yet; trying again"
            );
        }
        let pause = delayed::pause(promotion.tries, PAUSE_MAX);
        self.delayed.push(pause, Item::Promotion(promotion));
    }

    fn through(&mut self, promotion: &Promotion) {
        debug!(
            subject = promotion.target,
            sequence = promotion.sequence,
            "a later job is through"
        );
        self.promoting.remove(&promotion.sequence);
    }
}

/// Looks whether a message is to be published now. Done again after each pause: the job may have
/// ended meanwhile.
async fn look(
    client: &Client,
    promotion: &mut Promotion,
    address: &Address,
    stored: Box<StreamMessage>,
    held_up: bool,
) -> Result<Reading, Error> {
    if promotion.ambiguous || held_up {
        let (nonce, attempts_used) = (promotion.nonce.as_deref(), promotion.attempts_used);
        if lookup::has_ended(client, address, nonce, attempts_used, held_up).await? {
            return Ok(Reading::Ended);
        }
        promotion.ambiguous = false;
    }
    if promotion.buffered {
        let retry = address.subject(client.namespace(), Place::Later);
        if client
            .last_on_subject(Place::Later, &retry)
            .await?
            .is_some()
        {
            return Ok(Reading::NotYet);
        }
    }
    Ok(Reading::Message(stored))
}

async fn in_the_way(client: &Client, promotion: &Promotion) -> Result<Way, Error> {
    let found = client
        .last_on_subject(Place::Jobs, &promotion.target)
        .await?;
    let Some(found) = found else {
        return Ok(Way::Free);
    };
    let header = |name| lookup::header(&found.headers, name);
    if header("Nats-Msg-Id") == Some(promotion.msg_id.as_str()) {
        return Ok(Way::Same);
    }
    let attempts: u32 = header(headers::ATTEMPT)
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    match (header(headers::NONCE), promotion.nonce.as_deref()) {
        (Some(found), Some(own)) if found == own && attempts >= promotion.attempts_used => {
            Ok(Way::Same)
        }
        (Some(found), Some(own)) if found == own => Ok(Way::Own),
        _ => Ok(Way::Other),
    }
}
