//! What a handler is given beside its arguments.

use std::any::type_name;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use chrono::{DateTime, Utc};
use repull::client::Client;
use repull::id::{JobId, WorkerId};
use repull::job::Job;
use tokio_util::sync::CancellationToken;

use super::events::Events;
use super::registry::{Limits, States};
use super::{Attempt, CancelReason, Registry, Task};

/// One attempt of a job, as its handler sees it. Cloning is a reference count.
///
/// A clone may outlive the attempt, for instance in a task that the handler spawned: what it tells
/// then goes nowhere.
#[derive(Clone)]
pub struct Context {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) attempt: Attempt,
    pub(super) client: Client,
    pub(super) deadline: Option<DateTime<Utc>>,
    pub(super) limits: Limits,
    pub(super) events: Events,
    pub(super) states: Arc<States>,
}

/// No state of the type was given to the worker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the worker has no state of type `{type_name}`, expected `.state(…)` where it is built")]
pub struct MissingState {
    /// The type that was asked for.
    pub type_name: &'static str,
}

impl Context {
    pub(super) fn new(
        registry: &Registry,
        task: &Task,
        client: &Client,
        attempt: Attempt,
        deadline: Option<DateTime<Utc>>,
    ) -> Self {
        let keep = attempt
            .job
            .keep_result
            .or(task.options.keep_result)
            .unwrap_or(registry.limits().results_default);
        Self {
            inner: Arc::new(Inner {
                attempt,
                client: client.clone(),
                deadline,
                limits: *registry.limits(),
                events: Events::new(keep),
                states: registry.states().clone(),
            }),
        }
    }

    /// The job.
    pub fn job(&self) -> &Job {
        &self.inner.attempt.job
    }

    /// The job's id.
    pub fn id(&self) -> &JobId {
        &self.job().id
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.inner.attempt.number
    }

    /// Attempts the job gets in all.
    pub fn max_attempts(&self) -> u32 {
        self.inner.attempt.max_attempts
    }

    /// Whether no further attempt follows if this one fails.
    pub fn is_last_attempt(&self) -> bool {
        self.attempt() >= self.max_attempts()
    }

    /// When the attempt started.
    pub fn started_at(&self) -> DateTime<Utc> {
        self.inner.attempt.started_at
    }

    /// When the attempt will be cancelled: the sooner of its timeout and the job's deadline.
    pub fn deadline(&self) -> Option<DateTime<Utc>> {
        self.inner.deadline
    }

    /// The worker that runs it.
    pub fn worker(&self) -> &WorkerId {
        &self.inner.attempt.worker
    }

    /// The headers that the submitter gave of its own, such as `traceparent`.
    pub fn headers(&self) -> &HeaderMap {
        &self.job().headers
    }

    /// The token that fires when the handler shall end: cancelled, out of time, or the worker ends.
    ///
    /// A handler that goes on is dropped where it next awaits, after the worker's grace.
    pub fn token(&self) -> &CancellationToken {
        self.inner.attempt.cancel.token()
    }

    /// Waits until the handler shall end; see [`Context::token`].
    pub async fn cancelled(&self) {
        self.token().cancelled().await;
    }

    /// Whether the handler shall end; see [`Context::token`].
    pub fn is_cancelled(&self) -> bool {
        self.inner.attempt.cancel.is_cancelled()
    }

    /// Why the handler shall end. None where it shall not, or where it exceeded its timeout.
    pub fn cancel_reason(&self) -> Option<CancelReason> {
        self.inner.attempt.cancel.reason()
    }

    /// How long the handler may take to end by itself once its token has fired.
    pub fn cancel_grace(&self) -> Duration {
        self.inner.limits.cancel_grace
    }

    /// The largest value that is stored with an outcome, in bytes.
    pub fn value_bytes_max(&self) -> usize {
        self.inner.limits.value_bytes_max
    }

    /// Tells how far the handler is, from 0 to 1, with a text for people.
    ///
    /// Cheap and from any thread: it is published as an event of the job, at most twice a second,
    /// of several the last. Best effort, and nowhere where the job's results are off.
    pub fn progress(&self, fraction: f64, text: impl Into<String>) {
        let fraction = if fraction.is_finite() {
            fraction.clamp(0.0, 1.0)
        } else {
            0.0
        };
        self.inner.attempt.progress.set(fraction);
        Events::progress(&self.inner, fraction, text.into());
    }

    /// Adds a line to the job's log. New lines are published as an event of the job every two seconds
    /// and at the attempt's end, the last 8 KiB of them. Best effort, like [`Context::progress`].
    pub fn log(&self, line: impl AsRef<str>) {
        Events::log(&self.inner, line.as_ref());
    }

    /// What was given to the worker as `.state(…)` of this type.
    ///
    /// # Errors
    /// Nothing of this type was given.
    pub fn state<T: Send + Sync + 'static>(&self) -> Result<&T, MissingState> {
        self.inner.states.get().ok_or(MissingState {
            type_name: type_name::<T>(),
        })
    }

    /// The client, to enqueue further jobs with.
    pub fn client(&self) -> &Client {
        &self.inner.client
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("attempt", &self.inner.attempt)
            .finish_non_exhaustive()
    }
}
