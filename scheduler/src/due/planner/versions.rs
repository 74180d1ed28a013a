//! The versions of schedules: what an edit ends and what it begins.
//!
//! Each version has the fires between its beginning and its end. Where a version does not say from
//! when on it counts, or says nothing new, it counts from when it was stored: before that, the
//! schedule was what it was then. An older version stays until all its fires are settled.

use chrono::{DateTime, Utc};
use repull::id::ScheduleId;
use repull::schedule::Schedule;
use repull::trigger::Trigger;

use super::Planner;
use crate::due::fire::Kind;
use crate::due::slot::{Flags, Slot};

/// Most fires that a version may have taken before we learned that it had ended.
const LATE_MAX: usize = 10_000;

impl Planner {
    pub(super) fn put(&mut self, schedule: Schedule, revision: u64, stored: DateTime<Utc>) {
        let before = self.current.get(&schedule.id).copied();
        let before_begins = before
            .and_then(|place| self.slots[place as usize].as_ref())
            .map(|slot| (slot.revision, slot.begins));
        if before_begins.is_some_and(|(before, _)| revision <= before) {
            return;
        }
        // Where the new version does not say from when on it counts, it counts from when it was
        // stored: before that, the schedule was what it was then.
        let active_from = schedule.active_from.unwrap_or(stored);
        let begins = match before_begins {
            Some((_, before)) if active_from <= before => stored.max(before),
            _ => active_from,
        };
        if let Some(place) = before {
            if revision > self.mark.known {
                self.settle_taken(place, begins);
            }
            self.retire(place, begins, schedule.paused.is_some());
        }
        let slot = self.slot(schedule, revision, stored, active_from, begins);
        let id = slot.id.clone();
        self.jitter_max = self.jitter_max.max(slot.jitter_max());
        let place = self.insert(slot);
        self.current.insert(id, place.place);
        self.arm_from_mark(place);
    }

    /// Where we learn late that a version ended, it went on meanwhile: fires that it took after its
    /// end must not be made again by the version that follows.
    fn settle_taken(&mut self, place: u32, ended: DateTime<Utc>) {
        if let Some(slot) = self.slots[place as usize].as_ref() {
            let taken = slot.taken_after(ended).take(LATE_MAX);
            self.settled
                .extend(taken.map(|time| (slot.id.clone(), time)));
        }
    }

    fn slot(
        &mut self,
        mut schedule: Schedule,
        revision: u64,
        stored: DateTime<Utc>,
        active_from: DateTime<Utc>,
        begins: DateTime<Utc>,
    ) -> Slot {
        let args = std::mem::take(&mut schedule.job.args);
        let args = match args {
            serde_json::Value::Null => Vec::new(),
            args => args.to_string().into_bytes(),
        };
        let ends = last_run(&schedule.trigger, active_from, schedule.max_runs);
        let trigger = self.triggers.share(schedule.trigger, |trigger| {
            serde_json::to_string(trigger).unwrap_or_default()
        });
        let kind = Kind {
            coalesce: schedule.coalesce,
            misfire_grace: schedule
                .misfire_grace
                .and_then(|grace| chrono::TimeDelta::from_std(grace).ok()),
            overlap: schedule.overlap,
            jitter: schedule.jitter,
            job: schedule.job,
        };
        let kind = self.kinds.share(kind, |kind| format!("{kind:?}"));
        Slot {
            id: schedule.id,
            trigger,
            kind,
            args: args.into(),
            revision,
            stored,
            begins,
            ends,
            next: None,
            flags: Flags {
                paused: schedule.paused.is_some(),
                ..Flags::default()
            },
        }
    }

    /// Ends a version: fires until `ends` stay its own.
    fn retire(&mut self, place: u32, ends: DateTime<Utc>, cut: bool) {
        let Some(slot) = self.slots[place as usize].as_mut() else {
            return;
        };
        slot.ends = slot.ends.min(ends);
        slot.flags.cut = cut;
        let over = slot
            .next
            .is_none_or(|at| at.time > slot.ends || (cut && at.due > slot.ends));
        if over {
            slot.next = None;
        }
        let id = self.id_of(place);
        // What was taken and is not settled yet must be found again after a change of leader.
        if over && self.is_settled(place) {
            self.free(id);
        } else {
            self.older.push(id);
        }
    }

    pub(super) fn remove(&mut self, id: &ScheduleId) {
        let Some(place) = self.current.remove(id) else {
            return;
        };
        let newest = self.id_of(place);
        let mut gone = vec![newest];
        self.older.retain(|older| {
            let is_its = self.slots[older.place as usize]
                .as_ref()
                .is_some_and(|slot| slot.id == *id);
            if is_its {
                gone.push(*older);
            }
            !is_its
        });
        for id in gone {
            self.free(id);
        }
    }
}

/// The last fire that `max_runs` allows, counted from `active_from`: the same for every scheduler.
fn last_run(trigger: &Trigger, active_from: DateTime<Utc>, max_runs: Option<u64>) -> DateTime<Utc> {
    let Some(max_runs) = max_runs else {
        return DateTime::<Utc>::MAX_UTC;
    };
    let runs = usize::try_from(max_runs).unwrap_or(usize::MAX);
    trigger
        .fires(Some(active_from))
        .take(runs)
        .last()
        .unwrap_or(active_from)
}
