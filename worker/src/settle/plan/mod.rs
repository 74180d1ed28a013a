//! What an ended attempt means: pure, with the time and the random number as arguments.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use repull::client::{Expect, Message};
use repull::id::{Namespace, WorkerId};
use repull::job::{AttemptError, Job};
use repull::retry::{Backoff, MAX_ATTEMPTS_DEFAULT};
use repull::wire::{self, Address, EventKind, JobEvent, Place, headers};

use crate::delivery::Delivery;
use crate::run::{CancelReason, Ending};

/// What is to be done for an ended attempt, in this order: all of `publish`, confirmed, then `close`.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// What the broker must have stored before the job's message may go.
    pub(crate) publish: Vec<Message>,
    /// How the job's message goes.
    pub(crate) close: Close,
    /// The event that says how it ended, for metrics and logs; none where the job was given back.
    pub(crate) kind: Option<EventKind>,
}

/// The last word about a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    /// Done: the message leaves the work queue.
    Ack,
    /// Given up: it leaves the work queue, and the server says so in an advisory.
    Term,
}

impl Close {
    pub(crate) fn payload(self) -> Bytes {
        match self {
            Self::Ack => Bytes::from_static(b"+ACK"),
            Self::Term => Bytes::from_static(b"+TERM"),
        }
    }
}

/// What applies to a job where it does not say itself: its task's options over its queue's settings.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Policy {
    pub(crate) max_attempts: Option<u32>,
    pub(crate) backoff: Option<Backoff>,
    pub(crate) keep_result: Option<bool>,
}

impl Policy {
    pub(crate) fn max_attempts(&self, job: &Job) -> u32 {
        job.max_attempts
            .or(self.max_attempts)
            .unwrap_or(MAX_ATTEMPTS_DEFAULT)
    }

    fn keeps_result(&self, job: &Job) -> bool {
        job.keep_result.or(self.keep_result).unwrap_or(true)
    }
}

/// The attempt that ended, and by whom.
pub(crate) struct Subject<'a> {
    pub(crate) namespace: &'a Namespace,
    pub(crate) worker: &'a WorkerId,
    pub(crate) job: &'a Job,
    /// The stream sequence of the job's message.
    pub(crate) sequence: u64,
    /// Which attempt it was, from 1; 0 where none had started.
    pub(crate) attempt: u32,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) policy: Policy,
    /// The most bytes of a value that are stored.
    pub(crate) value_bytes_max: usize,
}

/// Decides what follows from `ending`. `unit` is a random number from 0 to 1.
pub(crate) fn plan(subject: &Subject<'_>, ending: Ending, now: DateTime<Utc>, unit: f64) -> Plan {
    match ending {
        Ending::Succeeded { .. } if !subject.policy.keeps_result(subject.job) => Plan {
            publish: Vec::new(),
            close: Close::Ack,
            kind: Some(EventKind::Succeeded),
        },
        Ending::Succeeded {
            value,
            content_type,
        } => {
            let mut event = subject.event(EventKind::Succeeded, now);
            if value.len() > subject.value_bytes_max {
                event.value_dropped = Some(format!(
                    "{} bytes, expected at most {}",
                    value.len(),
                    subject.value_bytes_max
                ));
            } else {
                event.body = value;
                event.content_type = content_type;
            }
            subject.outcome(event)
        }
        Ending::Failed { error } => subject.failed(error, None, now, unit),
        Ending::RetryIn { error, delay } => subject.failed(error, Some(delay), now, unit),
        Ending::UnknownTask => {
            let error = format!(
                "worker `{}` has no handler for task `{}`",
                subject.worker, subject.job.task
            );
            subject.failed(error, None, now, unit)
        }
        Ending::Permanent { error } => subject.dead(error, now),
        Ending::Snoozed { delay } => {
            let run_at = after(now, delay);
            let job = Job {
                attempts_used: subject.attempt.saturating_sub(1),
                ..subject.job.clone()
            };
            subject.later(job, run_at, subject.event(EventKind::Snoozed, now))
        }
        Ending::Expired => subject.outcome(subject.event(EventKind::Expired, now)),
        // Done or elsewhere already: all that is left is to let the message go.
        Ending::Superseded => Plan {
            publish: Vec::new(),
            close: Close::Ack,
            kind: None,
        },
        Ending::Cancelled {
            reason: CancelReason::Requested(reason),
        } => {
            let mut event = subject.event(EventKind::Cancelled, now);
            event.body = reason.into();
            subject.outcome(event)
        }
        Ending::Cancelled { .. } => hand_back(
            subject.namespace,
            subject.job,
            subject.sequence,
            subject.attempt,
        ),
    }
}

