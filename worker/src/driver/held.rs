//! A job that the worker holds: what the loop must remember from its delivery until its ack is
//! confirmed.

use std::sync::Arc;

use async_nats::Subject;
use bytes::Bytes;
use repull::beacon::RunningJob;
use repull::id::{JobId, Namespace};
use repull::wire::{Address, Place};

use super::Moment;
use crate::delivery::Delivery;
use crate::engine::QueueIx;
use crate::run::{Cancel, ProgressCell};
use crate::settle::Plan;

/// A held job.
pub(super) struct Held {
    pub(super) queue: QueueIx,
    /// Where the acks of its newest delivery go.
    pub(super) ack: Subject,
    pub(super) delivery: Arc<Delivery>,
    pub(super) cancel: Cancel,
    pub(super) progress: Arc<ProgressCell>,
    /// Why somebody wants it cancelled.
    pub(super) cancel_text: String,
    pub(super) started: Option<Moment>,
    /// Its attempt is over.
    pub(super) ended: bool,
    /// What settles it, between its end and the engine's word.
    pub(super) plan: Option<Plan>,
}

impl Held {
    pub(super) fn new(queue: QueueIx, delivery: Delivery) -> Self {
        Self {
            queue,
            ack: delivery.ack.clone(),
            delivery: Arc::new(delivery),
            cancel: Cancel::new(),
            progress: Arc::new(ProgressCell::new()),
            cancel_text: String::new(),
            started: None,
            ended: false,
            plan: None,
        }
    }

    /// Lets go of the arguments, which may be large: a job that is being settled runs no more here, and
    /// is not given back.
    pub(super) fn let_go_of_args(&mut self) {
        if let Some(delivery) = Arc::get_mut(&mut self.delivery) {
            delivery.body = Bytes::new();
        }
    }

    /// Whether the job's id is `id`; the last token of its subject.
    pub(super) fn is(&self, id: &str) -> bool {
        self.delivery.subject.rsplit('.').next() == Some(id)
    }

    /// The job as the beacon lists it, where it runs.
    pub(super) fn running(&self, namespace: &Namespace) -> Option<RunningJob> {
        let since = self.started?.wall;
        if self.ended {
            return None;
        }
        let Address { lane, task, id }: Address =
            Address::parse(namespace, Place::Jobs, &self.delivery.subject).ok()?;
        let used: u32 = self
            .delivery
            .headers
            .as_ref()
            .and_then(|headers| headers.get_last(repull::wire::headers::ATTEMPT))
            .and_then(|value| value.as_str().parse().ok())
            .unwrap_or(0);
        let id: JobId = id;
        Some(RunningJob {
            id,
            lane: lane.to_string(),
            task,
            attempt: used.saturating_add(self.delivery.info.deliveries),
            since,
            progress: self.progress.fraction(),
        })
    }
}
