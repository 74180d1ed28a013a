//! The watermark in its bucket: how far fires have been published.
//!
//! One small write a second, whatever the number of schedules. Every write is guarded by the
//! revision of the one before it, so that a leader that was deposed without noticing can't move it.

use std::collections::BTreeMap;

use async_nats::jetstream::kv::{self, CreateErrorKind, UpdateErrorKind};
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use chrono::{DateTime, TimeDelta, Utc};
use repull::id::ScheduleId;
use serde::{Deserialize, Serialize};

use crate::due::Mark;

/// How far ahead of its writing a leader may publish under one watermark. What a leader published
/// and did not get to record lies between the two, and is looked up one by one by its successor.
pub(crate) const HORIZON: TimeDelta = TimeDelta::seconds(5);

/// The entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watermark {
    /// All fires due until then are published or in the ledger.
    pub up_to: DateTime<Utc>,
    /// No fire due after this was published.
    pub horizon: DateTime<Utc>,
    /// The revision of the bucket of schedules that the writer had seen.
    pub known: u64,
    /// Schedules whose fires can't be published, and since which one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held: BTreeMap<ScheduleId, DateTime<Utc>>,
    /// The lease under which it was written.
    pub lease_revision: u64,
    /// The scheduler that wrote it.
    pub writer: String,
}

impl Watermark {
    /// What the planner needs of it.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            up_to: self.up_to,
            known: self.known,
            held: self.held.clone(),
        }
    }
}

/// Why a watermark was not read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatermarkError {
    /// Somebody else wrote it: we don't lead any more.
    #[error("the watermark `{key}` was written by somebody else")]
    Deposed {
        /// The key.
        key: String,
    },
    /// No clear answer.
    #[error("can't {action} the watermark `{key}`: {reason}")]
    Server {
        /// What was tried.
        action: &'static str,
        /// The key.
        key: String,
        /// What the server said.
        reason: String,
    },
}

/// The bucket's entry of one shard.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    bucket: kv::Store,
    key: String,
}

impl Entry {
    pub(crate) fn new(bucket: kv::Store, key: String) -> Self {
        Self { bucket, key }
    }

    fn failed(&self, action: &'static str, error: impl ToString) -> WatermarkError {
        WatermarkError::Server {
            action,
            key: self.key.clone(),
            reason: error.to_string(),
        }
    }

    /// Makes it where there is none, which is before any scheduler ran: what was due before that
    /// is not ours to catch up with.
    pub(crate) async fn create(&self, watermark: &Watermark) -> Result<(), WatermarkError> {
        let value = serde_json::to_vec(watermark).unwrap_or_default();
        match self.bucket.create(&self.key, value.into()).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == CreateErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(self.failed("create", error)),
        }
    }

    /// Reads it from the stream's leader: a replica may lag behind.
    pub(crate) async fn read(&self) -> Result<Option<(u64, Watermark)>, WatermarkError> {
        let subject = format!("$KV.{}.{}", self.bucket.name, self.key);
        let message = match self
            .bucket
            .stream
            .get_last_raw_message_by_subject(&subject)
            .await
        {
            Ok(message) => message,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                return Ok(None);
            }
            Err(error) => return Err(self.failed("read", error)),
        };
        if message.payload.is_empty() {
            return Ok(None);
        }
        let watermark =
            serde_json::from_slice(&message.payload).map_err(|error| self.failed("read", error))?;
        Ok(Some((message.sequence, watermark)))
    }

    /// Writes it over the revision that we know, and returns the new one.
    pub(crate) async fn write(
        &self,
        watermark: &Watermark,
        revision: u64,
    ) -> Result<u64, WatermarkError> {
        let value = serde_json::to_vec(watermark).unwrap_or_default();
        match self.bucket.update(&self.key, value.into(), revision).await {
            Ok(revision) => Ok(revision),
            Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {
                self.write_over_own(watermark).await
            }
            Err(error) => Err(self.failed("write", error)),
        }
    }

    /// The last revision is another one than we know: ours all the same where only the answer to an
    /// earlier write was lost.
    async fn write_over_own(&self, watermark: &Watermark) -> Result<u64, WatermarkError> {
        let deposed = || WatermarkError::Deposed {
            key: self.key.clone(),
        };
        let (revision, found) = self.read().await?.ok_or_else(deposed)?;
        let is_ours =
            found.writer == watermark.writer && found.lease_revision == watermark.lease_revision;
        if !is_ours {
            return Err(deposed());
        }
        let value = serde_json::to_vec(watermark).unwrap_or_default();
        let written = self.bucket.update(&self.key, value.into(), revision).await;
        written.map_err(|error| match error.kind() {
            UpdateErrorKind::WrongLastRevision => deposed(),
            _ => self.failed("write", error),
        })
    }
}
