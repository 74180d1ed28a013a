//! A queue's settings, kept in the bucket of queues under the queue's name.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::retry::Backoff;

/// What holds for all jobs and workers of a queue. Everything has a default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueSettings {
    /// Set while no worker may start jobs of this queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// Most jobs of the queue that may run at once over all workers: its consumer's
    /// `max_ack_pending`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Attempts for jobs that do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Backoff for jobs that do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// Whether the queue has the lanes `high` and `low` beside the normal one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub lanes: bool,
}

/// A pause: who asked for it, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who paused it.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Since when.
    pub at: DateTime<Utc>,
}
