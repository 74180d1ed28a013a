//! What became of a schedule's fires: the ledger, the outcomes of its jobs, and jobs still on
//! their way, put together.

use std::ops::ControlFlow;

use async_nats::jetstream::consumer::DeliverPolicy;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::scan::Scan;
use super::{Client, Error};
use crate::id::{JobId, ScheduleId};
use crate::schedule::{BUFFERED_SUFFIX, Overlap, Schedule};
use crate::topology::Topology;
use crate::wire::{Address, JobEvent, LedgerEntry, Place};

/// What became of a fire, or of a row of fires of one fate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HistoryEntry {
    /// The fire's time, or that of the first of the row.
    pub fire: DateTime<Utc>,
    /// The last of the row, where it is more than one.
    pub until: Option<DateTime<Utc>>,
    /// How many.
    pub count: Option<u32>,
    /// What became of it: the ledger's word, the job's outcome, or the state that the job is in.
    pub fate: String,
    /// Why, for people.
    pub reason: String,
    /// Its job.
    pub job: Option<JobId>,
    /// When that was decided, or the job ended.
    pub at: Option<DateTime<Utc>>,
}

impl Client {
    /// The latest fires of a schedule, the newest first: as far back as outcomes and ledger reach.
    pub async fn schedule_history(
        &self,
        schedule: &Schedule,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, Error> {
        let mut entries = self.ledger_of(&schedule.id).await?;
        entries.extend(self.outcomes_of(schedule).await?);
        let (jobs, later) = (Place::Jobs, Place::Later);
        let queued = self.subject_of(schedule, jobs);
        entries.extend(self.live_jobs_of(schedule, jobs, &queued, "queued").await?);
        let waiting = self.subject_of(schedule, later);
        entries.extend(
            self.live_jobs_of(schedule, later, &waiting, "later")
                .await?,
        );
        if schedule.overlap == Overlap::BufferOne {
            let buffered = format!("{waiting}{BUFFERED_SUFFIX}");
            let found = self.live_jobs_of(schedule, later, &buffered, "buffered");
            entries.extend(found.await?);
        }
        entries.sort_by_key(|entry| std::cmp::Reverse((entry.fire, entry.at)));
        entries.truncate(limit);
        Ok(entries)
    }

    async fn ledger_of(&self, id: &ScheduleId) -> Result<Vec<HistoryEntry>, Error> {
        let scan = Scan {
            stream: Topology::ledger(self.namespace()),
            filter: Topology::ledger_subject(self.namespace(), id.as_str()),
            from: DeliverPolicy::All,
            headers_only: false,
        };
        let mut entries = Vec::new();
        self.scan(scan, |message| {
            if let Ok(entry) = serde_json::from_slice::<LedgerEntry>(&message.body) {
                entries.push(HistoryEntry {
                    fire: entry.fire,
                    until: entry.until,
                    count: entry.count,
                    fate: entry.fate.to_string(),
                    reason: entry.reason,
                    job: entry.job,
                    at: Some(entry.at),
                });
            }
            ControlFlow::Continue(())
        })
        .await?;
        Ok(entries)
    }

    /// Outcomes name their fire by the enqueue they belong to.
    async fn outcomes_of(&self, schedule: &Schedule) -> Result<Vec<HistoryEntry>, Error> {
        let scan = Scan {
            stream: Place::Results.stream(self.namespace()),
            filter: self.subject_of(schedule, Place::Results),
            from: DeliverPolicy::All,
            headers_only: false,
        };
        let mut entries = Vec::new();
        self.scan(scan, |message| {
            let event = JobEvent::decode(message.headers.as_ref(), message.body).ok();
            let address = Address::parse(self.namespace(), Place::Results, &message.subject).ok();
            if let (Some(event), Some(address)) = (event, address)
                && event.kind.is_outcome()
                && let Some(fire) = fire_of(&schedule.id, event.nonce.as_deref())
            {
                entries.push(HistoryEntry {
                    fire,
                    until: None,
                    count: None,
                    fate: event.kind.to_string(),
                    reason: match event.kind {
                        crate::wire::EventKind::Succeeded => String::new(),
                        _ => event.text(),
                    },
                    job: Some(address.id),
                    at: Some(event.at),
                });
            }
            ControlFlow::Continue(())
        })
        .await?;
        Ok(entries)
    }

    async fn live_jobs_of(
        &self,
        schedule: &Schedule,
        place: Place,
        filter: &str,
        fate: &str,
    ) -> Result<Vec<HistoryEntry>, Error> {
        let stream = place.stream(self.namespace());
        let mut entries = Vec::new();
        for (subject, _) in self.subjects(&stream, filter).await? {
            let Ok(address) = Address::parse(self.namespace(), place, &subject) else {
                continue;
            };
            let fire = match schedule.overlap {
                Overlap::Allow => fire_of(&schedule.id, Some(address.id.as_str())),
                _ => self.fire_on(place, &subject).await?,
            };
            entries.extend(fire.map(|fire| HistoryEntry {
                fire,
                until: None,
                count: None,
                fate: fate.to_owned(),
                reason: String::new(),
                job: Some(address.id),
                at: None,
            }));
        }
        Ok(entries)
    }

    async fn fire_on(&self, place: Place, subject: &str) -> Result<Option<DateTime<Utc>>, Error> {
        let message = self.last_on_subject(place, subject).await?;
        Ok(message.and_then(|message| {
            let fire = message.headers.get_last(crate::wire::headers::FIRE)?;
            fire.as_str().parse().ok()
        }))
    }

    /// The subjects of a schedule's jobs: one where runs must not overlap, else those of its task.
    fn subject_of(&self, schedule: &Schedule, place: Place) -> String {
        let template = &schedule.job;
        let lane = crate::id::Lane {
            queue: template.queue.clone(),
            priority: template.priority,
        };
        let id = match schedule.overlap {
            Overlap::Allow => "*",
            _ => schedule.id.as_str(),
        };
        format!(
            "{}.{}.{lane}.{}.{id}",
            self.namespace(),
            place.token(),
            template.task
        )
    }
}

/// The fire that an id of the form `<schedule>-<unix milliseconds>` names.
fn fire_of(schedule: &ScheduleId, id: Option<&str>) -> Option<DateTime<Utc>> {
    let millis = id?.strip_prefix(schedule.as_str())?.strip_prefix('-')?;
    if !millis.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    DateTime::from_timestamp_millis(millis.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fires_id_names_its_time() {
        let id: ScheduleId = "nightly".parse().unwrap();
        let fire = fire_of(&id, Some("nightly-1795428000000")).unwrap();
        assert_eq!(fire.to_rfc3339(), "2026-11-23T10:00:00+00:00");
        for other in ["nightly", "nightly-x", "nightly-copy-1795428000000", "n-1"] {
            assert_eq!(fire_of(&id, Some(other)), None, "{other}");
        }
    }
}
