//! Schedules: looked at, written with compare-and-set, paused, run by hand.
//!
//! Every write goes through the same checks, and sets from when on fires count: a schedule that is
//! made, changed or resumed does not catch up with a past in which it did not exist.

use std::ops::ControlFlow;

use async_nats::jetstream::consumer::DeliverPolicy;
use bytes::Bytes;
use chrono::{DateTime, SubsecRound, Utc};

use super::publish::Expect;
use super::scan::Scan;
use super::{Client, Enqueued, Error};
use crate::clock;
use crate::id::ScheduleId;
use crate::queue::Pause;
use crate::schedule::{Overlap, Schedule};
use crate::topology::Bucket;
use crate::trigger::Trigger;
use crate::wire::Address;

const WHAT: &str = "schedule";

/// How often a change is repeated when others change the same schedule at the same time.
const CHANGES_MAX: u32 = 10;

/// A schedule that is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredSchedule {
    /// It.
    pub schedule: Schedule,
    /// The revision of its entry: what a change expects.
    pub revision: u64,
}

/// All that is in the bucket of schedules.
#[derive(Debug, Clone, Default)]
pub struct ScheduleListing {
    /// Schedules, by id.
    pub schedules: Vec<StoredSchedule>,
    /// Entries that are no valid schedule: they do not fire.
    pub unusable: Vec<UnusableSchedule>,
}

/// An entry in the bucket of schedules that is no valid schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusableSchedule {
    /// Its key.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
    /// Its revision: what a schedule in its place expects.
    pub revision: u64,
}

impl Client {
    /// All schedules.
    pub async fn schedules(&self) -> Result<ScheduleListing, Error> {
        let prefix = format!("$KV.{}.", Bucket::Schedules.name(self.namespace()));
        let mut listing = ScheduleListing::default();
        let scan = Scan {
            stream: Bucket::Schedules.stream(self.namespace()),
            filter: format!("{prefix}>"),
            from: DeliverPolicy::LastPerSubject,
            headers_only: false,
        };
        self.scan(scan, |entry| {
            // A tombstone.
            if entry.body.is_empty() {
                return ControlFlow::Continue(());
            }
            let key = entry.subject.strip_prefix(&prefix).unwrap_or_default();
            match read(key, &entry.body) {
                Ok(schedule) => listing.schedules.push(StoredSchedule {
                    schedule,
                    revision: entry.sequence,
                }),
                Err(error) => listing.unusable.push(UnusableSchedule {
                    key: key.to_owned(),
                    problem: error.to_string(),
                    revision: entry.sequence,
                }),
            }
            ControlFlow::Continue(())
        })
        .await?;
        listing
            .schedules
            .sort_by(|a, b| a.schedule.id.cmp(&b.schedule.id));
        Ok(listing)
    }

    /// One schedule; none where there is none of this id.
    pub async fn schedule(&self, id: &ScheduleId) -> Result<Option<StoredSchedule>, Error> {
        let entry = self.read_entry(Bucket::Schedules, id.as_str()).await?;
        entry
            .map(|entry| {
                Ok(StoredSchedule {
                    schedule: read(id.as_str(), &entry.value)?,
                    revision: entry.revision,
                })
            })
            .transpose()
    }

    /// The same, where there must be one.
    pub async fn existing_schedule(&self, id: &ScheduleId) -> Result<StoredSchedule, Error> {
        self.schedule(id).await?.ok_or_else(|| absent(id))
    }

    /// Stores a schedule that is valid, as a new one ([`Expect::Nothing`]) or over the revision
    /// that the caller has seen ([`Expect::Last`]).
    ///
    /// Intervals without an anchor get one, and `active_from` is set unless the schedule says it
    /// itself; [`Schedule::adopt`] says what a change keeps of the version before it.
    pub async fn put_schedule(
        &self,
        mut schedule: Schedule,
        expect: Expect,
    ) -> Result<StoredSchedule, Error> {
        let now = clock::now();
        schedule.trigger.anchor(now.trunc_subsecs(0));
        schedule.active_from.get_or_insert(now);
        schedule.validate().map_err(invalid)?;
        let json = serde_json::to_vec(&schedule).map_err(invalid)?;
        let revision = self
            .write_entry(
                Bucket::Schedules,
                WHAT,
                schedule.id.as_str(),
                Bytes::from(json),
                expect,
            )
            .await?;
        Ok(StoredSchedule { schedule, revision })
    }

