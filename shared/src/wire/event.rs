//! What happens to a job after it was taken, as messages on its `results` subject.
//!
//! The last event of a job is its outcome. Each event is headers plus a body: the handler's value
//! for a success, text for anything else.

use std::fmt;
use std::str::FromStr;

use async_nats::HeaderMap;
use async_nats::header::HeaderName;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::envelope::{DecodeError, header, read_time, refused, write_time};
use super::headers::{
    AT, ATTEMPT, CONTENT_TYPE, EVENT, NONCE, PROGRESS, RUN_AT, SEQUENCE, STARTED_AT, VALUE_DROPPED,
    WORKER,
};

/// What an event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// The handler told how far it is.
    Progress,
    /// The end of what the handler wrote to its log.
    Log,
    /// The attempt failed and another will follow.
    Retrying,
    /// The handler asked to be called later; no attempt was used.
    Snoozed,
    /// Outcome: the job is done, the body is its value.
    Succeeded,
    /// Outcome: the job is given up and lies with the dead.
    Failed,
    /// Outcome: somebody cancelled the job.
    Cancelled,
    /// Outcome: the job could not start before it expired.
    Expired,
}

impl EventKind {
    /// All of them.
    pub const ALL: [EventKind; 8] = [
        Self::Progress,
        Self::Log,
        Self::Retrying,
        Self::Snoozed,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// Whether nothing follows it.
    pub fn is_outcome(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Expired
        )
    }

    /// The word on the wire, in metrics and in the CLI.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Progress => "progress",
            Self::Log => "log",
            Self::Retrying => "retrying",
            Self::Snoozed => "snoozed",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for EventKind {
    type Err = DecodeError;

    fn from_str(value: &str) -> Result<Self, DecodeError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == value)
            .ok_or_else(|| {
                refused(
                    EVENT,
                    value,
                    "progress, log, retrying, snoozed, succeeded, failed, cancelled or expired",
                )
            })
    }
}

/// One event in the life of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobEvent {
    /// What happened.
    pub kind: EventKind,
    /// During or after which attempt, from 1; 0 where none had started.
    pub attempt: u32,
    /// Who says so: a worker's id, or `client` or `scheduler`.
    pub worker: String,
    /// When the attempt started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// The enqueue it belongs to.
    pub nonce: Option<String>,
    /// The stream sequence of the job's message: tells a redelivered job that it is done already.
    pub sequence: Option<u64>,
    /// Why there is no value although the handler returned one.
    pub value_dropped: Option<String>,
    /// When the job runs next, for `retrying` and `snoozed`.
    pub run_at: Option<DateTime<Utc>>,
    /// How far the job is, from 0 to 1, for `progress`.
    pub progress: Option<f64>,
    /// The body's media type; none means JSON for a success and text for anything else.
    pub content_type: Option<String>,
    /// The handler's value, or a text.
    pub body: Bytes,
}

impl JobEvent {
    /// An event of this kind, now, with an empty body.
    pub fn new(
        kind: EventKind,
        attempt: u32,
        worker: impl Into<String>,
        at: DateTime<Utc>,
    ) -> Self {
        Self {
            kind,
            attempt,
            worker: worker.into(),
            started_at: None,
            at,
            nonce: None,
            sequence: None,
            value_dropped: None,
            run_at: None,
            progress: None,
            content_type: None,
            body: Bytes::new(),
        }
    }

    /// The headers that say all of it but the body.
    pub fn encode_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut put = |name: &'static str, value: String| {
            headers.insert(HeaderName::from_static(name), value);
        };
        put(EVENT, self.kind.as_str().to_owned());
        put(ATTEMPT, self.attempt.to_string());
        put(WORKER, self.worker.clone());
        put(AT, write_time(self.at));
        if let Some(started_at) = self.started_at {
            put(STARTED_AT, write_time(started_at));
        }
        if let Some(nonce) = &self.nonce {
            put(NONCE, nonce.clone());
        }
        if let Some(sequence) = self.sequence {
            put(SEQUENCE, sequence.to_string());
        }
        if let Some(reason) = &self.value_dropped {
            put(VALUE_DROPPED, reason.clone());
        }
        if let Some(run_at) = self.run_at {
            put(RUN_AT, write_time(run_at));
        }
        if let Some(progress) = self.progress {
            put(PROGRESS, progress.to_string());
        }
        if let Some(content_type) = &self.content_type {
            put(CONTENT_TYPE, content_type.clone());
        }
        headers
    }

    /// Reads an event.
    pub fn decode(headers: Option<&HeaderMap>, body: Bytes) -> Result<Self, DecodeError> {
        let time = |name: &'static str| {
            header(headers, name)
                .map(|v| read_time(name, v))
                .transpose()
        };
        let kind = header(headers, EVENT).ok_or_else(|| refused(EVENT, "", "an event's kind"))?;
        let attempt = header(headers, ATTEMPT).unwrap_or("0");
        let progress = header(headers, PROGRESS)
            .map(|value| {
                value
                    .parse()
                    .map_err(|_| refused(PROGRESS, value, "a number from 0 to 1"))
            })
            .transpose()?;
        Ok(Self {
            kind: kind.parse()?,
            attempt: attempt
                .parse()
                .map_err(|_| refused(ATTEMPT, attempt, "a whole number"))?,
            worker: header(headers, WORKER).unwrap_or_default().to_owned(),
            started_at: time(STARTED_AT)?,
            at: time(AT)?.ok_or_else(|| refused(AT, "", "a time (RFC 3339)"))?,
            nonce: header(headers, NONCE).map(str::to_owned),
            sequence: header(headers, SEQUENCE).and_then(|value| value.parse().ok()),
            value_dropped: header(headers, VALUE_DROPPED).map(str::to_owned),
            run_at: time(RUN_AT)?,
            progress,
            content_type: header(headers, CONTENT_TYPE).map(str::to_owned),
            body,
        })
    }

    /// The body as a JSON value: parsed where it is JSON, else as a string.
    pub fn value(&self) -> serde_json::Value {
        if self.body.is_empty() {
            return serde_json::Value::Null;
        }
        let is_json = self
            .content_type
            .as_deref()
            .map_or(self.kind == EventKind::Succeeded, |t| t.contains("json"));
        if is_json && let Ok(value) = serde_json::from_slice(&self.body) {
            return value;
        }
        serde_json::Value::String(String::from_utf8_lossy(&self.body).into_owned())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_read_back_what_they_write() {
        for kind in EventKind::ALL {
            let mut event = JobEvent::new(kind, 2, "w-1", "2026-11-23T10:00:00Z".parse().unwrap());
            event.started_at = Some(event.at);
            event.run_at = Some(event.at);
            event.progress = Some(0.25);
            event.nonce = Some("n".into());
            event.sequence = Some(7);
            event.body = "\"x\"".into();
            let read = JobEvent::decode(Some(&event.encode_headers()), event.body.clone()).unwrap();
            assert_eq!(read, event);
        }
    }

    #[test]
    fn a_message_that_is_no_event_is_refused() {
        assert!(JobEvent::decode(None, Bytes::new()).is_err());
    }
}
