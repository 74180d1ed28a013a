//! The account of a run: each job that was submitted and each fire that was due, by id, and the
//! outcomes that the stream of results holds for it. Pure: it is fed with events.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use repull::wire::{EventKind, JobEvent};
use serde_json::Value;

use super::load::Kind;

/// What an entry stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// A job of the load.
    Job(Kind),
    /// The job of a fire that was due at this time.
    Fire(DateTime<Utc>),
}

impl Entry {
    /// How it must end.
    fn expected(self) -> EventKind {
        match self {
            Self::Job(Kind::Hopeless) => EventKind::Failed,
            Self::Job(_) | Self::Fire(_) => EventKind::Succeeded,
        }
    }
}

#[derive(Debug)]
struct Line {
    entry: Entry,
    outcomes: Vec<Outcome>,
    retries: u32,
}

#[derive(Debug)]
struct Outcome {
    kind: EventKind,
    attempt: u32,
    worker: String,
    started_at: Option<DateTime<Utc>>,
    value: Value,
}

/// The account. An id that is not in it is none of ours.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    lines: HashMap<String, Line>,
    ended: Count,
    retries: u64,
}

/// Entries by what they stand for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// Jobs of the load.
    pub(super) jobs: usize,
    /// Fires.
    pub(super) fires: usize,
}

impl Count {
    fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Job(_) => self.jobs += 1,
            Entry::Fire(_) => self.fires += 1,
        }
    }
}

impl Ledger {
    /// Expects an outcome for this id.
    pub(super) fn expect(&mut self, id: impl Into<String>, entry: Entry) {
        let line = Line {
            entry,
            outcomes: Vec::new(),
            retries: 0,
        };
        self.lines.insert(id.into(), line);
    }

    /// The same expectations, and nothing known of what became of them.
    pub(super) fn blank(&self) -> Self {
        let mut blank = Self::default();
        for (id, line) in &self.lines {
            blank.expect(id.clone(), line.entry);
        }
        blank
    }

    /// Takes an event of the stream.
    pub(super) fn take(&mut self, id: &str, event: &JobEvent) {
        let Some(line) = self.lines.get_mut(id) else {
            return;
        };
        if event.kind == EventKind::Retrying {
            line.retries += 1;
            self.retries += 1;
        }
        if !event.kind.is_outcome() {
            return;
        }
        if line.outcomes.is_empty() {
            self.ended.add(line.entry);
        }
        line.outcomes.push(Outcome {
            kind: event.kind,
            attempt: event.attempt,
            worker: event.worker.clone(),
            started_at: event.started_at,
            value: event.value(),
        });
    }

    /// What is expected.
    pub(super) fn expected(&self) -> Count {
        let mut count = Count::default();
        self.lines.values().for_each(|line| count.add(line.entry));
        count
    }

    /// What has an outcome.
    pub(super) fn ended(&self) -> Count {
        self.ended
    }

    /// Attempts that failed and were followed by another.
    pub(super) fn retries(&self) -> u64 {
        self.retries
    }

    /// Whether everything expected has an outcome.
    pub(super) fn is_complete(&self) -> bool {
        self.ended.jobs + self.ended.fires == self.lines.len()
    }

    /// The worker that brought a job to its end.
    pub(super) fn worker_of(&self, id: &str) -> Option<&str> {
        let outcome = self.lines.get(id)?.outcomes.first()?;
        Some(&outcome.worker)
    }

    /// Sums up. `dead` are the ids that lie among the dead letters.
    pub(super) fn balance(&self, dead: &HashSet<String>) -> Balance {
        let mut balance = Balance {
            expected: self.expected(),
            retries: self.retries,
            ..Balance::default()
        };
        let mut lines: Vec<_> = self.lines.iter().collect();
        lines.sort_unstable_by_key(|(id, _)| *id);
        for (id, line) in lines {
            balance.add(id, line, dead);
        }
        balance
    }
}

/// What became of everything.
#[derive(Debug, Default)]
pub(super) struct Balance {
    /// What was expected.
    pub(super) expected: Count,
    /// What ended as it must.
    pub(super) accounted: Count,
    /// Jobs that succeeded.
    pub(super) succeeded: usize,
    /// Jobs that succeeded at a later attempt than the first.
    pub(super) succeeded_late: usize,
    /// Jobs that failed for good and lie among the dead letters.
    pub(super) dead: usize,
    /// Attempts that failed and were followed by another.
    pub(super) retries: u64,
    /// Ids without an outcome.
    pub(super) lost: Vec<String>,
    /// Ids with more than one.
    pub(super) doubled: Vec<String>,
    /// Ids that did not end as they must, and how they ended.
    pub(super) wrong: Vec<(String, String)>,
    /// The longest time from a fire to the start of its job, in milliseconds.
    pub(super) fire_lateness_ms_max: i64,
    /// What the jobs that read the whole folder found, and how many of them found it.
    pub(super) surveys: Vec<(Value, usize)>,
}