    /// Deletes a schedule. Jobs that it has made go their way.
    pub async fn delete_schedule(&self, id: &ScheduleId) -> Result<(), Error> {
        let entry = self.read_entry(Bucket::Schedules, id.as_str()).await?;
        let revision = entry.ok_or_else(|| absent(id))?.revision;
        self.delete_entry(Bucket::Schedules, WHAT, id.as_str(), revision)
            .await
    }

    /// Stops a schedule from firing. One that is paused already stays as it is.
    pub async fn pause_schedule(
        &self,
        id: &ScheduleId,
        by: &str,
        reason: &str,
    ) -> Result<StoredSchedule, Error> {
        self.change_schedule(id, |schedule| {
            schedule.paused.get_or_insert_with(|| Pause {
                by: by.to_owned(),
                reason: reason.to_owned(),
                at: clock::now(),
            });
        })
        .await
    }

    /// Lets a schedule fire again, from now on: the fires of the pause are not made up for.
    pub async fn resume_schedule(&self, id: &ScheduleId) -> Result<StoredSchedule, Error> {
        self.change_schedule(id, |schedule| {
            if schedule.paused.take().is_some() {
                schedule.active_from = Some(clock::now());
            }
        })
        .await
    }

    /// Changes a schedule; one that `change` leaves as it is is not written.
    pub async fn change_schedule(
        &self,
        id: &ScheduleId,
        change: impl Fn(&mut Schedule),
    ) -> Result<StoredSchedule, Error> {
        let mut tries = 0;
        loop {
            let stored = self.existing_schedule(id).await?;
            let mut schedule = stored.schedule.clone();
            change(&mut schedule);
            if schedule == stored.schedule {
                return Ok(stored);
            }
            tries += 1;
            match self
                .put_schedule(schedule, Expect::Last(stored.revision))
                .await
            {
                Err(Error::Conflict { .. }) if tries < CHANGES_MAX => {}
                other => return other,
            }
        }
    }

    /// Runs a schedule's job now, as a fire of this moment, paused or not.
    ///
    /// Where runs must not overlap and one has not ended, the answer says `is_new: false`; with
    /// [`Overlap::CancelOther`] that one is cancelled first.
    pub async fn trigger_schedule(&self, id: &ScheduleId) -> Result<Enqueued, Error> {
        let schedule = self.existing_schedule(id).await?.schedule;
        self.run_fire(&schedule, clock::now()).await
    }

    /// Enqueues the job of one fire, under the schedule's policy for overlapping runs.
    pub async fn run_fire(
        &self,
        schedule: &Schedule,
        fire: DateTime<Utc>,
    ) -> Result<Enqueued, Error> {
        let mut job = schedule.job(fire);
        // Run on purpose, so it is never too late.
        job.expires = None;
        job.unique = true;
        if schedule.overlap == Overlap::CancelOther {
            let address = Address {
                lane: job.lane(),
                task: job.task.clone(),
                id: job.id.clone(),
            };
            let reason = format!("schedule `{}` was run again", schedule.id);
            self.cancel_all([address], &reason).await?;
        }
        Ok(self.enqueue(job).await?)
    }
}

impl Schedule {
    /// Makes this the next version of `before`: what was given to that one at its creation, and
    /// what an operator did to it since, stays unless this version says otherwise.
    ///
    /// Kept are the anchors of intervals that are otherwise the same, a pause, and, where the times
    /// of the fires are the same, from when on they count.
    pub fn adopt(&mut self, before: &Schedule) {
        self.trigger = with_anchors_of(&self.trigger, &before.trigger);
        if self.paused.is_none() {
            self.paused.clone_from(&before.paused);
        }
        let is_same_time = self.trigger == before.trigger
            && self.jitter == before.jitter
            && self.max_runs == before.max_runs;
        if self.active_from.is_none() && is_same_time {
            self.active_from = before.active_from;
        }
    }
}

