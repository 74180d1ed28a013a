//! Where the planner keeps its slots, and how they are armed: the heap by time and the places by id.

use std::cmp::Reverse;

use chrono::{DateTime, Utc};
use repull::id::ScheduleId;

use super::Planner;
use crate::due::misfire::At;
use crate::due::slot::{Slot, SlotId};

impl Planner {
    pub(super) fn with_versions(
        &mut self,
        schedule: &ScheduleId,
        change: impl Fn(&mut Slot),
    ) -> Vec<SlotId> {
        let versions: Vec<SlotId> = self.versions(schedule).collect();
        for id in &versions {
            if let Some(slot) = self.slots[id.place as usize].as_mut() {
                change(slot);
            }
        }
        versions
    }

    /// Sets a slot's next fire to the first one that is not settled.
    pub(super) fn arm_from_mark(&mut self, id: SlotId) {
        if let Some(slot) = self.slots[id.place as usize].as_mut() {
            slot.next = None;
        }
        self.set_next_from_mark(id);
        self.push(id);
    }

    /// The same, but never back to a fire that was taken.
    pub(super) fn set_next_from_mark(&mut self, id: SlotId) {
        let Some(slot) = self.slots[id.place as usize].as_mut() else {
            return;
        };
        let settled = self
            .mark
            .settled_until(&slot.id, slot.revision, slot.stored);
        let next = slot.first_after(settled, &self.settled);
        let goes_back = |next: &At| slot.next.is_some_and(|at| at.time > next.time);
        if !next.as_ref().is_some_and(goes_back) {
            slot.next = next;
        }
    }

    pub(super) fn push(&mut self, id: SlotId) {
        self.heap.extend(self.heap_entry_of(id));
    }

    pub(super) fn heap_entry_of(&self, id: SlotId) -> Option<Reverse<(DateTime<Utc>, SlotId)>> {
        let slot = self.slots[id.place as usize].as_ref()?;
        (!slot.flags.held).then_some(Reverse((slot.next?.due, id)))
    }

    /// The head of the heap, without entries that an edit made void.
    pub(super) fn peek(&mut self) -> Option<(DateTime<Utc>, SlotId)> {
        loop {
            let Reverse((due, id)) = *self.heap.peek()?;
            let is_valid = self.serials[id.place as usize] == id.serial
                && self.slots[id.place as usize].as_ref().is_some_and(|slot| {
                    !slot.flags.held && slot.next.is_some_and(|at| at.due == due)
                });
            if is_valid {
                return Some((due, id));
            }
            self.heap.pop();
        }
    }

    pub(super) fn id_of(&self, place: u32) -> SlotId {
        SlotId {
            place,
            serial: self.serials[place as usize],
        }
    }

    pub(super) fn insert(&mut self, slot: Slot) -> SlotId {
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.serials.push(0);
            (self.slots.len() - 1) as u32
        });
        self.slots[place as usize] = Some(slot);
        self.id_of(place)
    }

    pub(super) fn free(&mut self, id: SlotId) {
        self.slots[id.place as usize] = None;
        self.serials[id.place as usize] = id.serial.wrapping_add(1);
        self.free.push(id.place);
    }

    /// Whether the mark covers all that this version ever fires.
    pub(super) fn is_settled(&self, place: u32) -> bool {
        self.slots[place as usize].as_ref().is_none_or(|slot| {
            slot.flags.paused
                || slot.is_over(
                    self.mark
                        .settled_until(&slot.id, slot.revision, slot.stored),
                )
        })
    }

    /// Frees older versions whose fires are all settled.
    pub(super) fn prune(&mut self) {
        let older = std::mem::take(&mut self.older);
        for id in older {
            let slot = self.slots[id.place as usize].as_ref();
            if slot.is_some_and(|slot| slot.next.is_none()) && self.is_settled(id.place) {
                self.free(id);
            } else {
                self.older.push(id);
            }
        }
    }
}
