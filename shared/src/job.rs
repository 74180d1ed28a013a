//! A job: a task to run on a queue with its arguments, and how it may be tried.
//!
//! The same type is built by producers, carried by the wire and read by workers. Everything but the
//! task has a default, so a bare publish from any NATS client is a complete job (`docs/WIRE.md`).

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::id::{InvalidName, JobId, Lane, Priority, QueueName, ScheduleId, TaskName};
use crate::retry::Backoff;
use crate::unique::OnConflict;

/// The attempt timeout of a job that names none.
///
/// A handler that hangs holds a slot, so there is a bound even where nobody thought of one.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(3600);

/// How many of the last errors a job carries from attempt to attempt.
pub const ERRORS_KEPT: usize = 10;

/// How much of one error's text is kept, in characters.
pub const ERROR_CHARS_MAX: usize = 400;

/// How long one attempt may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// The attempt is cancelled after this time and counts as failed.
    After(Duration),
    /// Until it ends by itself.
    Never,
}

/// One attempt that ended badly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptError {
    /// Which attempt, from 1.
    pub attempt: u32,
    /// When it ended.
    pub at: DateTime<Utc>,
    /// The worker that ran it.
    pub worker: String,
    /// What went wrong, cut to [`ERROR_CHARS_MAX`].
    pub error: String,
}

/// A job on its way through the system.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its id, unique while it is queued, running or later.
    pub id: JobId,
    /// Whether the id is the caller's own, so that one that waits for a time counts as there too.
    /// Not on the wire: it only says how to enqueue.
    pub unique: bool,
    /// The period over which the id is unique, also when the job has ended; none: only while it is
    /// queued, running or later. Not on the wire, see [`Job::unique_for`].
    pub period: Option<Duration>,
    /// What becomes of a submit that finds a job of this id. Not on the wire.
    pub on_conflict: OnConflict,
    /// The queue it waits on.
    pub queue: QueueName,
    /// The queue's lane.
    pub priority: Priority,
    /// The task that handles it.
    pub task: TaskName,
    /// The task's arguments: JSON unless `content_type` says otherwise.
    pub args: Bytes,
    /// The media type of `args`; none means JSON.
    pub content_type: Option<String>,
    /// Attempts that have ended before this message was published.
    pub attempts_used: u32,
    /// Attempts it gets in all; none: as the task, the queue or the default says.
    pub max_attempts: Option<u32>,
    /// How long to wait between attempts; none: as the task, the queue or the default says.
    pub backoff: Option<Backoff>,
    /// How long one attempt may run; none: as the task or the default says.
    pub timeout: Option<Timeout>,
    /// The job fails for good when it has not succeeded by then, over all attempts.
    pub deadline: Option<DateTime<Utc>>,
    /// The job ends `expired` when its first attempt has not started by then.
    pub expires: Option<DateTime<Utc>>,
    /// Not before this time.
    pub run_at: Option<DateTime<Utc>>,
    /// When the submitter made it.
    pub enqueued_at: Option<DateTime<Utc>>,
    /// The schedule that fired it.
    pub schedule: Option<ScheduleId>,
    /// The fire it stands for.
    pub fire: Option<DateTime<Utc>>,
    /// Whether its outcome is stored; none: as the task says, by default it is.
    pub keep_result: Option<bool>,
    /// Distinguishes this enqueue from another of the same id, over all publishes and attempts.
    pub nonce: Option<String>,
    /// The last errors, oldest first.
    pub errors: Vec<AttemptError>,
    /// Headers of the submitter's own, handed to the handler unchanged (such as `traceparent`).
    pub headers: HeaderMap,
}

impl Job {
    /// A job for `task` on the queue `default` with a generated id and empty arguments.
    pub fn new(task: TaskName) -> Self {
        Self {
            id: JobId::generate(),
            ..Self::bare(task)
        }
    }

    /// A job that has nothing but a task; its id is a placeholder.
    pub(crate) fn bare(task: TaskName) -> Self {
        Self {
            id: JobId::placeholder(),
            unique: false,
            period: None,
            on_conflict: OnConflict::Keep,
            queue: QueueName::default(),
            priority: Priority::Normal,
            task,
            args: Bytes::new(),
            content_type: None,
            attempts_used: 0,
            max_attempts: None,
            backoff: None,
            timeout: None,
            deadline: None,
            expires: None,
            run_at: None,
            enqueued_at: None,
            schedule: None,
            fire: None,
            keep_result: None,
            nonce: None,
            errors: Vec::new(),
            headers: HeaderMap::new(),
        }
    }

    /// A job for the task of this name, with `args` as JSON.
    pub fn json<T: Serialize + ?Sized>(task: &str, args: &T) -> Result<Self, InvalidJob> {
        let task = TaskName::new(task)?;
        let args = serde_json::to_vec(args).map_err(|error| InvalidJob::Arguments {
            task: task.clone(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            args: args.into(),
            ..Self::new(task)
        })
    }

    /// The same job on another queue.
    #[must_use]
    pub fn on(mut self, queue: QueueName) -> Self {
        self.queue = queue;
        self
    }

    /// The same job under an id of the caller's: unique while it is queued, running or later.
    #[must_use]
    pub fn with_id(mut self, id: JobId) -> Self {
        self.id = id;
        self.unique = true;
        self
    }

    /// The same job on another lane.
    #[must_use]
    pub fn with_priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// The same job, not before `run_at`.
    #[must_use]
    pub fn not_before(mut self, run_at: DateTime<Utc>) -> Self {
        self.run_at = Some(run_at);
        self
    }

    /// The lane it waits on.
    pub fn lane(&self) -> Lane {
        Lane {
            queue: self.queue.clone(),
            priority: self.priority,
        }
    }

    /// Adds an error to those it carries and forgets the oldest above [`ERRORS_KEPT`].
    pub fn push_error(&mut self, mut error: AttemptError) {
        if error.error.chars().count() > ERROR_CHARS_MAX {
            error.error = error
                .error
                .chars()
                .take(ERROR_CHARS_MAX - 1)
                .chain(['…'])
                .collect();
        }
        self.errors.push(error);
        let surplus = self.errors.len().saturating_sub(ERRORS_KEPT);
        self.errors.drain(..surplus);
    }
}

/// A job that can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJob {
    /// A name in it is not valid.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The arguments can't be written as JSON.
    #[error("arguments of task `{task}` can't be written as JSON: {reason}")]
    Arguments {
        /// The task.
        task: TaskName,
        /// What the serializer said.
        reason: String,
    },
    /// What should make it unique does not.
    #[error("a job for task `{task}` can't be unique by this key: {reason}")]
    Key {
        /// The task.
        task: TaskName,
        /// What is wrong with the key.
        reason: String,
    },
}
