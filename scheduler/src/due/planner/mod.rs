//! The schedules of a shard, and which of their fires are due.
//!
//! A heap holds each schedule's next fire, so what a fire costs hardly depends on how many
//! schedules there are. Entries that an edit made void stay in the heap until they come up.

mod places;
mod versions;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use repull::id::ScheduleId;
use repull::schedule::Schedule;
use repull::trigger::Trigger;

use super::fire::{Decision, Fire, Kind, Passed, Passing};
use super::intern::Interner;
use super::mark::Mark;
use super::misfire::{Fires, Row, judge};
use super::slot::{Slot, SlotId};

/// Within this time we learn of a change.
const LEARNED_WITHIN: TimeDelta = TimeDelta::minutes(5);

/// What happened to a schedule.
#[derive(Debug)]
pub enum Change {
    /// It was made, edited, paused or resumed.
    Put {
        /// As it is now.
        schedule: Box<Schedule>,
        /// The bucket's revision.
        revision: u64,
        /// When the bucket stored it.
        stored: DateTime<Utc>,
    },
    /// It is gone; fires of its that were not taken yet go with it.
    Removed {
        /// Its id.
        id: ScheduleId,
    },
}

impl Change {
    /// The schedule that changed.
    pub fn schedule(&self) -> &ScheduleId {
        match self {
            Self::Put { schedule, .. } => &schedule.id,
            Self::Removed { id } => id,
        }
    }
}

/// Holds schedules and says which fires are due.
#[derive(Debug)]
pub struct Planner {
    mark: Mark,
    slots: Vec<Option<Slot>>,
    serials: Vec<u32>,
    free: Vec<u32>,
    /// The newest version of each schedule.
    current: HashMap<ScheduleId, u32>,
    /// Older versions that may still have fires.
    older: Vec<SlotId>,
    heap: BinaryHeap<Reverse<(DateTime<Utc>, SlotId)>>,
    /// Fires after the mark that are known to be published.
    settled: HashSet<(ScheduleId, DateTime<Utc>)>,
    triggers: Interner<Trigger>,
    kinds: Interner<Kind>,
    /// The longest jitter of any schedule so far.
    jitter_max: TimeDelta,
}

impl Planner {
    /// A planner without schedules that goes on from `mark`.
    pub fn new(mark: Mark) -> Self {
        Self {
            mark,
            slots: Vec::new(),
            serials: Vec::new(),
            free: Vec::new(),
            current: HashMap::new(),
            older: Vec::new(),
            heap: BinaryHeap::new(),
            settled: HashSet::new(),
            triggers: Interner::default(),
            kinds: Interner::default(),
            jitter_max: TimeDelta::zero(),
        }
    }

    /// How many schedules there are.
    pub fn len(&self) -> usize {
        self.current.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.current.is_empty()
    }

