//! Enqueueing: one job, or many pipelined; stored exactly once, or refused with a reason.

use chrono::{DateTime, Utc};
use futures_util::{Stream, StreamExt};

use super::Client;
use super::publish::{Expect, Message, PublishError, Published};
use crate::job::Job;
use crate::wire::{self, Address, Place};

/// How many publishes of [`Client::enqueue_many`] may wait for their confirmation at once.
pub const PIPELINE_WINDOW: usize = 1024;

/// A job that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enqueued {
    /// Where it is found.
    pub address: Address,
    /// False where a job of this id was there already, queued, running or later: it was left alone.
    pub is_new: bool,
    /// The place it waits in.
    pub place: Place,
    /// The enqueue: tells this job's outcome from that of an earlier one of the same id. None where
    /// a job was there already and its message names none.
    pub nonce: Option<String>,
}

/// Why a job was not enqueued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("job `{id}` for task `{task}` was not enqueued: {source}")]
pub struct EnqueueError {
    /// The job.
    pub id: String,
    /// Its task.
    pub task: String,
    /// Why.
    pub source: PublishError,
}

impl Client {
    /// Enqueues a job and waits until it is stored.
    ///
    /// A job whose id was given by the caller is unique: while one of that id is queued, running or
    /// later, the call answers with `is_new: false` and changes nothing.
    pub async fn enqueue(&self, job: Job) -> Result<Enqueued, EnqueueError> {
        let now = self.now();
        self.enqueue_at(job, now).await
    }

    async fn enqueue_at(&self, mut job: Job, now: DateTime<Utc>) -> Result<Enqueued, EnqueueError> {
        let place = match job.run_at {
            Some(run_at) if run_at > now => Place::Later,
            _ => Place::Jobs,
        };
        if place == Place::Jobs {
            job.run_at = None;
        }
        job.enqueued_at.get_or_insert(now);
        let nonce = job
            .nonce
            .get_or_insert_with(|| uuid::Uuid::now_v7().simple().to_string())
            .clone();
        let address = Address {
            lane: job.lane(),
            task: job.task.clone(),
            id: job.id.clone(),
        };
        let failed = |source| EnqueueError {
            id: job.id.to_string(),
            task: job.task.to_string(),
            source,
        };
        let message = Message {
            subject: address.subject(self.namespace(), place),
            headers: wire::encode_headers(&job),
            body: job.args.clone(),
            id: nonce.clone(),
            expect: Expect::Nothing,
        };
        if job.unique
            && let Some(found) = self.elsewhere(&address, place).await
        {
            return Ok(found);
        }
        let enqueued = |is_new, nonce| Enqueued {
            address: address.clone(),
            is_new,
            place,
            nonce,
        };
        match self.publish(&message).await.map_err(failed)? {
            Published::Stored { .. } => Ok(enqueued(true, Some(nonce))),
            Published::Unexpected { .. } => {
                let found = self.nonce_on(place, &message.subject).await;
                // It is ours where an earlier try stored it without telling us.
                Ok(enqueued(found.as_ref() == Some(&nonce), found))
            }
        }
    }

    /// Enqueues many jobs, [`PIPELINE_WINDOW`] at a time, and yields what became of each, in no
    /// particular order. A failure of one does not hold back the others.
    pub fn enqueue_many<S>(
        &self,
        jobs: S,
    ) -> impl Stream<Item = Result<Enqueued, EnqueueError>> + use<S>
    where
        S: Stream<Item = Job>,
    {
        let client = self.clone();
        jobs.map(move |job| {
            let client = client.clone();
            async move { client.enqueue(job).await }
        })
        .buffer_unordered(PIPELINE_WINDOW)
    }

    /// The job of this address in the other of the two places that a unique job may be in.
    async fn elsewhere(&self, address: &Address, place: Place) -> Option<Enqueued> {
        let place = if place == Place::Jobs {
            Place::Later
        } else {
            Place::Jobs
        };
        let subject = address.subject(self.namespace(), place);
        let message = self.last_on_subject(place, &subject).await.ok()??;
        Some(Enqueued {
            address: address.clone(),
            is_new: false,
            place,
            nonce: nonce_of(&message.headers),
        })
    }

    /// The nonce of the subject's message. None where there is no message any more: it ran between
    /// the refusal and our look.
    async fn nonce_on(&self, place: Place, subject: &str) -> Option<String> {
        nonce_of(&self.last_on_subject(place, subject).await.ok()??.headers)
    }

    /// The last message on a subject, from the stream's leader.
    pub async fn last_on_subject(
        &self,
        place: Place,
        subject: &str,
    ) -> Result<Option<async_nats::jetstream::message::StreamMessage>, super::Error> {
        use async_nats::jetstream::stream::LastRawMessageErrorKind;
        #[cfg(feature = "test")]
        if let Some(memory) = self.memory() {
            return Ok(memory.last(place, subject));
        }
        let name = place.stream(self.namespace());
        let what = || format!("read the last message on `{subject}`");
        let stream = self
            .jetstream()
            .get_stream_no_info(&name)
            .await
            .map_err(|error| self.failed(what(), error))?;
        match stream.get_last_raw_message_by_subject(subject).await {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(self.failed(what(), error)),
        }
    }
}

fn nonce_of(headers: &async_nats::HeaderMap) -> Option<String> {
    headers
        .get_last(wire::headers::NONCE)
        .map(|value| value.as_str().to_owned())
}
