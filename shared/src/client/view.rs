//! What the client says of a job: the same words in the CLI's tables and in its JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};

use crate::id::{InvalidName, JobId, Priority, QueueName, ScheduleId, TaskName, WorkerId};
use crate::job::{AttemptError, Job, Timeout};
use crate::retry::Backoff;
use crate::wire::{Address, EventKind, JobEvent};

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Waits in the work queue.
    Queued,
    /// A worker has it.
    Running,
    /// Waits for a time.
    Later,
    /// Was given up and lies with the dead.
    Dead,
    /// Has ended otherwise: succeeded, cancelled or expired.
    Done,
}

impl JobState {
    /// All of them, in the order of a job's life.
    pub const ALL: [JobState; 5] = [
        Self::Queued,
        Self::Running,
        Self::Later,
        Self::Dead,
        Self::Done,
    ];

    /// The word in the CLI and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Later => "later",
            Self::Dead => "dead",
            Self::Done => "done",
        }
    }

    /// Whether the job has not ended.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Queued | Self::Running | Self::Later)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for JobState {
    type Err = InvalidName;

    fn from_str(value: &str) -> Result<Self, InvalidName> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == value)
            .ok_or_else(|| InvalidName {
                what: "job state",
                value: value.chars().take(32).collect(),
                expected: "`queued`, `running`, `later`, `dead` or `done`",
            })
    }
}

/// One job in a listing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobSummary {
    /// Its id.
    pub id: JobId,
    /// Its queue.
    pub queue: QueueName,
    /// Its lane.
    pub priority: Priority,
    /// Its task.
    pub task: TaskName,
    /// Where it stands.
    pub state: JobState,
    /// How it ended, where it has.
    pub outcome: Option<EventKind>,
    /// The attempt that runs, or the last that ran; 0 where none has started.
    pub attempt: u32,
    /// Attempts it gets in all, where the job itself says so.
    pub max_attempts: Option<u32>,
    /// When it was made.
    pub enqueued_at: Option<DateTime<Utc>>,
    /// When it reached the state it is in, as far as known.
    pub since: Option<DateTime<Utc>>,
    /// When it runs next, where it waits for a time.
    pub run_at: Option<DateTime<Utc>>,
    /// The worker that runs it, or ran it last.
    pub worker: Option<WorkerId>,
    /// How far it says it is, from 0 to 1.
    pub progress: Option<f64>,
    /// The last error.
    pub error: Option<String>,
    /// The schedule that fired it.
    pub schedule: Option<ScheduleId>,
    /// The stream sequence of the message that says so.
    pub sequence: u64,
}

impl JobSummary {
    /// What a stored message says of its job.
    pub fn of_message(job: &Job, state: JobState, sequence: u64, stored_at: DateTime<Utc>) -> Self {
        Self {
            id: job.id.clone(),
            queue: job.queue.clone(),
            priority: job.priority,
            task: job.task.clone(),
            state,
            outcome: (state == JobState::Dead).then_some(EventKind::Failed),
            attempt: job.attempts_used,
            max_attempts: job.max_attempts,
            enqueued_at: job.enqueued_at.or(Some(stored_at)),
            since: Some(stored_at),
            run_at: job.run_at,
            worker: None,
            progress: None,
            error: job.errors.last().map(|error| error.error.clone()),
            schedule: job.schedule.clone(),
            sequence,
        }
    }

    /// What an outcome says of its job.
    pub fn of_outcome(address: &Address, event: &JobEvent, sequence: u64) -> Self {
        let failed = event.kind != EventKind::Succeeded;
        Self {
            id: address.id.clone(),
            queue: address.lane.queue.clone(),
            priority: address.lane.priority,
            task: address.task.clone(),
            state: JobState::Done,
            outcome: Some(event.kind),
            attempt: event.attempt,
            max_attempts: None,
            enqueued_at: None,
            since: Some(event.at),
            run_at: None,
            worker: WorkerId::new(&event.worker).ok(),
            progress: None,
            error: (failed && !event.body.is_empty()).then(|| event.text()),
            schedule: None,
            sequence,
        }
    }
}

/// All that is known of one job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobView {
    /// What a listing says.
    #[serde(flatten)]
    pub summary: JobSummary,
    /// Its message, where one is still there.
    pub message: Option<MessageView>,
    /// Why it is dead.
    pub reason: Option<String>,
    /// Its last errors, oldest first.
    pub errors: Vec<AttemptError>,
    /// Its last events, oldest first.
    pub events: Vec<EventView>,
    /// Where it is found.
    #[serde(skip)]
    pub address: Address,
    /// The enqueue it stands for, where its message or its outcome names one.
    pub nonce: Option<String>,
}

