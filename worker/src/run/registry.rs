//! The tasks of a worker by name, the state their handlers share, and the limits that hold for all.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use repull::id::TaskName;
use repull::job::{Job, TIMEOUT_DEFAULT, Timeout};
use repull::retry::Backoff;
use rustc_hash::FxHashMap;

use super::Handler;
use crate::config::WorkerConfig;

/// What a worker can run.
pub struct Registry {
    /// A name that comes from outside is looked up and never added, so that the hash needs no defence.
    tasks: FxHashMap<TaskName, Task>,
    states: Arc<States>,
    limits: Limits,
}

impl Registry {
    pub(crate) fn new(
        tasks: HashMap<TaskName, Task>,
        states: Arc<States>,
        config: &WorkerConfig,
    ) -> Self {
        let limits = Limits {
            cancel_grace: config.cancel_grace,
            results_default: config.results_default,
            value_bytes_max: config.value_bytes_max,
        };
        Self {
            tasks: tasks.into_iter().collect(),
            states,
            limits,
        }
    }

    /// The task of this name.
    pub fn find(&self, name: &TaskName) -> Option<&Task> {
        self.tasks.get(name)
    }

    /// The name of the task that is written so.
    pub(crate) fn known(&self, name: &str) -> Option<&TaskName> {
        self.tasks.get_key_value(name).map(|(name, _)| name)
    }

    /// The names of all tasks, sorted.
    pub fn names(&self) -> Vec<&TaskName> {
        let mut names: Vec<_> = self.tasks.keys().collect();
        names.sort_unstable();
        names
    }

    pub(crate) fn states(&self) -> &Arc<States> {
        &self.states
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("tasks", &self.names())
            .finish_non_exhaustive()
    }
}

/// A task: its handler and what holds for its jobs.
pub struct Task {
    pub(crate) handler: Handler,
    /// What holds for its jobs where they do not say.
    pub options: TaskOptions,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// What holds for the jobs of a task where they do not say themselves.
///
/// ```
/// use std::time::Duration;
/// use repull_worker::TaskOptions;
///
/// let options = TaskOptions::new().timeout(Duration::from_secs(30)).max_attempts(5);
/// assert_eq!(options.max_attempts, Some(5));
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskOptions {
    /// How long one attempt may run; none: an hour.
    pub timeout: Option<Timeout>,
    /// Attempts in all; none: as the queue or the default says.
    pub max_attempts: Option<u32>,
    /// How long to wait between attempts; none: as the queue or the default says.
    pub backoff: Option<Backoff>,
    /// Whether outcomes are stored; none: as the worker says.
    pub keep_result: Option<bool>,
}

impl TaskOptions {
    /// Options that say nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// One attempt may run for this long.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(Timeout::After(timeout));
        self
    }

    /// An attempt may run until it ends by itself.
    #[must_use]
    pub fn no_timeout(mut self) -> Self {
        self.timeout = Some(Timeout::Never);
        self
    }

    /// A job gets this many attempts in all.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts);
        self
    }

    /// The wait between attempts.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// Whether outcomes are stored.
    #[must_use]
    pub fn keep_result(mut self, keep: bool) -> Self {
        self.keep_result = Some(keep);
        self
    }

    /// How long an attempt of `job` may run: as the job, the task or the default says.
    pub fn timeout_of(&self, job: &Job) -> Timeout {
        job.timeout
            .or(self.timeout)
            .unwrap_or(Timeout::After(TIMEOUT_DEFAULT))
    }
}

/// What holds for all attempts of a worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How long a handler may take to end by itself after its cancellation.
    pub(crate) cancel_grace: Duration,
    /// Whether events and outcomes are stored where neither job nor task says.
    pub(crate) results_default: bool,
    /// The largest value that is stored with an outcome.
    pub(crate) value_bytes_max: usize,
}

/// What handlers share, one value of each type.
#[derive(Default)]
pub(crate) struct States(HashMap<TypeId, Box<dyn Any + Send + Sync>>);

impl States {
    /// Adds a value; false where one of its type is there already.
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, state: T) -> bool {
        self.0.insert(TypeId::of::<T>(), Box::new(state)).is_none()
    }

    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.0.get(&TypeId::of::<T>())?.downcast_ref()
    }
}
