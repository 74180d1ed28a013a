//! What the demo says at its end: whether everything is accounted for, and how well slots were used.

use std::sync::Arc;
use std::time::Duration;

use repull::connect::ServerVersion;
use serde_json::Value;

use super::cast::DRAIN;
use super::files::Files;
use super::ledger::Balance;
use super::tasks::Findings;
use super::usage::Usage;
use crate::ui::details::Details;
use crate::ui::out;

/// The most ids that are named where something is wrong.
const NAMED_MAX: usize = 5;

/// How the worker that was removed went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Removed {
    /// When, from the start.
    pub(super) at: Duration,
    /// Jobs it ran at that moment.
    pub(super) running: u32,
    /// Jobs that did not end within its drain time.
    pub(super) handed_back: usize,
    /// Those of them that another worker brought to their end.
    pub(super) run_elsewhere: usize,
}

/// The end of a run.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) is_complete: bool,
    pub(super) took: Duration,
    pub(super) server: ServerVersion,
    pub(super) balance: Balance,
    /// Jobs that the queues still hold.
    pub(super) left_over: u64,
    pub(super) joined: Option<Duration>,
    pub(super) removed: Option<Removed>,
    pub(super) usage: Usage,
    pub(super) refill_max: Duration,
    pub(super) held_max: u32,
    pub(super) slots: u32,
    pub(super) watchdog_actions: u64,
    pub(super) files: Arc<Files>,
}

impl Summary {
    /// Whether everything is accounted for and nothing is left over.
    pub(super) fn is_even(&self) -> bool {
        let handed_back = self
            .removed
            .as_ref()
            .is_none_or(|removed| removed.handed_back == removed.run_elsewhere);
        self.is_complete && self.balance.is_even() && self.left_over == 0 && handed_back
    }

    /// Prints it to stdout.
    pub(super) fn print(&self) -> anyhow::Result<()> {
        out::line(format!("\n{}\n", self.headline()))?;
        let mut details = Details::default();
        self.add_account(&mut details);
        self.add_speed(&mut details);
        self.add_workers(&mut details);
        self.add_findings(&mut details);
        details.print()
    }

    fn headline(&self) -> String {
        let Balance {
            expected,
            accounted,
            ..
        } = self.balance;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let of = |part: usize, all: usize, what: &str| {
            if part == all {
                format!("all {all} {what}")
            } else {
                format!("{part} of {all} {what}")
            }
        };
        let mut text = format!(
            "{} and {} are accounted for",
            of(accounted.jobs, expected.jobs, "jobs"),
            of(accounted.fires, expected.fires, "fires")
        );
        if let Some(first) = text.get_mut(0..1) {
            first.make_ascii_uppercase();
        }
        let how = if self.is_complete {
            "after"
        } else {
            "and nothing has happened for a minute, after"
        };
        format!(
            "{text} {how} {:.1}s on {cores} cores with nats-server {}.",
            self.took.as_secs_f64(),
            self.server
        )
    }

    fn add_account(&self, details: &mut Details) {
        let balance = &self.balance;
        details
            .add(
                "succeeded",
                format!(
                    "{} jobs, {} of them at a later attempt",
                    balance.succeeded, balance.succeeded_late
                ),
            )
            .add(
                "dead letters",
                format!("{} jobs, whose task always fails", balance.dead),
            )
            .add("retries", balance.retries.to_string())
            .add("lost", named(&balance.lost))
            .add("ended twice", named(&balance.doubled));
        if !balance.wrong.is_empty() {
            let wrong = balance.wrong.iter().map(|(id, how)| format!("{id}: {how}"));
            details.add("ended wrongly", named(&wrong.collect::<Vec<_>>()));
        }
        if self.left_over > 0 {
            details.add("still queued", self.left_over.to_string());
        }
        details.add(
            "schedule",
            format!(
                "{} fires due, {} run, the latest started {} ms after its time",
                balance.expected.fires, balance.accounted.fires, balance.fire_lateness_ms_max
            ),
        );
    }

    fn add_speed(&self, details: &mut Details) {
        let refill = self.refill_max.as_secs_f64() * 1000.0;
        details
            .add("slots", self.usage.text())
            .add(
                "free slot",
                format!("{refill:.1} ms at most from free to the next job while jobs waited"),
            )
            .add(
                "most held",
                format!(
                    "{} of {} slots running or promised",
                    self.held_max, self.slots
                ),
            );
        if self.watchdog_actions > 0 {
            details.add("watchdog", format!("{} actions", self.watchdog_actions));
        }
    }

    fn add_workers(&self, details: &mut Details) {
        let joined = self
            .joined
            .map(|at| format!("joined at {:.1}s", at.as_secs_f64()));
        details.some("second worker", joined);
        let Some(removed) = &self.removed else {
            return;
        };
        let seconds = removed.at.as_secs_f64();
        let running = removed.running;
        let handed_back = removed.handed_back;
        details.add(
            "first worker",
            format!(
                "removed at {seconds:.1}s with {running} running jobs: {handed_back} did not end within {DRAIN:?} and were handed back, {} of them run by the second",
                match removed.run_elsewhere {
                    all if all == handed_back => "all".to_owned(),
                    some => some.to_string(),
                }
            ),
        );
    }

    fn add_findings(&self, details: &mut Details) {
        let mut surveys = self.balance.surveys.clone();
        surveys.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        let all: usize = surveys.iter().map(|(_, times)| times).sum();
        let Some((found, times)) = surveys.first() else {
            return;
        };
        details.add("folder", self.files.root.display().to_string());
        details.add("found there", self.found(found));
        let agree = if *times == all {
            format!("in each of {all} readings")
        } else {
            format!("in {times} of {all} readings; somebody works in the folder")
        };
        details.add("the same", agree);
    }

    fn found(&self, value: &Value) -> String {
        let Ok(found) = serde_json::from_value::<Findings>(value.clone()) else {
            return value.to_string();
        };
        let cut = if self.files.is_cut { "the first " } else { "" };
        let digest = found.sha256.get(..16).unwrap_or(&found.sha256);
        format!(
            "{cut}{} files, {:.1} MB, {} lines, sha256 {digest}…",
            found.files,
            found.bytes as f64 / 1e6,
            found.lines
        )
    }
}

/// How many, and which.
fn named(ids: &[String]) -> String {
    match ids.len() {
        0 => "none".to_owned(),
        count if count <= NAMED_MAX => format!("{count}: {}", ids.join(", ")),
        count => format!("{count}: {}, …", ids[..NAMED_MAX].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_as_far_as_one_can_read_it() {
        let ids = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(named(&[]), "none");
        assert_eq!(named(&ids(2)), "2: 0, 1");
        assert_eq!(named(&ids(7)), "7: 0, 1, 2, 3, 4, …");
    }
}
