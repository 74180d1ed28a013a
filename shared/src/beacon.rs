//! What a live worker says of itself, kept in the bucket of workers under its id.
//!
//! The bucket forgets an entry that is not renewed for 15 s, so that what is listed is alive.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::id::{JobId, TaskName, WorkerId};

/// How often a worker renews its beacon.
pub const BEACON_INTERVAL: Duration = Duration::from_secs(4);

/// After how long without renewal a worker is no longer listed.
pub const BEACON_AGE_MAX: Duration = Duration::from_secs(15);

/// The most running jobs a beacon lists.
pub const RUNNING_LISTED_MAX: usize = 100;

/// What a worker claims; `repull doctor` compares it with what the broker says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beacon {
    /// The worker.
    pub id: WorkerId,
    /// The version of the software.
    pub version: String,
    /// When the process started.
    pub started_at: DateTime<Utc>,
    /// When this was written.
    pub at: DateTime<Utc>,
    /// The lanes it serves, as `<queue>` or `<queue>~high`.
    pub lanes: Vec<String>,
    /// Its slots.
    pub slots: u32,
    /// Slots with a running job.
    pub running: u32,
    /// Slots promised to open pulls.
    pub promised: u32,
    /// Ended jobs whose ack is not confirmed yet.
    pub settling: u32,
    /// When a job last arrived.
    pub last_delivery: Option<DateTime<Utc>>,
    /// Whether it is ending.
    pub draining: bool,
    /// Handlers that ignore their cancellation.
    #[serde(default)]
    pub stuck: u32,
    /// What its watchdog has had to do since it started.
    #[serde(default)]
    pub watchdog_actions: u64,
    /// Running jobs, the longest running first, at most [`RUNNING_LISTED_MAX`].
    pub jobs: Vec<RunningJob>,
}

/// A running job, in a beacon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunningJob {
    /// The job.
    pub id: JobId,
    /// Its lane.
    pub lane: String,
    /// Its task.
    pub task: TaskName,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// When the attempt started.
    pub since: DateTime<Utc>,
    /// The last progress it told, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
}
