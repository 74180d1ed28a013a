//! How many jobs of each schedule failed in a row: pure.

use std::collections::BTreeMap;

use repull::id::ScheduleId;
use repull::wire::EventKind;
use serde::{Deserialize, Serialize};

/// After how many outcomes that change nothing the position is stored all the same.
const PASSED_MAX: u64 = 10_000;

/// The counts, as they are stored.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    /// Outcomes up to this sequence are counted; none before the first.
    position: Option<u64>,
    /// Failures in a row, where there are any.
    counts: BTreeMap<ScheduleId, u32>,
    #[serde(skip)]
    passed: u64,
    #[serde(skip)]
    is_changed: bool,
}

impl Tally {
    /// Whether nothing was ever counted.
    pub(super) fn is_new(&self) -> bool {
        self.position.is_none()
    }

    /// Up to where outcomes are counted.
    pub(super) fn position(&self) -> u64 {
        self.position.unwrap_or(0)
    }

    /// Begins after this sequence with no failures.
    pub(super) fn restart(&mut self, position: u64) {
        *self = Self {
            position: Some(position),
            is_changed: true,
            ..Self::default()
        };
    }

    /// Notes an event that is none of a schedule's.
    pub(super) fn pass(&mut self, sequence: u64) {
        if sequence > self.position() {
            self.position = Some(sequence);
            self.passed += 1;
        }
    }

    /// Counts an event of a schedule's job and gives its failures in a row. Only outcomes of one
    /// that is watched count; one that was counted before counts once.
    pub(super) fn count(
        &mut self,
        sequence: u64,
        schedule: &ScheduleId,
        kind: EventKind,
        is_watched: bool,
    ) -> u32 {
        let before = self.counts.get(schedule).copied().unwrap_or(0);
        if sequence <= self.position() {
            return before;
        }
        self.pass(sequence);
        let after = match kind {
            _ if !is_watched => 0,
            EventKind::Failed => before + 1,
            EventKind::Succeeded => 0,
            _ => before,
        };
        match after {
            0 => self.counts.remove(schedule),
            after => self.counts.insert(schedule.clone(), after),
        };
        self.is_changed |= before != after;
        after
    }

    /// Begins anew with a schedule.
    pub(super) fn forget(&mut self, schedule: &ScheduleId) {
        self.is_changed |= self.counts.remove(schedule).is_some();
    }

    /// Whether it should be stored.
    pub(super) fn is_changed(&self) -> bool {
        self.is_changed || self.passed >= PASSED_MAX
    }

    /// It is stored.
    pub(super) fn stored(&mut self) {
        self.is_changed = false;
        self.passed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_in_a_row_and_once_each() {
        let id = ScheduleId::new("s").unwrap();
        let mut tally = Tally::default();
        tally.restart(10);
        assert_eq!(tally.count(11, &id, EventKind::Failed, true), 1);
        assert_eq!(tally.count(11, &id, EventKind::Failed, true), 1);
        assert_eq!(tally.count(12, &id, EventKind::Retrying, true), 1);
        assert_eq!(tally.count(13, &id, EventKind::Failed, true), 2);
        assert_eq!(tally.count(14, &id, EventKind::Succeeded, true), 0);
        assert_eq!(tally.count(15, &id, EventKind::Failed, true), 1);
        assert_eq!(tally.count(16, &id, EventKind::Failed, false), 0);
        let json = serde_json::to_vec(&tally).unwrap();
        assert_eq!(
            serde_json::from_slice::<Tally>(&json).unwrap().position(),
            16
        );
    }

    #[test]
    fn it_is_stored_when_a_count_changes_and_now_and_then() {
        let id = ScheduleId::new("s").unwrap();
        let mut tally = Tally::default();
        tally.restart(0);
        tally.stored();
        tally.count(1, &id, EventKind::Succeeded, true);
        assert!(!tally.is_changed());
        for sequence in 2..=PASSED_MAX + 1 {
            tally.pass(sequence);
        }
        assert!(tally.is_changed());
        tally.stored();
        tally.count(PASSED_MAX + 2, &id, EventKind::Failed, true);
        assert!(tally.is_changed());
    }
}