/// A job's message: what its handler is given and how it may be tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MessageView {
    /// The stream it lies in.
    pub stream: String,
    /// Its subject.
    pub subject: String,
    /// Its sequence in that stream.
    pub sequence: u64,
    /// When it was stored there.
    pub stored_at: DateTime<Utc>,
    /// The arguments: JSON where they are, else text.
    pub args: serde_json::Value,
    /// The arguments' size in bytes.
    pub args_bytes: usize,
    /// The arguments' media type; none means JSON.
    pub content_type: Option<String>,
    /// The wait between attempts.
    pub backoff: Option<Backoff>,
    /// How long one attempt may run.
    #[serde(serialize_with = "timeout_text")]
    pub timeout: Option<Timeout>,
    /// When it fails for good.
    pub deadline: Option<DateTime<Utc>>,
    /// When it expires unless it has started.
    pub expires: Option<DateTime<Utc>>,
    /// The fire it stands for.
    pub fire: Option<DateTime<Utc>>,
    /// Whether its outcome is stored, where the job itself says so.
    pub keep_result: Option<bool>,
    /// The submitter's own headers.
    pub headers: BTreeMap<String, String>,
}

impl MessageView {
    /// What is to be seen of a job's message.
    pub fn of(
        job: &Job,
        stream: String,
        subject: String,
        sequence: u64,
        at: DateTime<Utc>,
    ) -> Self {
        let headers = job.headers.iter().map(|(name, values)| {
            let values: Vec<&str> = values.iter().map(|value| value.as_str()).collect();
            (name.to_string(), values.join(", "))
        });
        Self {
            stream,
            subject,
            sequence,
            stored_at: at,
            args: show_body(&job.args, job.content_type.as_deref()),
            args_bytes: job.args.len(),
            content_type: job.content_type.clone(),
            backoff: job.backoff,
            timeout: job.timeout,
            deadline: job.deadline,
            expires: job.expires,
            fire: job.fire,
            keep_result: job.keep_result,
            headers: headers.collect(),
        }
    }
}

/// A body as JSON: parsed where it says nothing else and is, else as text.
pub(crate) fn show_body(body: &[u8], content_type: Option<&str>) -> serde_json::Value {
    if body.is_empty() {
        return serde_json::Value::Null;
    }
    if content_type.is_none_or(|kind| kind.contains("json"))
        && let Ok(value) = serde_json::from_slice(body)
    {
        return value;
    }
    serde_json::Value::String(String::from_utf8_lossy(body).into_owned())
}

#[expect(
    clippy::ref_option,
    reason = "serde's `serialize_with` hands a reference to the field"
)]
fn timeout_text<S: Serializer>(
    timeout: &Option<Timeout>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match timeout {
        None => serializer.serialize_none(),
        Some(Timeout::Never) => serializer.serialize_str("never"),
        Some(Timeout::After(after)) => serializer.collect_str(&humantime::format_duration(*after)),
    }
}

/// One event in the life of a job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EventView {
    /// What happened.
    pub event: EventKind,
    /// When.
    pub at: DateTime<Utc>,
    /// During or after which attempt.
    pub attempt: u32,
    /// Who says so.
    pub worker: String,
    /// When the attempt started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    /// When the job runs next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_at: Option<DateTime<Utc>>,
    /// How far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
    /// Why there is no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_dropped: Option<String>,
    /// The handler's value, or a text.
    pub value: serde_json::Value,
}

impl From<&JobEvent> for EventView {
    fn from(event: &JobEvent) -> Self {
        Self {
            event: event.kind,
            at: event.at,
            attempt: event.attempt,
            worker: event.worker.clone(),
            started_at: event.started_at,
            run_at: event.run_at,
            progress: event.progress,
            value_dropped: event.value_dropped.clone(),
            value: event.value(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_read_back_what_they_write() {
        for state in JobState::ALL {
            assert_eq!(state.to_string().parse::<JobState>().unwrap(), state);
        }
        let error = "asleep".parse::<JobState>().unwrap_err().to_string();
        assert!(
            error.contains("asleep") && error.contains("queued"),
            "{error}"
        );
    }

    #[test]
    fn a_body_that_is_no_json_is_shown_as_text() {
        assert_eq!(show_body(b"{\"a\":1}", None), serde_json::json!({"a": 1}));
        assert_eq!(show_body(b"{\"a\"", None), serde_json::json!("{\"a\""));
        assert_eq!(show_body(b"1", Some("text/plain")), serde_json::json!("1"));
        assert_eq!(show_body(b"", None), serde_json::Value::Null);
    }
}
