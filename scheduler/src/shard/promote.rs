//! The way of a later job into the work queue: read, publish, delete.
//!
//! A crash between publishing and deleting is healed by looking: the second publish has the same
//! message id, and where the stream has forgotten it, the job itself or its outcome is found. The same
//! look keeps a retry away that was held up in a network until its job had ended elsewhere.

use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;
use repull::client::{Answer, Client, Error, Expect, Message};
use repull::id::JobId;
use repull::telemetry::trace::{self, Step};
use repull::wire::{Address, Place, headers};
use tracing::{debug, warn};

use super::{Item, Shard, lookup};
use crate::delayed;

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
}

/// What a step of a promotion found.
#[derive(Debug)]
pub(crate) enum Promoted {
    /// The message, where it is still there and was not published before.
    Read(Box<Promotion>, Result<Reading, Error>),
    /// What is in the way in the work queue.
    InTheWay(Box<Promotion>, Result<Way, Error>),
    /// It is queued, and removed from the later jobs. Where a cancel came in between, whoever
    /// cancels looks once more in the work queue.
    Deleted(Box<Promotion>, Result<(), Error>),
}

/// What became of reading a later message.
#[derive(Debug)]
pub(crate) enum Reading {
    /// It was cancelled or replaced.
    Gone,
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
    pub(super) fn promote(&mut self, sequence: u64, ambiguous: bool) {
        if self.promoting.insert(sequence) {
            self.read(Box::new(Promotion::new(sequence, ambiguous)));
        }
    }

    /// Tries one again: its message may have been cancelled or replaced meanwhile.
    pub(super) fn read_again(&mut self, promotion: Promotion) {
        self.read(Box::new(promotion));
    }

    fn read(&mut self, mut promotion: Box<Promotion>) {
        let client = self.client.clone();
        self.work(async move {
            let reading = read(&client, &mut promotion).await;
            Promoted::Read(promotion, reading)
        });
    }

    /// Takes the next step of a promotion.
    pub(super) async fn promoted(&mut self, step: Promoted) {
        match step {
            Promoted::Read(promotion, Ok(Reading::Message(stored))) => {
                let mut message = promotion.message(&stored);
                if trace::is_on()
                    && let Some(address) = promotion.address(&self.client)
                {
                    trace::publish(Step::Forward, &address, &mut message.headers);
                }
                self.pipeline
                    .send(Item::Promotion(promotion), message)
                    .await;
            }
            Promoted::Read(promotion, Ok(Reading::Gone)) => self.through(&promotion),
            Promoted::Read(promotion, Ok(Reading::Ended)) => self.delete(promotion),
            Promoted::Read(promotion, Ok(Reading::NotYet)) => self.blocked(promotion, Way::Other),
            Promoted::InTheWay(promotion, Ok(Way::Same)) => self.delete(promotion),
            Promoted::InTheWay(promotion, Ok(way)) => self.blocked(promotion, way),
            Promoted::Deleted(promotion, Ok(())) => self.through(&promotion),
            Promoted::Read(promotion, Err(error))
            | Promoted::InTheWay(promotion, Err(error))
            | Promoted::Deleted(promotion, Err(error)) => {
                self.stumbled(promotion, &error.to_string());
            }
        }
    }

    /// Takes the stream's answer to a promotion.
    pub(super) fn promotion_answered(&mut self, mut promotion: Box<Promotion>, answer: Answer) {
        match answer {
            Answer::Stored { .. } => self.delete(promotion),
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

    fn delete(&mut self, promotion: Box<Promotion>) {
        let client = self.client.clone();
        self.work(async move {
            let deleted = lookup::delete(&client, Place::Later, promotion.sequence).await;
            Promoted::Deleted(promotion, deleted.map(drop))
        });
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

async fn read(client: &Client, promotion: &mut Promotion) -> Result<Reading, Error> {
    let Some(stored) = lookup::later_message(client, promotion.sequence).await? else {
        return Ok(Reading::Gone);
    };
    promotion.learn(client, &stored);
    let Some(address) = promotion.address(client) else {
        // No job's subject: queued all the same, where it is found and told of as malformed.
        return Ok(Reading::Message(Box::new(stored)));
    };
    // Looked at again after each pause: the job may have ended meanwhile.
    let held_up = lookup::was_held_up(&stored);
    if promotion.ambiguous || held_up {
        let (nonce, attempts_used) = (promotion.nonce.as_deref(), promotion.attempts_used);
        if lookup::has_ended(client, &address, nonce, attempts_used, held_up).await? {
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
    Ok(Reading::Message(Box::new(stored)))
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