    /// Takes in what happened to a schedule. Changes of one schedule come in the order of their
    /// revisions.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Put {
                schedule,
                revision,
                stored,
            } => self.put(*schedule, revision, stored),
            Change::Removed { id } => self.remove(&id),
        }
    }

    /// Forgets all schedules.
    pub fn clear(&mut self) {
        *self = Self::new(self.mark.clone());
    }

    /// Moves the mark: fires that it says are settled are not taken any more.
    ///
    /// This is how a standby keeps up, so that taking over costs it nothing.
    pub fn advance(&mut self, mark: Mark) {
        self.mark = mark;
        let mut open = Vec::new();
        while let Some((due, id)) = self.peek() {
            if due > self.mark.up_to {
                break;
            }
            self.heap.pop();
            self.set_next_from_mark(id);
            // Those open below the mark are out of the way until all others are through.
            open.extend(self.heap_entry_of(id));
        }
        self.heap.extend(open);
        self.forget_settled();
        self.prune();
    }

    /// Forgets settled fires that no version comes to any more, and none will that we may still
    /// learn of.
    fn forget_settled(&mut self) {
        if self.settled.is_empty() {
            return;
        }
        let recent = self.mark.up_to - LEARNED_WITHIN;
        let mut settled = std::mem::take(&mut self.settled);
        settled.retain(|(schedule, time)| {
            *time > recent
                || self.versions(schedule).any(|id| {
                    let slot = self.slots[id.place as usize].as_ref();
                    slot.and_then(|slot| slot.next)
                        .is_some_and(|next| next.time <= *time)
                })
        });
        self.settled = settled;
    }

    /// The slots of a schedule's versions.
    fn versions<'a>(&'a self, schedule: &'a ScheduleId) -> impl Iterator<Item = SlotId> + 'a {
        let current = self.current.get(schedule).map(|place| self.id_of(*place));
        let older = self.older.iter().copied().filter(move |id| {
            let slot = self.slots[id.place as usize].as_ref();
            slot.is_some_and(|slot| slot.id == *schedule)
        });
        older.chain(current)
    }

    /// Goes on from a mark that another leader wrote: forward as a rule, back where its bucket was
    /// restored from a copy.
    pub fn go_on_from(&mut self, mark: Mark) {
        if mark.up_to >= self.mark.up_to && mark.known >= self.mark.known {
            self.advance(mark);
        } else {
            self.reset(mark);
        }
    }

    /// Goes back to the mark, with all that was taken since open again: for a leader that steps
    /// down or that lost track of what it has published.
    pub fn reset(&mut self, mark: Mark) {
        self.mark = mark;
        self.settled.clear();
        self.heap.clear();
        for place in 0..self.slots.len() {
            if let Some(slot) = self.slots[place].as_mut() {
                slot.flags.held = false;
                self.arm_from_mark(self.id_of(place as u32));
            }
        }
        self.prune();
    }

    /// The open fires until then, without taking them: what a leader before us may have published
    /// already. About `limit` of them.
    ///
    /// By their time and not by when they are due: that may have been another time for the leader
    /// before us, which may not have known the newest version of a schedule.
    pub fn open_until(&mut self, until: DateTime<Utc>, limit: usize) -> Vec<Fire> {
        let mut fires = Vec::new();
        let mut entries = HashSet::new();
        while let Some((due, id)) = self.peek() {
            if due > until + self.jitter_max || fires.len() >= limit {
                break;
            }
            self.heap.pop();
            if !entries.insert((due, id)) {
                continue;
            }
            let Some(slot) = self.slots[id.place as usize].as_ref() else {
                continue;
            };
            let view = slot.view(&self.settled);
            let mut next = slot.next;
            while let Some(at) = next.filter(|at| at.time <= until) {
                fires.push(slot.fire(at));
                next = view.after(at.time);
            }
        }
        self.heap.extend(entries.into_iter().map(Reverse));
        fires
    }

    /// These fires are published already, though the mark does not say so.
    pub fn settle(&mut self, fires: impl IntoIterator<Item = (ScheduleId, DateTime<Utc>)>) {
        self.settled.extend(fires);
        if self.settled.is_empty() {
            return;
        }
        let schedules: HashSet<ScheduleId> =
            self.settled.iter().map(|(id, _)| id.clone()).collect();
        let versions = schedules
            .iter()
            .flat_map(|schedule| self.versions(schedule));
        for id in versions.collect::<Vec<_>>() {
            self.arm_from_mark(id);
        }
    }

    /// Takes what is due: about `limit` decisions, the longest due first over all schedules.
    ///
    /// Oldest first, because after an outage one schedule with thousands of missed fires must not
    /// hold back another that missed a single one.
    pub fn due(&mut self, now: DateTime<Utc>, limit: usize) -> Vec<Decision> {
        let mut decisions = Vec::new();
        while decisions.len() < limit {
            let Some((due, id)) = self.peek() else { break };
            if due > now {
                break;
            }
            self.heap.pop();
            self.take(id, now, &mut decisions);
        }
        decisions
    }

    fn take(&mut self, id: SlotId, now: DateTime<Utc>, decisions: &mut Vec<Decision>) {
        let Some(slot) = self.slots[id.place as usize].as_mut() else {
            return;
        };
        let Some(first) = slot.next else { return };
        if slot.flags.held {
            return;
        }
        let judgement = judge(
            &slot.view(&self.settled),
            first,
            now,
            slot.kind.misfire_grace,
            slot.kind.coalesce,
        );
        let passed = |row: Row, why| {
            Decision::Pass(Passed {
                schedule: slot.id.clone(),
                first: row.first.time,
                last: row.last.time,
                count: row.count,
                why,
            })
        };
        if let (Some(row), Some(grace)) = (judgement.misfired, slot.kind.misfire_grace) {
            decisions.push(passed(row, Passing::Misfired { grace }));
        }
        if let Some(at) = judgement.publish {
            if let Some(row) = judgement.coalesced {
                decisions.push(passed(row, Passing::Coalesced { into: at.time }));
            }
            decisions.push(Decision::Publish(slot.fire(at)));
        }
        slot.next = judgement.next;
        self.push(id);
    }

    /// When the next fire is due. May be in the past.
    pub fn next_due(&mut self) -> Option<DateTime<Utc>> {
        self.peek().map(|(due, _)| due)
    }

    /// When this schedule's next fire is due, also while it is held. May be in the past.
    pub fn next_due_of(&self, schedule: &ScheduleId) -> Option<DateTime<Utc>> {
        self.versions(schedule)
            .filter_map(|id| self.slots[id.place as usize].as_ref()?.next)
            .map(|next| next.due)
            .min()
    }

    /// Takes no fires of this schedule until [`Planner::release`].
    pub fn hold(&mut self, schedule: &ScheduleId) {
        self.with_versions(schedule, |slot| slot.flags.held = true);
    }

    /// Takes fires of this schedule again, those that came due meanwhile as late ones.
    pub fn release(&mut self, schedule: &ScheduleId) {
        for id in self.with_versions(schedule, |slot| slot.flags.held = false) {
            self.push(id);
        }
    }
}
