//! What every running attempt of a worker shares.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use repull::client::Client;
use repull::id::{QueueName, WorkerId};
use repull::job::Job;
use repull::queue::QueueSettings;

use crate::run::Registry;
use crate::settle::Policy;

/// The worker behind an attempt.
#[derive(Debug)]
pub(crate) struct Crew {
    pub(crate) client: Client,
    pub(crate) worker: WorkerId,
    pub(crate) registry: Arc<Registry>,
    pub(crate) results_default: bool,
    pub(crate) value_bytes_max: usize,
    /// The settings of the queues, as the watch keeps them.
    pub(crate) queues: Queues,
}

impl Crew {
    /// What applies to `job` where it does not say itself: its task's options, else its queue's.
    pub(crate) fn policy(&self, job: &Job) -> Policy {
        let options = self.registry.find(&job.task).map(|task| &task.options);
        let queue = self.queues.get(&job.queue);
        Policy {
            max_attempts: options
                .and_then(|options| options.max_attempts)
                .or(queue.max_attempts),
            backoff: options
                .and_then(|options| options.backoff)
                .or(queue.backoff),
            keep_result: options
                .and_then(|options| options.keep_result)
                .or(Some(self.results_default)),
        }
    }
}

/// The settings of queues, shared between the watch that writes and the attempts that read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queues(Arc<RwLock<HashMap<QueueName, Arc<QueueSettings>>>>);

impl Queues {
    /// The settings of a queue; the defaults where it has none.
    pub(crate) fn get(&self, queue: &QueueName) -> Arc<QueueSettings> {
        static DEFAULT: LazyLock<Arc<QueueSettings>> = LazyLock::new(Arc::default);
        let queues = self.0.read().unwrap_or_else(PoisonError::into_inner);
        queues.get(queue).unwrap_or(&DEFAULT).clone()
    }

    /// Notes a queue's settings; returns whether they changed.
    pub(crate) fn set(&self, queue: QueueName, settings: QueueSettings) -> bool {
        let mut queues = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let settings = Arc::new(settings);
        queues
            .insert(queue, settings.clone())
            .is_none_or(|before| before != settings)
    }
}