/// A job that gets no attempt any more.
pub(crate) fn given_up(subject: &Subject<'_>, error: String, now: DateTime<Utc>) -> Plan {
    subject.dead(error, now)
}

fn after(now: DateTime<Utc>, delay: std::time::Duration) -> DateTime<Utc> {
    TimeDelta::from_std(delay)
        .ok()
        .and_then(|delay| now.checked_add_signed(delay))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

impl Subject<'_> {
    fn address(&self) -> Address {
        Address {
            lane: self.job.lane(),
            task: self.job.task.clone(),
            id: self.job.id.clone(),
        }
    }

    /// What the message ids of this delivery's publishes start with: the enqueue, or for a bare
    /// publish its id, and the message's sequence, which no other delivery has.
    fn id(&self, suffix: &str) -> String {
        let enqueue = self.job.nonce.as_deref().unwrap_or(self.job.id.as_str());
        format!("{enqueue}:{}:{}:{suffix}", self.sequence, self.attempt)
    }

    /// A message has one outcome, whoever tells it: one that was held up in a dead network until its
    /// job had run elsewhere is the duplicate of the outcome told there.
    fn event_id(&self, kind: EventKind) -> String {
        if kind.is_outcome() {
            let enqueue = self.job.nonce.as_deref().unwrap_or(self.job.id.as_str());
            format!("{enqueue}:{}:outcome", self.sequence)
        } else {
            self.id(kind.as_str())
        }
    }

    /// A message dies once too.
    fn death_id(&self) -> String {
        let enqueue = self.job.nonce.as_deref().unwrap_or(self.job.id.as_str());
        format!("{enqueue}:{}:dead", self.sequence)
    }

    fn event(&self, kind: EventKind, now: DateTime<Utc>) -> JobEvent {
        let mut event = JobEvent::new(kind, self.attempt, self.worker.as_str(), now);
        event.started_at = (self.attempt > 0).then_some(self.started_at);
        event.nonce.clone_from(&self.job.nonce);
        event.sequence = Some(self.sequence);
        event
    }

    fn event_message(&self, event: &JobEvent) -> Message {
        Message {
            subject: self.address().subject(self.namespace, Place::Results),
            headers: event.encode_headers(),
            body: event.body.clone(),
            id: self.event_id(event.kind),
            expect: Expect::Anything,
        }
    }

    fn outcome(&self, event: JobEvent) -> Plan {
        let kind = Some(event.kind);
        let publish = if self.policy.keeps_result(self.job) {
            vec![self.event_message(&event)]
        } else {
            Vec::new()
        };
        Plan {
            publish,
            close: Close::Ack,
            kind,
        }
    }

    fn failed(
        &self,
        error: String,
        delay: Option<std::time::Duration>,
        now: DateTime<Utc>,
        unit: f64,
    ) -> Plan {
        if self.attempt >= self.policy.max_attempts(self.job) {
            return self.dead(error, now);
        }
        let backoff = self.job.backoff.or(self.policy.backoff).unwrap_or_default();
        let run_at = after(
            now,
            delay.unwrap_or_else(|| backoff.delay(self.attempt, unit)),
        );
        if self.job.deadline.is_some_and(|deadline| run_at > deadline) {
            return self.dead(
                format!("{error} (and the next attempt would start after the job's deadline)"),
                now,
            );
        }
        let mut job = Job {
            attempts_used: self.attempt,
            ..self.job.clone()
        };
        job.push_error(self.attempt_error(&error, now));
        let mut event = self.event(EventKind::Retrying, now);
        event.body = error.into();
        self.later(job, run_at, event)
    }

    fn attempt_error(&self, error: &str, now: DateTime<Utc>) -> AttemptError {
        AttemptError {
            attempt: self.attempt,
            at: now,
            worker: self.worker.to_string(),
            error: error.to_owned(),
        }
    }

    fn later(&self, mut job: Job, run_at: DateTime<Utc>, mut event: JobEvent) -> Plan {
        job.run_at = Some(run_at);
        event.run_at = Some(run_at);
        let again = Message {
            subject: self.address().subject(self.namespace, Place::Later),
            headers: wire::encode_headers(&job),
            body: job.args.clone(),
            id: self.id("later"),
            expect: Expect::Anything,
        };
        let mut publish = vec![again];
        if self.policy.keeps_result(self.job) {
            publish.push(self.event_message(&event));
        }
        Plan {
            publish,
            close: Close::Ack,
            kind: Some(event.kind),
        }
    }

    fn dead(&self, error: String, now: DateTime<Utc>) -> Plan {
        let mut job = Job {
            attempts_used: self.attempt,
            ..self.job.clone()
        };
        job.push_error(self.attempt_error(&error, now));
        let mut headers = wire::encode_headers(&job);
        add_reason(&mut headers, &error, now);
        let dead = Message {
            subject: self.address().subject(self.namespace, Place::Dead),
            headers,
            body: job.args.clone(),
            id: self.death_id(),
            expect: Expect::Anything,
        };
        let mut event = self.event(EventKind::Failed, now);
        event.body = error.into();
        let mut publish = vec![dead];
        if self.policy.keeps_result(self.job) {
            publish.push(self.event_message(&event));
        }
        Plan {
            publish,
            close: Close::Term,
            kind: Some(EventKind::Failed),
        }
    }
}

