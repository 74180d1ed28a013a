//! Dead letters: looked through, tried again, thrown away.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::DeliverPolicy;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::publish::{Expect, Message, Published};
use super::scan::{Scan, Scanned};
use super::view::{JobState, JobSummary, MessageView};
use super::{Client, Enqueued, Error};
use crate::clock;
use crate::id::{QueueName, TaskName};
use crate::job::{AttemptError, Job};
use crate::wire::headers::{DIED_AT, FOUND_ON, REASON};
use crate::wire::{self, Address, Place};

/// Which dead jobs to take. Everything empty: all.
#[derive(Debug, Clone, Default)]
pub struct DeadFilter {
    /// Only of this queue.
    pub queue: Option<QueueName>,
    /// Only of this task.
    pub task: Option<TaskName>,
    /// Only those that died at or after this time.
    pub since: Option<DateTime<Utc>>,
    /// Only those that died before this time.
    pub until: Option<DateTime<Utc>>,
    /// Only those whose reason or errors hold this text, in upper or lower case.
    pub error: Option<String>,
}

impl DeadFilter {
    /// Whether it takes every dead job.
    pub fn takes_all(&self) -> bool {
        self.queue.is_none()
            && self.task.is_none()
            && self.since.is_none()
            && self.until.is_none()
            && self.error.is_none()
    }

    fn takes(&self, dead: &DeadJob) -> bool {
        let text_matches = self.error.as_ref().is_none_or(|text| {
            let text = text.to_lowercase();
            let holds = |error: &str| error.to_lowercase().contains(&text);
            holds(&dead.reason) || dead.errors.iter().any(|error| holds(&error.error))
        });
        text_matches
            && self.since.is_none_or(|since| dead.died_at >= since)
            && self.until.is_none_or(|until| dead.died_at < until)
    }
}

/// A job that was given up.
#[derive(Debug, Clone, Serialize)]
pub struct DeadJob {
    /// Its sequence in the stream of the dead: what names it for a retry or a deletion.
    pub sequence: u64,
    /// Its subject there.
    pub subject: String,
    /// The subject on which it was found, where that was not a job's.
    pub found_on: Option<String>,
    /// Its id, where its subject names a job.
    pub id: Option<String>,
    /// Its queue.
    pub queue: Option<String>,
    /// Its task.
    pub task: Option<String>,
    /// Why it was given up.
    pub reason: String,
    /// When.
    pub died_at: DateTime<Utc>,
    /// Attempts it had.
    pub attempts: u32,
    /// Its last errors, oldest first.
    pub errors: Vec<AttemptError>,
    /// Its message, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageView>,
    /// The job, as far as it can be read.
    #[serde(skip)]
    pub job: Option<Job>,
}

impl DeadJob {
    /// The same in a listing of jobs; none where its subject names no job.
    pub fn summary(&self) -> Option<JobSummary> {
        let job = self.job.as_ref()?;
        let mut summary = JobSummary::of_message(job, JobState::Dead, self.sequence, self.died_at);
        summary.error.get_or_insert_with(|| self.reason.clone());
        Some(summary)
    }
}

/// Dead jobs that a filter matches.
#[derive(Debug, Clone, Default)]
pub struct DeadListing {
    /// The newest of them, the newest first.
    pub jobs: Vec<DeadJob>,
    /// How many match.
    pub matching: u64,
}

/// What to change in a dead job before it is tried again.
#[derive(Debug, Clone, Default)]
pub struct Edit {
    /// Other arguments.
    pub args: Option<Bytes>,
    /// Another queue.
    pub queue: Option<QueueName>,
    /// Another task: the only way to retry a message that named none.
    pub task: Option<TaskName>,
}

