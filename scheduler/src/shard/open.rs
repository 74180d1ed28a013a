//! What was taken from the planner and is not settled yet: it holds the watermark back.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use repull::id::ScheduleId;

use crate::due::Mark;

/// For how long a fire may be without success before its schedule is excepted from the watermark,
/// so that one that can never be published does not hold back the others' progress.
const STUCK_AFTER: Duration = Duration::from_secs(3);

/// Most schedules that are excepted; more of them hold the watermark back.
const HELD_MAX: usize = 256;

/// Names a fire that is not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket {
    due: DateTime<Utc>,
    serial: u64,
}

/// Fires that are not settled, in the order in which they were due.
#[derive(Debug, Default)]
pub(crate) struct Open {
    tickets: BTreeMap<Ticket, (ScheduleId, Instant)>,
    of_schedule: HashMap<ScheduleId, u32>,
    serial: u64,
    /// Changes of schedules that had fires open: the revision, and the serial up to which they are
    /// fires of the version before.
    changed: Vec<(ScheduleId, u64, u64)>,
}

impl Open {
    /// Notes that a fire, due at `due`, was taken.
    pub(crate) fn add(&mut self, schedule: &ScheduleId, due: DateTime<Utc>) -> Ticket {
        self.serial += 1;
        let ticket = Ticket {
            due,
            serial: self.serial,
        };
        self.tickets
            .insert(ticket, (schedule.clone(), Instant::now()));
        *self.of_schedule.entry(schedule.clone()).or_default() += 1;
        ticket
    }

    /// Notes that it is settled.
    pub(crate) fn settle(&mut self, ticket: Ticket) {
        let Some((schedule, _)) = self.tickets.remove(&ticket) else {
            return;
        };
        if let Some(count) = self.of_schedule.get_mut(&schedule) {
            *count -= 1;
            if *count == 0 {
                self.of_schedule.remove(&schedule);
            }
        }
    }

    /// Whether a fire of this schedule is open.
    pub(crate) fn has(&self, schedule: &ScheduleId) -> bool {
        self.of_schedule.contains_key(schedule)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.tickets.len()
    }

    /// Notes that a schedule was changed. Fires of it that are open were taken as the version before
    /// it had them; the new version may have the same ones at other times because of jitter. So
    /// until they are settled, the watermark must not say that we know of the new version.
    pub(crate) fn changed(&mut self, schedule: &ScheduleId, revision: u64) {
        if self.has(schedule) {
            self.changed.push((schedule.clone(), revision, self.serial));
        }
    }

    /// The revision that the watermark may say we know of, where `known` is the newest.
    fn known(&mut self, known: u64) -> u64 {
        let tickets = &self.tickets;
        self.changed.retain(|(schedule, _, serial)| {
            tickets
                .iter()
                .any(|(ticket, (of, _))| ticket.serial <= *serial && of == schedule)
        });
        let held_back = self.changed.iter().map(|(_, revision, _)| revision - 1);
        held_back.fold(known, u64::min)
    }

    /// What the next watermark says, where all fires due by `taken` were taken. `next_of` tells when
    /// a schedule's next fire is due that was not taken.
    pub(crate) fn mark(
        &mut self,
        before: &Mark,
        taken: DateTime<Utc>,
        known: u64,
        next_of: impl Fn(&ScheduleId) -> Option<DateTime<Utc>>,
    ) -> Mark {
        let (settled, mut held) = self.settled(taken);
        let up_to = settled.max(before.up_to);
        // A schedule that came in late may have fires before the mark. Until they are settled, the
        // mark must not say that we know of it.
        let known = match settled >= before.up_to {
            true => self.known(known),
            false => before.known,
        };
        // The others went on while these were stuck. They come free one fire after the other, and
        // stay excepted until they have caught up with the mark, which never goes back.
        for schedule in before.held.keys() {
            let first = self.first_of(schedule).into_iter().chain(next_of(schedule));
            if let Some(first) = first.min().filter(|first| *first <= up_to) {
                let since = held.entry(schedule.clone()).or_insert(first);
                *since = first.min(*since);
            }
        }
        Mark { up_to, known, held }
    }