impl Balance {
    /// Whether nothing is lost, doubled or wrong.
    pub(super) fn is_even(&self) -> bool {
        self.lost.is_empty() && self.doubled.is_empty() && self.wrong.is_empty()
    }

    fn add(&mut self, id: &str, line: &Line, dead: &HashSet<String>) {
        let Some(outcome) = line.outcomes.first() else {
            self.lost.push(id.to_owned());
            return;
        };
        if line.outcomes.len() > 1 {
            self.doubled.push(id.to_owned());
        }
        let must = line.entry.expected();
        let is_dead = dead.contains(id);
        if outcome.kind != must {
            let how = format!("{}, expected {must}", outcome.kind);
            self.wrong.push((id.to_owned(), how));
        } else if is_dead != (must == EventKind::Failed) {
            let how = if is_dead {
                "succeeded, yet among"
            } else {
                "failed, yet not among"
            };
            let how = format!("{how} the dead letters");
            self.wrong.push((id.to_owned(), how));
        } else if line.outcomes.len() == 1 {
            self.accounted.add(line.entry);
        }
        match line.entry {
            Entry::Fire(due) => {
                let late = outcome
                    .started_at
                    .map_or(0, |at| (at - due).num_milliseconds());
                self.fire_lateness_ms_max = self.fire_lateness_ms_max.max(late);
            }
            Entry::Job(kind) => self.add_job(kind, outcome),
        }
    }

    fn add_job(&mut self, kind: Kind, outcome: &Outcome) {
        if outcome.kind != EventKind::Succeeded {
            self.dead += usize::from(outcome.kind == EventKind::Failed);
            return;
        }
        self.succeeded += 1;
        self.succeeded_late += usize::from(outcome.attempt > 1);
        if kind != Kind::Long {
            return;
        }
        match self
            .surveys
            .iter_mut()
            .find(|(found, _)| *found == outcome.value)
        {
            Some((_, times)) => *times += 1,
            None => self.surveys.push((outcome.value.clone(), 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn event(kind: EventKind, attempt: u32) -> JobEvent {
        let mut event = JobEvent::new(kind, attempt, "w-1", at(1));
        event.started_at = Some(at(1));
        event
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.expect("short", Entry::Job(Kind::Short));
        ledger.expect("hopeless", Entry::Job(Kind::Hopeless));
        ledger.expect("fire", Entry::Fire(at(0)));
        ledger
    }

    #[test]
    fn everything_that_ends_as_it_must_is_accounted_for() {
        let mut ledger = ledger();
        ledger.take("short", &event(EventKind::Retrying, 1));
        ledger.take("short", &event(EventKind::Succeeded, 2));
        ledger.take("fire", &event(EventKind::Succeeded, 1));
        assert!(!ledger.is_complete());
        ledger.take("hopeless", &event(EventKind::Failed, 3));
        assert!(ledger.is_complete());
        let balance = ledger.balance(&HashSet::from(["hopeless".to_owned()]));
        assert!(balance.is_even(), "{balance:?}");
        assert_eq!(balance.accounted, balance.expected);
        assert_eq!(
            (balance.succeeded, balance.succeeded_late, balance.dead),
            (1, 1, 1)
        );
        assert_eq!((balance.retries, balance.fire_lateness_ms_max), (1, 1_000));
    }

    #[test]
    fn what_has_no_outcome_is_lost_and_what_has_two_is_doubled() {
        let mut ledger = ledger();
        ledger.take("short", &event(EventKind::Succeeded, 1));
        ledger.take("short", &event(EventKind::Succeeded, 2));
        let balance = ledger.balance(&HashSet::new());
        assert_eq!(balance.doubled, ["short"]);
        assert_eq!(balance.lost, ["fire", "hopeless"]);
        assert_eq!(balance.accounted, Count::default());
        assert!(!balance.is_even());
    }

    #[test]
    fn an_end_that_should_not_be_is_wrong() {
        let mut ledger = ledger();
        ledger.take("short", &event(EventKind::Failed, 20));
        ledger.take("hopeless", &event(EventKind::Failed, 3));
        ledger.take("fire", &event(EventKind::Succeeded, 1));
        let balance = ledger.balance(&HashSet::new());
        let wrong: Vec<&str> = balance.wrong.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(wrong, ["hopeless", "short"], "no dead letter; failed");
        assert_eq!(balance.accounted.fires, 1);
    }

    #[test]
    fn others_events_change_nothing_and_a_blank_account_knows_nothing() {
        let mut ledger = ledger();
        ledger.take("somebody-else", &event(EventKind::Succeeded, 1));
        ledger.take("short", &event(EventKind::Succeeded, 1));
        assert_eq!(ledger.ended(), Count { jobs: 1, fires: 0 });
        let blank = ledger.blank();
        assert_eq!(blank.ended(), Count::default());
        assert_eq!(blank.expected(), ledger.expected());
    }
}