impl Client {
    /// The newest `limit` dead jobs that match.
    pub async fn dead_jobs(&self, filter: &DeadFilter, limit: usize) -> Result<DeadListing, Error> {
        let mut newest = VecDeque::new();
        let mut matching = 0;
        for subjects in self.filters(Place::Dead, filter.queue.as_ref(), filter.task.as_ref()) {
            let scan = Scan {
                stream: Place::Dead.stream(self.namespace()),
                filter: subjects,
                from: DeliverPolicy::All,
                headers_only: true,
            };
            self.scan(scan, |message| {
                let dead = self.read_dead(message, false);
                if filter.takes(&dead) {
                    matching += 1;
                    newest.push_back(dead);
                    if newest.len() > limit {
                        newest.pop_front();
                    }
                }
                ControlFlow::Continue(())
            })
            .await?;
        }
        let mut jobs: Vec<DeadJob> = newest.into();
        jobs.sort_by_key(|dead| std::cmp::Reverse(dead.sequence));
        Ok(DeadListing { jobs, matching })
    }

    /// One dead job with its message.
    pub async fn dead_job(&self, sequence: u64) -> Result<DeadJob, Error> {
        let stream = Place::Dead.stream(self.namespace());
        let message = self.message_at(&stream, sequence).await?;
        let message = message.ok_or_else(|| not_found(sequence))?;
        let scanned = Scanned {
            subject: message.subject.into_string(),
            sequence: message.sequence,
            stored_at: message.time,
            headers: Some(message.headers),
            body: message.payload,
        };
        Ok(self.read_dead(scanned, true))
    }

    /// Publishes a dead job again as if new, under its own id, and then removes it from the dead.
    ///
    /// Attempts start over; a deadline or expiry that has passed is dropped. Where a job of the
    /// same id is queued, running or later, nothing changes and the answer says `is_new: false`.
    pub async fn retry_dead(&self, sequence: u64, edit: &Edit) -> Result<Enqueued, Error> {
        let dead = self.dead_job(sequence).await?;
        let job = self.revived(&dead, edit)?;
        let nonce = job.nonce.clone();
        let address = Address {
            lane: job.lane(),
            task: job.task.clone(),
            id: job.id.clone(),
        };
        let later = address.subject(self.namespace(), Place::Later);
        if let Some(waiting) = self.last_on_subject(Place::Later, &later).await? {
            let nonce = waiting.headers.get_last(wire::headers::NONCE);
            return Ok(Enqueued {
                address,
                is_new: false,
                replaced: false,
                place: Place::Later,
                nonce: nonce.map(ToString::to_string),
            });
        }
        let message = Message {
            subject: address.subject(self.namespace(), Place::Jobs),
            headers: wire::encode_headers(&job),
            body: job.args.clone(),
            id: nonce.clone().unwrap_or_default(),
            expect: Expect::Nothing,
        };
        let is_new = match self.publish(&message).await? {
            Published::Stored { .. } => true,
            Published::Unexpected { .. } => {
                let there = self.last_on_subject(Place::Jobs, &message.subject).await?;
                let there = there.as_ref().and_then(|there| {
                    there
                        .headers
                        .get_last(wire::headers::NONCE)
                        .map(ToString::to_string)
                });
                there == nonce
            }
        };
        if is_new {
            self.delete_dead(sequence).await?;
        }
        Ok(Enqueued {
            address,
            is_new,
            replaced: false,
            place: Place::Jobs,
            nonce,
        })
    }

    /// Removes a dead job for good.
    pub async fn delete_dead(&self, sequence: u64) -> Result<(), Error> {
        use async_nats::jetstream::stream::DeleteMessageErrorKind::JetStream;
        let stream = Place::Dead.stream(self.namespace());
        match self
            .stream_handle(&stream)
            .await?
            .delete_message(sequence)
            .await
        {
            Ok(_) => Ok(()),
            Err(error) => match error.kind() {
                JetStream(inner) if inner.code() == 404 || inner.error_code().0 == 10043 => {
                    Err(not_found(sequence))
                }
                _ => Err(self.failed(format!("delete dead job {sequence}"), error)),
            },
        }
    }