    /// When the first open fire of a schedule was due.
    fn first_of(&self, schedule: &ScheduleId) -> Option<DateTime<Utc>> {
        if !self.has(schedule) {
            return None;
        }
        let mut tickets = self.tickets.iter();
        let (ticket, _) = tickets.find(|(_, (of, _))| of == schedule)?;
        Some(ticket.due)
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Up to when all fires are settled, given that all due by `taken` were taken; and the schedules
    /// that are excepted from that because a fire of theirs is stuck.
    fn settled(
        &self,
        taken: DateTime<Utc>,
    ) -> (DateTime<Utc>, BTreeMap<ScheduleId, DateTime<Utc>>) {
        let now = Instant::now();
        let mut held = BTreeMap::new();
        for (ticket, (schedule, since)) in &self.tickets {
            if ticket.due > taken {
                break;
            }
            if held.contains_key(schedule) {
                continue;
            }
            if now.duration_since(*since) < STUCK_AFTER || held.len() >= HELD_MAX {
                return (ticket.due - TimeDelta::microseconds(1), held);
            }
            held.insert(schedule.clone(), ticket.due);
        }
        (taken, held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn the_oldest_open_fire_holds_the_watermark_back() {
        let schedule = ScheduleId::new("s").unwrap();
        let mut open = Open::default();
        assert_eq!(open.settled(at(9)).0, at(9));
        let first = open.add(&schedule, at(5));
        let second = open.add(&schedule, at(7));
        assert!(open.settled(at(9)).0 < at(5));
        open.settle(first);
        assert!(open.settled(at(9)).0 < at(7) && open.settled(at(9)).0 >= at(6));
        assert!(open.has(&schedule));
        open.settle(second);
        assert!(!open.has(&schedule));
        assert_eq!(open.settled(at(9)), (at(9), BTreeMap::new()));
    }

    #[test]
    fn a_change_is_not_known_before_the_fires_of_the_version_before_it_are_settled() {
        let (schedule, other) = (ScheduleId::new("a").unwrap(), ScheduleId::new("b").unwrap());
        let mut open = Open::default();
        let ticket = open.add(&schedule, at(5));
        open.changed(&schedule, 7);
        open.changed(&other, 8);
        open.add(&schedule, at(6));
        assert_eq!(open.known(9), 6);
        open.settle(ticket);
        assert_eq!(open.known(9), 9);
    }

    #[test]
    fn a_stuck_fire_excepts_its_schedule_and_lets_the_others_go_on() {
        let (stuck, other) = (ScheduleId::new("a").unwrap(), ScheduleId::new("b").unwrap());
        let mut open = Open::default();
        let ticket = open.add(&stuck, at(5));
        open.add(&stuck, at(6));
        open.tickets
            .values_mut()
            .for_each(|(_, since)| *since -= STUCK_AFTER);
        open.add(&other, at(7));
        let (up_to, held) = open.settled(at(9));
        assert!(up_to < at(7) && up_to >= at(6));
        assert_eq!(held, BTreeMap::from([(stuck.clone(), at(5))]));
        open.settle(ticket);
        assert_eq!(open.settled(at(9)).1, BTreeMap::from([(stuck, at(6))]));
    }
    #[test]
    fn a_schedule_that_was_stuck_is_excepted_until_it_has_caught_up_with_the_mark() {
        let stuck = ScheduleId::new("a").unwrap();
        let nothing = |_: &ScheduleId| None;
        let mut open = Open::default();
        let ticket = open.add(&stuck, at(5));
        let early = Instant::now() - STUCK_AFTER;
        open.tickets
            .values_mut()
            .for_each(|(_, since)| *since = early);
        let ahead = open.mark(&Mark::new(at(4), 1), at(90), 1, |_| Some(at(6)));
        assert_eq!(
            (ahead.up_to, ahead.held.get(&stuck)),
            (at(90), Some(&at(5)))
        );

        // Its stuck fire is through, and the next were not taken yet.
        open.settle(ticket);
        let behind = open.mark(&ahead, at(5), 1, |_| Some(at(6)));
        assert_eq!(
            (behind.up_to, behind.held.get(&stuck)),
            (at(90), Some(&at(6)))
        );

        // They are taken, and one of them is on its way.
        let ticket = open.add(&stuck, at(7));
        let behind = open.mark(&behind, at(95), 1, |_| Some(at(96)));
        assert_eq!(
            (behind.up_to, behind.held.get(&stuck)),
            (at(90), Some(&at(7)))
        );

        open.settle(ticket);
        let level = open.mark(&behind, at(95), 1, |_| Some(at(96)));
        assert_eq!((level.up_to, level.held.len()), (at(95), 0));

        // Removed or over: nothing of it is left to be excepted.
        let over = open.mark(&ahead, at(95), 1, nothing);
        assert_eq!((over.up_to, over.held.len()), (at(95), 0));
    }
}
