//! Entries of the ledger as messages.

use chrono::{DateTime, Utc};
use repull::client::{Expect, Message};
use repull::id::{JobId, Namespace, WorkerId};
use repull::topology::Topology;
use repull::wire::{Fate, LedgerEntry};

use crate::due::{Fire, Passed, Passing};

/// Fires that made no job.
pub(crate) fn passed(passed: &Passed, at: DateTime<Utc>, scheduler: &WorkerId) -> LedgerEntry {
    let (fate, reason, job) = match &passed.why {
        Passing::Misfired { grace } => {
            let grace = grace.to_std().unwrap_or_default();
            let reason = format!(
                "older than its misfire_grace of {}",
                humantime::format_duration(grace)
            );
            (Fate::Skipped, reason, None)
        }
        Passing::Coalesced { into } => {
            let job = repull::schedule::fire_id(&passed.schedule, *into);
            let reason = format!(
                "several fires were due at once; that of {} stands for them",
                repull::wire::write_time(*into)
            );
            (Fate::Coalesced, reason, JobId::new(job).ok())
        }
    };
    LedgerEntry {
        schedule: passed.schedule.clone(),
        fate,
        fire: passed.first,
        until: (passed.last != passed.first).then_some(passed.last),
        count: passed.count,
        reason,
        job,
        at,
        scheduler: scheduler.to_string(),
    }
}

/// One fire.
pub(crate) fn fire(
    fire: &Fire,
    fate: Fate,
    reason: String,
    at: DateTime<Utc>,
    scheduler: &WorkerId,
) -> LedgerEntry {
    LedgerEntry {
        schedule: fire.schedule.clone(),
        fate,
        fire: fire.at,
        until: None,
        count: Some(1),
        reason,
        job: Some(fire.job_id()),
        at,
        scheduler: scheduler.to_string(),
    }
}

/// The entry as a message.
pub(crate) fn message(namespace: &Namespace, entry: &LedgerEntry) -> Message {
    Message {
        subject: Topology::ledger_subject(namespace, entry.schedule.as_str()),
        headers: async_nats::HeaderMap::new(),
        body: serde_json::to_vec(entry).unwrap_or_default().into(),
        id: entry.id(),
        expect: Expect::Anything,
    }
}
