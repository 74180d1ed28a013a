//! A fire that is due, and one that was passed over.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use repull::id::{JobId, ScheduleId};
use repull::job::Job;
use repull::schedule::{Coalesce, JobTemplate, Overlap, fire_id, fire_job};

/// What the fires of a schedule have in common but its trigger and arguments. Shared by all
/// schedules that agree in it, which is most of them where there are many.
#[derive(Debug, Clone, PartialEq)]
pub struct Kind {
    /// The job, without its arguments.
    pub job: JobTemplate,
    /// What happens to several fires that are due at once.
    pub coalesce: Coalesce,
    /// How late a fire may be.
    pub misfire_grace: Option<chrono::TimeDelta>,
    /// What happens while the previous run has not ended.
    pub overlap: Overlap,
    /// The most that a fire is delayed.
    pub jitter: Option<std::time::Duration>,
}

/// A fire that is due and shall become a job.
#[derive(Debug, Clone)]
pub struct Fire {
    /// The schedule.
    pub schedule: ScheduleId,
    /// The fire's time.
    pub at: DateTime<Utc>,
    /// When it is due: its time and the jitter.
    pub due: DateTime<Utc>,
    /// All else.
    pub kind: Arc<Kind>,
    /// The job's arguments.
    pub args: Bytes,
}

impl Fire {
    /// The id of the fire: the same whoever publishes it.
    pub fn id(&self) -> String {
        fire_id(&self.schedule, self.at)
    }

    /// The job that it becomes.
    pub fn job(&self) -> Job {
        let mut job = fire_job(
            &self.schedule,
            &self.kind.job,
            self.kind.overlap,
            self.at,
            self.args.clone(),
        );
        job.expires = self
            .kind
            .misfire_grace
            .and_then(|grace| self.due.checked_add_signed(grace));
        job
    }

    /// The job's id.
    pub fn job_id(&self) -> JobId {
        repull::schedule::fire_job_id(&self.schedule, self.kind.overlap, self.at)
    }
}

/// One fire or several in a row that make no job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// The schedule.
    pub schedule: ScheduleId,
    /// The first of them.
    pub first: DateTime<Utc>,
    /// The last of them.
    pub last: DateTime<Utc>,
    /// How many; none where there are so many that they were not counted.
    pub count: Option<u32>,
    /// Why.
    pub why: Passing,
}

/// Why a fire makes no job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passing {
    /// It is older than the schedule allows.
    Misfired {
        /// The schedule's bound.
        grace: chrono::TimeDelta,
    },
    /// Several were due at once, and this one stands for them.
    Coalesced {
        /// The fire that makes the job.
        into: DateTime<Utc>,
    },
}

/// What shall become of fires that are due.
#[derive(Debug, Clone)]
pub enum Decision {
    /// To be published.
    Publish(Fire),
    /// To be written to the ledger.
    Pass(Passed),
}
