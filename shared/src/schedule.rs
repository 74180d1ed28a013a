//! A schedule: a trigger, the job it makes and what happens when a fire is late or overlaps.
//!
//! Kept as JSON in the bucket of schedules under its id, checked on every write.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::id::{InvalidName, JobId, Priority, QueueName, ScheduleId, TaskName};
use crate::job::{Job, Timeout};
use crate::queue::Pause;
use crate::retry::Backoff;
use crate::trigger::{self, Trigger};

/// The most fires that `max_runs` may count: a scheduler finds the last of them by walking there.
pub const MAX_RUNS_MAX: u64 = 1_000_000;

/// What the id of a fire's later job ends with while the fire waits for the previous run to end
/// ([`Overlap::BufferOne`]). The schedule's own id is taken by that run, and may be taken by its
/// retry.
pub const BUFFERED_SUFFIX: &str = "__next";

/// A schedule as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Its id: the bucket's key.
    pub id: ScheduleId,
    /// When it fires.
    pub trigger: Trigger,
    /// The job each fire makes.
    pub job: JobTemplate,
    /// What happens to several fires that are due at once.
    #[serde(default, skip_serializing_if = "is_default")]
    pub coalesce: Coalesce,
    /// Fires older than this are skipped, and jobs not started by then expire; none: never.
    #[serde(
        default,
        with = "duration_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub misfire_grace: Option<Duration>,
    /// What happens when the previous run has not ended.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overlap: Overlap,
    /// The most that a fire is delayed, by a hash of the schedule and the fire.
    #[serde(
        default,
        with = "duration_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub jitter: Option<Duration>,
    /// It ends after this many fires, counted from `active_from`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_runs: Option<u64>,
    /// It pauses itself after this many failed jobs in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_after_failures: Option<u32>,
    /// Set while it must not fire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// Only fires after this time count; set when the schedule is made, edited or resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_from: Option<DateTime<Utc>>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The users' own labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// The job that a fire makes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobTemplate {
    /// The task.
    pub task: TaskName,
    /// The queue.
    #[serde(default, skip_serializing_if = "is_default")]
    pub queue: QueueName,
    /// The lane.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: Priority,
    /// The arguments.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub args: serde_json::Value,
    /// Attempts in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// The wait between attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// How long one attempt may run.
    #[serde(
        default,
        with = "duration_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub timeout: Option<Duration>,
    /// Whether outcomes are stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_result: Option<bool>,
}

/// What happens to several fires of one schedule that are due at once, as after an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coalesce {
    /// Each makes its job.
    #[default]
    All,
    /// Only the latest does.
    Latest,
    /// Only the earliest does.
    Earliest,
}

/// What happens to a fire when the schedule's previous run is queued, running or waits for a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Both run.
    #[default]
    Allow,
    /// The fire is skipped.
    Skip,
    /// One fire waits for the previous run to end, further ones are skipped.
    BufferOne,
    /// The previous run is cancelled.
    CancelOther,
}

/// Why a schedule can't be accepted.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSchedule {
    /// Its JSON is not a schedule's.
    #[error("schedule `{id}` can't be read: {reason}")]
    Json {
        /// Its id, as far as known.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// A name in it is not valid.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// Its trigger is not valid or can never fire.
    #[error("schedule `{id}`: {source}")]
    Trigger {
        /// The schedule.
        id: ScheduleId,
        /// What is wrong.
        #[source]
        source: trigger::Error,
    },
    /// A number is out of its range.
    #[error("schedule `{id}`: {field} is {value}, expected {expected}")]
    Value {
        /// The schedule.
        id: ScheduleId,
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// The range.
        expected: &'static str,
    },
}

impl Schedule {
    /// A schedule with every policy at its default.
    pub fn new(id: ScheduleId, trigger: Trigger, job: JobTemplate) -> Self {
        Self {
            id,
            trigger,
            job,
            coalesce: Coalesce::default(),
            misfire_grace: None,
            overlap: Overlap::default(),
            jitter: None,
            max_runs: None,
            pause_after_failures: None,
            paused: None,
            active_from: None,
            description: String::new(),
            metadata: BTreeMap::new(),
        }
    }

    /// Reads what the bucket holds and checks it.
    pub fn from_json(id: &str, json: &[u8]) -> Result<Self, InvalidSchedule> {
        let schedule: Self =
            serde_json::from_slice(json).map_err(|error| InvalidSchedule::Json {
                id: id.to_owned(),
                reason: error.to_string(),
            })?;
        schedule.validate()?;
        Ok(schedule)
    }

