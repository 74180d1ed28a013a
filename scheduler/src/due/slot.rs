//! One version of a schedule in the planner, kept small: there may be a million.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use repull::id::ScheduleId;
use repull::trigger::{Trigger, jitter};

use super::fire::{Fire, Kind};
use super::misfire::{At, Fires};

/// Where a slot is, and which use of the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SlotId {
    pub(super) place: u32,
    pub(super) serial: u32,
}

/// One version of a schedule.
///
/// An edit ends a version and begins another; the old one keeps its slot until all fires that were
/// its own are settled.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: ScheduleId,
    pub(super) trigger: Arc<Trigger>,
    pub(super) kind: Arc<Kind>,
    pub(super) args: Arc<[u8]>,
    /// The bucket's revision of this version.
    pub(super) revision: u64,
    /// When the bucket stored it.
    pub(super) stored: DateTime<Utc>,
    /// Only fires after this time are this version's.
    pub(super) begins: DateTime<Utc>,
    /// Only fires until this time are this version's.
    pub(super) ends: DateTime<Utc>,
    /// The next fire to take.
    pub(super) next: Option<At>,
    pub(super) flags: Flags,
}

/// What else there is to say of a slot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Flags {
    /// It does not fire at all.
    pub(super) paused: bool,
    /// It was paused at `ends`: fires that jitter moved past that are void too.
    pub(super) cut: bool,
    /// A fire of it can't be published; none is taken until it can.
    pub(super) held: bool,
}

impl Slot {
    /// The first fire of this version that is due after `due`.
    pub(super) fn first_after(
        &self,
        due: DateTime<Utc>,
        settled: &HashSet<(ScheduleId, DateTime<Utc>)>,
    ) -> Option<At> {
        if self.flags.paused {
            return None;
        }
        self.view(settled).due_after(self.begins, due)
    }

    /// The fires of this version, without those that are known to be settled.
    pub(super) fn view<'a>(
        &'a self,
        settled: &'a HashSet<(ScheduleId, DateTime<Utc>)>,
    ) -> View<'a> {
        View {
            slot: self,
            settled,
        }
    }

    /// When a fire of this time is due.
    fn due(&self, time: DateTime<Utc>) -> DateTime<Utc> {
        let Some(max) = self.kind.jitter else {
            return time;
        };
        let next = self.trigger.next(Some(time));
        time + jitter(self.id.as_str(), time, next, max)
    }

    /// The most that jitter moves a fire.
    pub(super) fn jitter_max(&self) -> TimeDelta {
        self.kind
            .jitter
            .and_then(|jitter| TimeDelta::from_std(jitter).ok())
            .unwrap_or_default()
    }

    /// A time such that all fires until then are due by `due`, close to the last such.
    ///
    /// A fire is due at its time or later, by less than the jitter and before the next fire. So
    /// with a fire found at or before `due`, all before it are due by then; it is looked for over
    /// ever longer stretches, because jitter may be much longer than the time between fires.
    fn settled_before(&self, due: DateTime<Utc>) -> DateTime<Utc> {
        let jitter = self.jitter_max();
        let mut stretch = TimeDelta::seconds(1);
        while stretch < jitter {
            let from = due - stretch;
            if self
                .trigger
                .next(Some(from))
                .is_some_and(|fire| fire <= due)
            {
                return from;
            }
            stretch = stretch * 8;
        }
        due.checked_sub_signed(jitter).unwrap_or(due)
    }

    /// Whether all fires of this version were due by `due`.
    pub(super) fn is_over(&self, due: DateTime<Utc>) -> bool {
        self.ends
            .checked_add_signed(self.jitter_max())
            .is_some_and(|end| end <= due)
    }

    /// The fires of this version after `time` that were taken.
    pub(super) fn taken_after(
        &self,
        time: DateTime<Utc>,
    ) -> impl Iterator<Item = DateTime<Utc>> + '_ {
        let (ends, next) = (self.ends, self.next);
        self.trigger
            .fires(Some(time.max(self.begins)))
            .take_while(move |fire| *fire <= ends && next.is_none_or(|next| *fire < next.time))
            .take_while(|_| !self.flags.paused)
    }

    /// The fire to publish for `at`.
    pub(super) fn fire(&self, at: At) -> Fire {
        Fire {
            schedule: self.id.clone(),
            at: at.time,
            due: at.due,
            kind: self.kind.clone(),
            args: bytes::Bytes::copy_from_slice(&self.args),
        }
    }
}

/// A version's fires in order.
pub(super) struct View<'a> {
    slot: &'a Slot,
    settled: &'a HashSet<(ScheduleId, DateTime<Utc>)>,
}

impl Fires for View<'_> {
    fn after(&self, time: DateTime<Utc>) -> Option<At> {
        let slot = self.slot;
        let mut after = time;
        loop {
            let time = slot.trigger.next(Some(after))?;
            if time > slot.ends {
                return None;
            }
            let due = slot.due(time);
            if slot.flags.cut && due > slot.ends {
                return None;
            }
            if self.settled.is_empty() || !self.settled.contains(&(slot.id.clone(), time)) {
                return Some(At { time, due });
            }
            after = time;
        }
    }

    fn due_after(&self, time: DateTime<Utc>, due: DateTime<Utc>) -> Option<At> {
        let mut after = self.slot.settled_before(due).max(time);
        loop {
            let at = self.after(after)?;
            if at.due > due {
                return Some(at);
            }
            after = at.time;
        }
    }
}
