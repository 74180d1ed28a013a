//! Running: one attempt of one job, from its arguments to how it ended.
//!
//! A [`Registry`] holds the tasks by name. [`attempt`] looks the job's task up, calls its handler
//! with a [`Context`], and keeps the promises that a slot depends on: it ends when the handler
//! returns, fails, panics, is cancelled or exceeds its time, and says which of them it was as an
//! [`Ending`]. What follows from an ending (a retry, a dead letter, an ack) is decided elsewhere.

mod cancel;
mod context;
mod events;
mod guard;
mod handler;
mod layer;
mod limits;
mod output;
mod progress;
mod registry;
mod task_error;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use repull::id::WorkerId;
use repull::job::Job;

pub use cancel::{Cancel, CancelReason};
pub use context::{Context, MissingState};
pub(crate) use handler::{Handler, raw, typed};
pub use layer::{Next, TaskService};
pub(crate) use layer::{Wrap, around, layer, service, wrapped};
pub use limits::attempt;
pub use output::Output;
pub use progress::ProgressCell;
pub(crate) use registry::States;
pub use registry::{Registry, Task, TaskOptions};
pub use task_error::{BoxError, TaskError};

/// How one attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// The handler is done.
    Succeeded {
        /// What it returned.
        value: Bytes,
        /// The value's media type; none means JSON.
        content_type: Option<String>,
    },
    /// It failed, panicked or timed out, and may be tried again when the backoff says so.
    Failed {
        /// What went wrong.
        error: String,
    },
    /// It failed and may be tried again at a time that the handler names.
    RetryIn {
        /// What went wrong.
        error: String,
        /// When to try again.
        delay: Duration,
    },
    /// It failed for good: another attempt would be no better, or comes after the deadline.
    Permanent {
        /// What went wrong.
        error: String,
    },
    /// The handler asked to be called later. No attempt was used.
    Snoozed {
        /// When.
        delay: Duration,
    },
    /// It was cancelled. A timeout ends as [`Ending::Failed`] and a deadline that passed while the
    /// handler ran as [`Ending::Permanent`], with what the handler said.
    Cancelled {
        /// Why.
        reason: CancelReason,
    },
    /// The job came to a worker after it expired. Never from [`attempt`].
    Expired,
    /// The job's outcome is there already, or its message has been replaced. Never from
    /// [`attempt`].
    Superseded,
    /// This worker has no handler for the job's task.
    UnknownTask,
}

/// One attempt of a job, as the worker's loop starts it.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The job.
    pub job: Arc<Job>,
    /// Which attempt, from 1.
    pub number: u32,
    /// Attempts the job gets in all, as the job, its task, its queue or the default says.
    pub max_attempts: u32,
    /// The worker that runs it.
    pub worker: WorkerId,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// Cancels it.
    pub cancel: Cancel,
    /// Where it says how far it is.
    pub progress: Arc<ProgressCell>,
}
