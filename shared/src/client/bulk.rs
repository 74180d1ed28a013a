//! Enqueueing many jobs: pipelined, as long as the broker stores them at the first try.
//!
//! Jobs that take more than one request go their own way beside the others: unique ones, which are
//! looked for first, and those whose first try had no clear answer. A second try publishes the same
//! message under the same id, so that the stream stores it once.

use std::pin::Pin;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, Fuse, FuturesUnordered};
use futures_util::{FutureExt, Stream, StreamExt};
use tracing::Span;

use super::enqueue::{EnqueueError, Enqueued, PIPELINE_WINDOW};
use super::pipeline::Pipeline;
use super::publish::Answer;
use super::{Client, PublishError};
use crate::job::Job;
use crate::telemetry::trace;
use crate::wire::{Address, Place};

type Outcome = Result<Enqueued, EnqueueError>;

/// Jobs on their way to the broker.
pub(super) struct Bulk<S> {
    client: Client,
    jobs: Pin<Box<Fuse<S>>>,
    /// Made for the first job that needs it.
    pipeline: Option<Pipeline<Sent>>,
    /// Jobs that take more than one request.
    singly: FuturesUnordered<BoxFuture<'static, Outcome>>,
}

/// A job whose message is sent and not yet answered.
struct Sent {
    job: Job,
    address: Address,
    place: Place,
    span: Span,
}

impl<S: Stream<Item = Job>> Bulk<S> {
    pub(super) fn new(client: Client, jobs: S) -> Self {
        Self {
            client,
            jobs: Box::pin(jobs.fuse()),
            pipeline: None,
            singly: FuturesUnordered::new(),
        }
    }

    /// What becomes of each job.
    pub(super) fn outcomes(self) -> impl Stream<Item = Outcome> + Unpin + use<S> {
        Box::pin(stream::unfold(self, |mut bulk| async move {
            bulk.next().await.map(|outcome| (outcome, bulk))
        }))
    }

    async fn next(&mut self) -> Option<Outcome> {
        loop {
            self.send_ready().await;
            let answered = self.pipeline.as_mut().and_then(Pipeline::try_next);
            if let Some((sent, answer)) = answered {
                if let Some(outcome) = self.answered(sent, answer) {
                    return Some(outcome);
                }
                continue;
            }
            if self.jobs.is_done() && self.under_way() == 0 {
                return None;
            }
            let has_room = self.has_room();
            let outcome = tokio::select! {
                (sent, answer) = next_answer(&mut self.pipeline) => self.answered(sent, answer),
                Some(outcome) = self.singly.next(), if !self.singly.is_empty() => Some(outcome),
                job = self.jobs.next(), if has_room => {
                    if let Some(job) = job {
                        self.send(job).await;
                    }
                    None
                }
            };
            if outcome.is_some() {
                return outcome;
            }
        }
    }

    fn under_way(&self) -> usize {
        let pipelined = self.pipeline.as_ref().map_or(0, Pipeline::in_flight);
        pipelined + self.singly.len()
    }

    fn has_room(&self) -> bool {
        self.under_way() < PIPELINE_WINDOW && !self.jobs.is_done()
    }

    /// Sends the jobs that are there.
    async fn send_ready(&mut self) {
        while self.has_room()
            && let Some(Some(job)) = self.jobs.next().now_or_never()
        {
            self.send(job).await;
        }
    }

    async fn send(&mut self, mut job: Job) {
        if job.unique || !self.has_pipeline().await {
            return self.send_singly(job);
        }
        // Fails for unique jobs alone, which do not come here.
        let Ok(prepared) = self.client.prepare(&mut job, self.client.now()) else {
            return self.send_singly(job);
        };
        let sent = Sent {
            job,
            address: prepared.address,
            place: prepared.place,
            span: prepared.span,
        };
        if let Some(pipeline) = &mut self.pipeline {
            pipeline.send(sent, prepared.message).await;
        }
    }

    /// Whether there is a pipeline; without one, each job finds out by itself what is wrong.
    async fn has_pipeline(&mut self) -> bool {
        #[cfg(feature = "test")]
        if self.client.memory().is_some() {
            return false;
        }
        if self.pipeline.is_none() {
            self.pipeline = Pipeline::new(self.client.clone()).await.ok();
        }
        self.pipeline.is_some()
    }

    fn send_singly(&self, job: Job) {
        let client = self.client.clone();
        let outcome = async move { client.enqueue(job).await };
        self.singly.push(outcome.boxed());
    }

    /// What an answer says of a job; none where it takes another try.
    fn answered(&mut self, sent: Sent, answer: Answer) -> Option<Outcome> {
        match answer {
            Answer::Stored { .. } => Some(Ok(sent.enqueued())),
            Answer::Final(error) => Some(Err(sent.failed(error))),
            Answer::Again { .. } | Answer::WrongLast => {
                self.send_singly(sent.job);
                None
            }
        }
    }
}

/// The next answer of the pipeline; where there is none yet, none ever.
async fn next_answer(pipeline: &mut Option<Pipeline<Sent>>) -> (Sent, Answer) {
    match pipeline {
        Some(pipeline) => {
            pipeline.look_at_connection();
            pipeline.next().await
        }
        None => std::future::pending().await,
    }
}

impl Sent {
    fn enqueued(self) -> Enqueued {
        Enqueued {
            address: self.address,
            is_new: true,
            replaced: false,
            place: self.place,
            nonce: self.job.nonce,
        }
    }

    fn failed(self, error: PublishError) -> EnqueueError {
        trace::failed(&self.span, "publish");
        EnqueueError::new(&self.job, error)
    }
}