    fn revived(&self, dead: &DeadJob, edit: &Edit) -> Result<Job, Error> {
        let mut job = match (&dead.job, &edit.task) {
            (Some(job), _) => job.clone(),
            (None, Some(task)) => Job::new(task.clone()),
            (None, None) => {
                return Err(Error::Invalid(format!(
                    "dead message {} on `{}` names no task, expected one to retry it as",
                    dead.sequence, dead.subject
                )));
            }
        };
        let now = clock::now();
        // The same dead message revived twice at once is one job: the stream knows the id.
        let stem = job.nonce.take().unwrap_or_else(|| job.id.to_string());
        job.nonce = Some(format!("{stem}-retry{}", dead.sequence));
        job.attempts_used = 0;
        job.run_at = None;
        job.deadline = job.deadline.filter(|at| *at > now);
        job.expires = job.expires.filter(|at| *at > now);
        if let Some(task) = &edit.task {
            job.task = task.clone();
        }
        if let Some(queue) = &edit.queue {
            job.queue = queue.clone();
        }
        if let Some(args) = &edit.args {
            job.args = args.clone();
            job.content_type = None;
        }
        Ok(job)
    }

    fn read_dead(&self, message: Scanned, with_message: bool) -> DeadJob {
        let headers = message.headers.unwrap_or_default();
        let text = |name: &str| headers.get_last(name).map(ToString::to_string);
        let died_at = text(DIED_AT).and_then(|at| at.parse().ok());
        let job = self.read_dead_job(&message.subject, &headers, &message.body);
        let view = job.as_ref().filter(|_| with_message).map(|job| {
            MessageView::of(
                job,
                Place::Dead.stream(self.namespace()),
                message.subject.clone(),
                message.sequence,
                message.stored_at,
            )
        });
        DeadJob {
            sequence: message.sequence,
            found_on: text(FOUND_ON),
            id: job.as_ref().map(|job| job.id.to_string()),
            queue: job.as_ref().map(|job| job.lane().to_string()),
            task: job.as_ref().map(|job| job.task.to_string()),
            reason: text(REASON).unwrap_or_default(),
            died_at: died_at.unwrap_or(message.stored_at),
            attempts: job.as_ref().map_or(0, |job| job.attempts_used),
            errors: job
                .as_ref()
                .map(|job| job.errors.clone())
                .unwrap_or_default(),
            message: view,
            subject: message.subject,
            job,
        }
    }

    fn read_dead_job(&self, subject: &str, headers: &HeaderMap, body: &Bytes) -> Option<Job> {
        let namespace = self.namespace();
        wire::decode(namespace, Place::Dead, subject, Some(headers), body.clone())
            // A header that can't be read is why it is here; the rest of the job is readable.
            .or_else(|_| wire::decode(namespace, Place::Dead, subject, None, body.clone()))
            .ok()
    }
}

fn not_found(sequence: u64) -> Error {
    Error::NotFound {
        what: "dead job with sequence",
        name: sequence.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead(reason: &str, error: &str, died_at: &str) -> DeadJob {
        DeadJob {
            sequence: 1,
            subject: "repull.dead.q.t.1".into(),
            found_on: None,
            id: None,
            queue: None,
            task: None,
            reason: reason.into(),
            died_at: died_at.parse().unwrap(),
            attempts: 1,
            errors: vec![AttemptError {
                attempt: 1,
                at: died_at.parse().unwrap(),
                worker: "w".into(),
                error: error.into(),
            }],
            message: None,
            job: None,
        }
    }

    #[test]
    fn the_text_is_looked_for_in_the_reason_and_in_every_error() {
        let job = dead(
            "out of attempts",
            "Connection REFUSED",
            "2026-11-23T10:00:00Z",
        );
        let filter = |error: &str| DeadFilter {
            error: Some(error.into()),
            ..DeadFilter::default()
        };
        assert!(filter("refused").takes(&job));
        assert!(filter("attempts").takes(&job));
        assert!(!filter("timeout").takes(&job));
        assert!(!filter("timeout").takes_all() && DeadFilter::default().takes_all());
    }

    #[test]
    fn the_time_of_death_is_from_since_and_before_until() {
        let job = dead("r", "e", "2026-11-23T10:00:00Z");
        let between = |since: &str, until: &str| DeadFilter {
            since: Some(since.parse().unwrap()),
            until: Some(until.parse().unwrap()),
            ..DeadFilter::default()
        };
        assert!(between("2026-11-23T10:00:00Z", "2026-11-23T10:00:01Z").takes(&job));
        assert!(!between("2026-11-23T09:00:00Z", "2026-11-23T10:00:00Z").takes(&job));
    }
}