    /// Checks all that can be wrong, the trigger above all.
    pub fn validate(&self) -> Result<(), InvalidSchedule> {
        let value = |field, value: u64, expected| InvalidSchedule::Value {
            id: self.id.clone(),
            field,
            value: value.to_string(),
            expected,
        };
        self.trigger
            .validate()
            .map_err(|source| InvalidSchedule::Trigger {
                id: self.id.clone(),
                source,
            })?;
        if let Some(runs) = self.max_runs
            && !(1..=MAX_RUNS_MAX).contains(&runs)
        {
            return Err(value("max_runs", runs, "1 to 1000000"));
        }
        if self.pause_after_failures == Some(0) {
            return Err(value("pause_after_failures", 0, "at least 1"));
        }
        if self.job.max_attempts == Some(0) {
            return Err(value("job.max_attempts", 0, "at least 1"));
        }
        Ok(())
    }

    /// The id that every publish of the fire at `fire` carries, whoever publishes it.
    pub fn fire_id(&self, fire: DateTime<Utc>) -> String {
        fire_id(&self.id, fire)
    }

    /// The id of the job that the fire at `fire` makes.
    pub fn job_id(&self, fire: DateTime<Utc>) -> JobId {
        fire_job_id(&self.id, self.overlap, fire)
    }

    /// The job that the fire at `fire` makes.
    pub fn job(&self, fire: DateTime<Utc>) -> Job {
        let args = self.job.args_bytes().into();
        let mut job = fire_job(&self.id, &self.job, self.overlap, fire, args);
        let grace = self
            .misfire_grace
            .and_then(|grace| chrono::TimeDelta::from_std(grace).ok());
        job.expires = grace.and_then(|grace| fire.checked_add_signed(grace));
        job
    }
}

impl JobTemplate {
    /// The arguments as the job carries them: JSON, or nothing where there are none.
    pub fn args_bytes(&self) -> Vec<u8> {
        match &self.args {
            serde_json::Value::Null => Vec::new(),
            args => args.to_string().into_bytes(),
        }
    }
}

/// The id that every publish of a schedule's fire at `fire` carries, whoever publishes it.
pub fn fire_id(schedule: &ScheduleId, fire: DateTime<Utc>) -> String {
    format!("{schedule}-{}", fire.timestamp_millis())
}

/// The id of the job that a schedule's fire at `fire` makes. Where runs must not overlap it is the
/// schedule's own, so that the broker refuses a second one while the first is there.
pub fn fire_job_id(schedule: &ScheduleId, overlap: Overlap, fire: DateTime<Utc>) -> JobId {
    let id = match overlap {
        Overlap::Allow => fire_id(schedule, fire),
        Overlap::Skip | Overlap::BufferOne | Overlap::CancelOther => schedule.to_string(),
    };
    // A schedule id is short enough for both forms: SCHEDULE_ID_BYTES_MAX.
    JobId::new(id).unwrap_or_else(|_| JobId::generate())
}

/// The job that a schedule's fire at `fire` makes, with `args` in place of the template's. When it
/// expires is the caller's to say, who knows when the fire was due.
pub fn fire_job(
    schedule: &ScheduleId,
    template: &JobTemplate,
    overlap: Overlap,
    fire: DateTime<Utc>,
    args: bytes::Bytes,
) -> Job {
    Job {
        id: fire_job_id(schedule, overlap, fire),
        queue: template.queue.clone(),
        priority: template.priority,
        args,
        max_attempts: template.max_attempts,
        backoff: template.backoff,
        timeout: template.timeout.map(Timeout::After),
        schedule: Some(schedule.clone()),
        fire: Some(fire),
        keep_result: template.keep_result,
        nonce: Some(fire_id(schedule, fire)),
        ..Job::bare(template.task.clone())
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Durations as people write them, `90s` or `1h 30m`.
pub mod duration_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes a duration as text.
    pub fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(duration) => serializer.collect_str(&humantime::format_duration(*duration)),
            None => serializer.serialize_none(),
        }
    }

    /// Reads a duration from text.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else {
            return Ok(None);
        };
        humantime::parse_duration(&text).map(Some).map_err(|error| {
            serde::de::Error::custom(format!(
                "duration `{text}` is not valid ({error}), expected one such as `90s` or `1h 30m`"
            ))
        })
    }
}