/// The trigger with the anchors that its intervals had before, where they name none themselves.
fn with_anchors_of(new: &Trigger, before: &Trigger) -> Trigger {
    let (Ok(mut value), Ok(old)) = (serde_json::to_value(new), serde_json::to_value(before)) else {
        return new.clone();
    };
    adopt_anchors(&mut value, &old);
    Trigger::from_value(value).unwrap_or_else(|_| new.clone())
}

fn adopt_anchors(new: &mut serde_json::Value, old: &serde_json::Value) {
    use serde_json::Value;
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            let is_same_interval =
                new.contains_key("interval") && new.get("interval") == old.get("interval");
            if is_same_interval
                && !new.contains_key("anchor")
                && let Some(anchor) = old.get("anchor")
            {
                new.insert("anchor".to_owned(), anchor.clone());
            }
            for (key, value) in new {
                if let Some(old) = old.get(key) {
                    adopt_anchors(value, old);
                }
            }
        }
        (Value::Array(new), Value::Array(old)) => {
            for (new, old) in new.iter_mut().zip(old) {
                adopt_anchors(new, old);
            }
        }
        _ => {}
    }
}

fn read(key: &str, json: &[u8]) -> Result<Schedule, Error> {
    let schedule = Schedule::from_json(key, json).map_err(invalid)?;
    if schedule.id.as_str() == key {
        Ok(schedule)
    } else {
        Err(Error::Invalid(format!(
            "schedule `{}` is stored under the key `{key}`, expected its own id",
            schedule.id
        )))
    }
}

fn invalid(error: impl std::fmt::Display) -> Error {
    Error::Invalid(error.to_string())
}

fn absent(id: &ScheduleId) -> Error {
    Error::NotFound {
        what: WHAT,
        name: id.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schedule(trigger: serde_json::Value) -> Schedule {
        let value = json!({"id": "s", "trigger": trigger, "job": {"task": "t"}});
        serde_json::from_value(value).unwrap()
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_version_that_fires_at_the_same_times_goes_on_where_the_last_one_was() {
        let mut before = schedule(json!({"every": {"interval": "1h"}}));
        before.trigger.anchor(at("2026-01-01T00:00:00Z"));
        before.active_from = Some(at("2026-01-01T00:00:00Z"));
        let mut after = schedule(json!({"every": {"interval": "1h"}}));
        after.description = "new words".into();
        after.adopt(&before);
        assert_eq!(after.trigger, before.trigger);
        assert_eq!(after.active_from, before.active_from);
    }

    #[test]
    fn a_version_that_fires_at_other_times_counts_from_its_writing() {
        let mut before = schedule(json!({"every": {"interval": "1h"}}));
        before.trigger.anchor(at("2026-01-01T00:00:00Z"));
        before.active_from = Some(at("2026-01-01T00:00:00Z"));
        let mut after = schedule(json!({"every": {"interval": "2h"}}));
        after.adopt(&before);
        assert_eq!(after.active_from, None);
        assert_ne!(after.trigger, before.trigger);
    }

    #[test]
    fn anchors_are_kept_deep_inside() {
        let text = json!({"any": [{"at": "2026-01-01T00:00:00Z"}, {"every": {"interval": "1h"}}]});
        let mut before = schedule(text.clone());
        before.trigger.anchor(at("2025-05-05T00:00:00Z"));
        let mut after = schedule(text);
        after.adopt(&before);
        assert_eq!(after.trigger, before.trigger);
    }

    #[test]
    fn an_operators_pause_outlives_a_new_version() {
        let trigger = json!({"at": "2026-01-01T00:00:00Z"});
        let mut before = schedule(trigger.clone());
        before.paused = Some(Pause {
            by: "ada".into(),
            reason: String::new(),
            at: at("2026-01-01T00:00:00Z"),
        });
        let mut after = schedule(trigger);
        after.adopt(&before);
        assert_eq!(after.paused, before.paused);
    }

    #[test]
    fn an_entry_under_another_key_is_refused() {
        let json = serde_json::to_vec(&schedule(json!({"at": "2026-01-01T00:00:00Z"}))).unwrap();
        assert!(read("s", &json).is_ok());
        let error = read("other", &json).unwrap_err().to_string();
        assert!(
            error.contains("`s`") && error.contains("`other`"),
            "{error}"
        );
    }
}
