//! Enqueueing: one job, or many pipelined; stored exactly once, or refused with a reason.

use chrono::{DateTime, Utc};
use futures_util::Stream;
use tracing::{Instrument, Span};

use super::Client;
use super::bulk::Bulk;
use super::publish::{Expect, Message, PublishError};
use super::submit::Submit;
use crate::id::InvalidName;
use crate::job::Job;
use crate::telemetry::trace::{self, Step};
use crate::unique;
use crate::wire::{self, Address, Place};

/// How many publishes of [`Client::enqueue_many`] may wait for their confirmation at once.
pub const PIPELINE_WINDOW: usize = 1024;

/// A job that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enqueued {
    /// Where it is found.
    pub address: Address,
    /// False where a job of this id was there already, queued, running or later, or for one that is
    /// unique over a period also ended: it was left alone.
    pub is_new: bool,
    /// Whether it took the place of a job that waited.
    pub replaced: bool,
    /// The place it is in: for one that has ended that of outcomes.
    pub place: Place,
    /// The enqueue: tells this job's outcome from that of an earlier one of the same id. None where
    /// a job was there already and its message names none.
    pub nonce: Option<String>,
}

/// Why a job was not enqueued, or not as it should have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("job `{id}` for task `{task}` {}: {source}", .source.fate())]
pub struct EnqueueError {
    /// The job.
    pub id: String,
    /// Its task.
    pub task: String,
    /// Why.
    pub source: PublishError,
}

/// A job and the message that brings it to its place.
pub(super) struct Prepared {
    pub(super) address: Address,
    pub(super) place: Place,
    pub(super) nonce: String,
    pub(super) message: Message,
    /// Tells traces of the submit until it is dropped.
    pub(super) span: Span,
}

impl EnqueueError {
    pub(super) fn new(job: &Job, source: PublishError) -> Self {
        Self {
            id: job.id.to_string(),
            task: job.task.to_string(),
            source,
        }
    }
}

impl Client {
    /// Enqueues a job and waits until it is stored.
    ///
    /// A job whose id was given by the caller is unique: while one of that id is queued, running or
    /// later, the call answers with `is_new: false` and changes nothing, unless the job says
    /// otherwise ([`Job::on_conflict`]). The same holds for ids that follow from a key
    /// ([`Job::unique_by`]), and with [`Job::unique_for`] over a whole period.
    pub async fn enqueue(&self, mut job: Job) -> Result<Enqueued, EnqueueError> {
        let enqueued = self.enqueue_at(&mut job, self.now()).await;
        enqueued.map_err(|source| EnqueueError::new(&job, source))
    }

    async fn enqueue_at(
        &self,
        job: &mut Job,
        now: DateTime<Utc>,
    ) -> Result<Enqueued, PublishError> {
        let prepared = self.prepare(job, now)?;
        let span = prepared.span.clone();
        let submit = Submit {
            client: self,
            job: prepared,
            on_conflict: job.on_conflict,
        };
        let submitted = async {
            match (job.unique, job.period) {
                (false, _) => submit.plainly().await,
                // Boxed, so that the many that are not unique stay small.
                (true, None) => Box::pin(submit.uniquely()).await,
                (true, Some(_)) => Box::pin(submit.once()).await,
            }
        };
        let submitted = submitted.instrument(span.clone()).await;
        if submitted.is_err() {
            trace::failed(&span, "publish");
        }
        submitted
    }

    /// Decides where a job goes, gives it what it lacks, and writes its message. Doing so again for
    /// another try of the same job gives the same message.
    pub(super) fn prepare(
        &self,
        job: &mut Job,
        now: DateTime<Utc>,
    ) -> Result<Prepared, PublishError> {
        let place = match job.run_at {
            Some(run_at) if run_at > now => Place::Later,
            _ => Place::Jobs,
        };
        if place == Place::Jobs {
            job.run_at = None;
        }
        job.enqueued_at.get_or_insert(now);
        if let Some(period) = job.period {
            let refused = |error: InvalidName| PublishError::Refused {
                subject: job.id.to_string(),
                code: 0,
                reason: error.to_string(),
            };
            job.id = unique::in_period(&job.id, period, now).map_err(refused)?;
        }
        let nonce = job
            .nonce
            .get_or_insert_with(|| uuid::Uuid::now_v7().simple().to_string())
            .clone();
        let address = Address {
            lane: job.lane(),
            task: job.task.clone(),
            id: job.id.clone(),
        };
        let mut headers = wire::encode_headers(job);
        let span = trace::publish(Step::Send, &address, &mut headers);
        let message = Message {
            subject: address.subject(self.namespace(), place),
            headers,
            body: job.args.clone(),
            id: nonce.clone(),
            expect: Expect::Nothing,
        };
        Ok(Prepared {
            address,
            place,
            nonce,
            message,
            span,
        })
    }

    /// Enqueues many jobs, [`PIPELINE_WINDOW`] at a time, and yields what became of each, in no
    /// particular order. A failure of one does not hold back the others.
    pub fn enqueue_many<S>(
        &self,
        jobs: S,
    ) -> impl Stream<Item = Result<Enqueued, EnqueueError>> + Unpin + use<S>
    where
        S: Stream<Item = Job>,
    {
        Bulk::new(self.clone(), jobs).outcomes()
    }

    /// The last message on a subject, from the stream's leader.
    pub async fn last_on_subject(
        &self,
        place: Place,
        subject: &str,
    ) -> Result<Option<async_nats::jetstream::message::StreamMessage>, super::Error> {
        #[cfg(feature = "test")]
        if let Some(memory) = self.memory() {
            return Ok(memory.last(place, subject));
        }
        let stream = place.stream(self.namespace());
        self.last_message(&stream, subject).await
    }
}