fn add_reason(headers: &mut async_nats::HeaderMap, reason: &str, now: DateTime<Utc>) {
    // A header is one line.
    let line: String = reason
        .chars()
        .take(repull::job::ERROR_CHARS_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    headers.insert(headers::REASON, line);
    headers.insert(
        headers::DIED_AT,
        now.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
    );
}

/// Gives a job back to its queue so that the attempt does not count: publishes it anew in place of
/// its message. A NAK would keep the message, and with it a delivery count that says one more.
///
/// Goes to the end of the queue. The message is only accepted while the subject's last one is still
/// ours, so that a job that was cancelled meanwhile does not come back.
pub(crate) fn hand_back(namespace: &Namespace, job: &Job, sequence: u64, attempt: u32) -> Plan {
    let job = Job {
        attempts_used: attempt.saturating_sub(1),
        ..job.clone()
    };
    let address = Address {
        lane: job.lane(),
        task: job.task.clone(),
        id: job.id.clone(),
    };
    let enqueue = job.nonce.as_deref().unwrap_or(job.id.as_str());
    let message = Message {
        subject: address.subject(namespace, Place::Jobs),
        headers: wire::encode_headers(&job),
        body: job.args.clone(),
        id: format!("{enqueue}:{sequence}:back"),
        expect: Expect::Last(sequence),
    };
    Plan {
        publish: vec![message],
        close: Close::Ack,
        kind: None,
    }
}

/// A message that can't be read as a job goes to the dead as it is, with what is wrong with it.
pub(crate) fn dead_on_arrival(
    namespace: &Namespace,
    lane: &str,
    delivery: &Delivery,
    error: &str,
    now: DateTime<Utc>,
) -> Plan {
    let sequence = delivery.info.sequence;
    let subject = match Address::parse(namespace, Place::Jobs, &delivery.subject) {
        Ok(address) => address.subject(namespace, Place::Dead),
        Err(_) => format!(
            "{namespace}.{}.{lane}.undecodable.{sequence}",
            Place::Dead.token()
        ),
    };
    let mut dead_headers = async_nats::HeaderMap::new();
    for (name, values) in delivery
        .headers
        .iter()
        .flat_map(async_nats::HeaderMap::iter)
    {
        let name: &str = name.as_ref();
        if !name.starts_with(headers::SERVER_PREFIX) {
            for value in values {
                dead_headers.append(name, value.clone());
            }
        }
    }
    add_reason(&mut dead_headers, error, now);
    dead_headers.insert(headers::FOUND_ON, delivery.subject.as_str());
    let dead = Message {
        subject,
        headers: dead_headers,
        body: delivery.body.clone(),
        id: format!("dead:{sequence}"),
        expect: Expect::Anything,
    };
    Plan {
        publish: vec![dead],
        close: Close::Term,
        kind: Some(EventKind::Failed),
    }
}

#[cfg(test)]
mod tests;
