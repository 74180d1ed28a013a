//! The ledger: what became of fires that made no job, or a late one.
//!
//! A fire that made its job in time needs no entry: its job and outcome are its record.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::id::{JobId, ScheduleId};

/// What became of a fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It was older than the schedule's `misfire_grace` and made no job.
    Skipped,
    /// Several were due at once, and another one stands for it.
    Coalesced,
    /// The previous run had not ended.
    Overlapped,
    /// The server will never take its job, for example because it is too large.
    Refused,
    /// It made its job, later than it should have.
    Late,
}

impl Fate {
    /// The word on the wire, in metrics and in the CLI.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Coalesced => "coalesced",
            Self::Overlapped => "overlapped",
            Self::Refused => "refused",
            Self::Late => "late",
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One entry of the ledger: a fire, or a row of fires of one fate. The body on the schedule's
/// subject of the ledger, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// The schedule.
    pub schedule: ScheduleId,
    /// What became of it.
    pub fate: Fate,
    /// The fire's time, or that of the first of the row.
    pub fire: DateTime<Utc>,
    /// The last of the row, where it is more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// How many; none where there are so many that nobody counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Why, for people.
    pub reason: String,
    /// The job that stands in its way or for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// When this was decided.
    pub at: DateTime<Utc>,
    /// The scheduler that decided it.
    pub scheduler: String,
}

impl LedgerEntry {
    /// Its `Nats-Msg-Id`: two schedulers that come to the same entry write it once.
    pub fn id(&self) -> String {
        let (first, last) = (self.fire, self.until.unwrap_or(self.fire));
        format!(
            "{}-{}-{}:{}",
            self.schedule,
            first.timestamp_millis(),
            last.timestamp_millis(),
            self.fate
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_and_has_the_same_id_for_every_scheduler() {
        let entry = LedgerEntry {
            schedule: ScheduleId::new("nightly").unwrap(),
            fate: Fate::Skipped,
            fire: "2026-11-23T10:00:00Z".parse().unwrap(),
            until: Some("2026-11-23T11:00:00Z".parse().unwrap()),
            count: Some(2),
            reason: "late by 3h".into(),
            job: None,
            at: "2026-11-23T14:00:00Z".parse().unwrap(),
            scheduler: "a".into(),
        };
        let json = serde_json::to_vec(&entry).unwrap();
        assert_eq!(serde_json::from_slice::<LedgerEntry>(&json).unwrap(), entry);
        let other = LedgerEntry {
            scheduler: "b".into(),
            at: entry.fire,
            ..entry.clone()
        };
        assert_eq!(other.id(), entry.id());
        assert_eq!(entry.id(), "nightly-1795428000000-1795431600000:skipped");
    }
}
