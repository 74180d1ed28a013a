//! `repull schedule apply`: the stored schedules are those of a file.
//!
//! The difference is shown before anything is written; what is the same is not written, so that
//! applying a file again changes nothing.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use repull::client::{Client, Expect, ScheduleListing, StoredSchedule};
use repull::connect::ConnectArgs;
use repull::schedule::Schedule;
use serde::Serialize;

use super::diff::{FieldChange, changes, shown};
use super::file;
use crate::cmd;
use crate::ui::{ask, out, read, report};

/// The options of `repull schedule apply`.
#[derive(Args, Debug)]
pub(crate) struct ApplyArgs {
    /// File of schedules, YAML or JSON, or `-` for stdin
    #[arg(long = "file", short = 'f', value_name = "FILE")]
    file: String,
    /// Show the difference and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Delete stored schedules that the file does not have
    #[arg(long)]
    prune: bool,
    /// Prune only schedules with this label
    #[arg(long, value_name = "NAME=VALUE", requires = "prune", value_parser = read::pair)]
    prune_label: Option<(String, String)>,
    /// Do not ask before pruning
    #[arg(long, short)]
    yes: bool,
    /// Print the difference as JSON
    #[arg(long)]
    json: bool,
}

/// What is to be done to one schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Add,
    Change,
    Keep,
    Delete,
}

/// One schedule's difference.
#[derive(Debug, Serialize)]
struct Step {
    id: String,
    action: Action,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<FieldChange>,
    #[serde(skip)]
    schedule: Option<Schedule>,
    #[serde(skip)]
    expect: Option<Expect>,
}

/// Applies.
pub(crate) async fn run(args: ApplyArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let path = if args.file == "-" {
        "-".to_owned()
    } else {
        format!("@{}", args.file)
    };
    let text = String::from_utf8(read::bytes(&path)?)
        .map_err(|_| report::usage(format!("`{}` is not UTF-8 text", args.file)))?;
    let wanted = file::read(&text).map_err(|problems| problems_of(&args.file, &problems))?;
    let client = cmd::connect(connect).await?;
    let listing = client.schedules().await?;
    let steps = plan(wanted, &listing, &args);
    show(&steps, args.json)?;
    let count = |action| steps.iter().filter(|step| step.action == action).count();
    let summary = format!(
        "{} to add, {} to change, {} to delete, {} unchanged",
        count(Action::Add),
        count(Action::Change),
        count(Action::Delete),
        count(Action::Keep)
    );
    report::note(&summary);
    if args.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    if count(Action::Delete) > 0 {
        let deleted = out::counted(count(Action::Delete) as u64, "schedule");
        ask::confirm(&format!("delete {deleted}"), args.yes)?;
    }
    write(&client, steps).await
}

fn problems_of(path: &str, problems: &[String]) -> anyhow::Error {
    for problem in problems {
        report::note(format_args!("error: {problem}"));
    }
    report::usage(format!("`{path}` can't be applied, nothing was written"))
}

fn plan(wanted: Vec<Schedule>, listing: &ScheduleListing, args: &ApplyArgs) -> Vec<Step> {
    let mut stored: BTreeMap<_, _> = listing
        .schedules
        .iter()
        .map(|stored| (stored.schedule.id.clone(), stored))
        .collect();
    let unusable: BTreeMap<&str, u64> = listing
        .unusable
        .iter()
        .map(|entry| (entry.key.as_str(), entry.revision))
        .collect();
    let mut steps: Vec<Step> = wanted
        .into_iter()
        .map(|schedule| match unusable.get(schedule.id.as_str()) {
            Some(revision) => replacement(schedule, *revision),
            None => {
                let before = stored.remove(&schedule.id);
                step(schedule, before)
            }
        })
        .collect();
    let is_pruned = |schedule: &Schedule| {
        args.prune
            && args
                .prune_label
                .as_ref()
                .is_none_or(|(name, value)| schedule.metadata.get(name) == Some(value))
    };
    let surplus = stored.values().filter(|stored| is_pruned(&stored.schedule));
    steps.extend(surplus.map(|stored| Step {
        id: stored.schedule.id.to_string(),
        action: Action::Delete,
        changes: Vec::new(),
        schedule: Some(stored.schedule.clone()),
        expect: None,
    }));
    steps
}

/// In place of an entry that can't be read.
fn replacement(schedule: Schedule, revision: u64) -> Step {
    Step {
        id: schedule.id.to_string(),
        action: Action::Change,
        changes: vec![FieldChange {
            field: "entry".to_owned(),
            old: "unreadable".into(),
            new: "this schedule".into(),
        }],
        schedule: Some(schedule),
        expect: Some(Expect::Last(revision)),
    }
}

fn step(mut schedule: Schedule, before: Option<&StoredSchedule>) -> Step {
    let id = schedule.id.to_string();
    let Some(before) = before else {
        return Step {
            id,
            action: Action::Add,
            changes: Vec::new(),
            schedule: Some(schedule),
            expect: Some(Expect::Nothing),
        };
    };
    schedule.adopt(&before.schedule);
    let changes = changes(&before.schedule, &schedule);
    Step {
        id,
        action: if changes.is_empty() {
            Action::Keep
        } else {
            Action::Change
        },
        changes,
        schedule: Some(schedule),
        expect: Some(Expect::Last(before.revision)),
    }
}

fn show(steps: &[Step], json: bool) -> anyhow::Result<()> {
    if json {
        return out::json(steps);
    }
    for step in steps {
        let described = step
            .schedule
            .as_ref()
            .map(|schedule| schedule.trigger.describe());
        match step.action {
            Action::Keep => {}
            Action::Add => {
                out::line(format!("+ {}: {}", step.id, described.unwrap_or_default()))?;
            }
            Action::Delete => out::line(format!("- {}", step.id))?,
            Action::Change => {
                out::line(format!("~ {}", step.id))?;
                for change in &step.changes {
                    let (old, new) = shown(change);
                    out::line(format!("    {}: {old} -> {new}", change.field))?;
                }
            }
        }
    }
    Ok(())
}

/// Goes on behind a failure: each schedule stands for itself.
async fn write(client: &Client, steps: Vec<Step>) -> anyhow::Result<ExitCode> {
    let (mut written, mut failed) = (0, 0);
    for step in steps {
        let Some(schedule) = step.schedule else {
            continue;
        };
        let result = match (step.action, step.expect) {
            (Action::Add | Action::Change, Some(expect)) => {
                client.put_schedule(schedule, expect).await.map(drop)
            }
            (Action::Delete, _) => client.delete_schedule(&schedule.id).await,
            _ => continue,
        };
        match result {
            Ok(()) => written += 1,
            Err(error) => {
                failed += 1;
                report::note(format_args!("error: schedule `{}`: {error}", step.id));
            }
        }
    }
    report::note(format_args!("{written} written"));
    if failed > 0 {
        anyhow::bail!("{failed} schedules were not written");
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn schedule(id: &str, extra: Value) -> Schedule {
        let mut value = json!({
            "id": id, "trigger": {"every": {"interval": "1h"}}, "job": {"task": "t"},
        });
        for (name, field) in extra.as_object().unwrap() {
            value[name] = field.clone();
        }
        serde_json::from_value(value).unwrap()
    }

    fn stored(mut schedule: Schedule) -> StoredSchedule {
        schedule
            .trigger
            .anchor("2026-01-01T00:00:00Z".parse().unwrap());
        schedule.active_from = Some("2026-01-01T00:00:00Z".parse().unwrap());
        StoredSchedule {
            schedule,
            revision: 7,
        }
    }

    fn listing<const N: usize>(schedules: [StoredSchedule; N]) -> ScheduleListing {
        ScheduleListing {
            schedules: schedules.into(),
            unusable: Vec::new(),
        }
    }

    fn options(prune: bool, label: Option<(&str, &str)>) -> ApplyArgs {
        ApplyArgs {
            file: "-".into(),
            dry_run: false,
            prune,
            prune_label: label.map(|(name, value)| (name.into(), value.into())),
            yes: true,
            json: false,
        }
    }

    fn actions(steps: &[Step]) -> Vec<(&str, Action)> {
        steps
            .iter()
            .map(|step| (step.id.as_str(), step.action))
            .collect()
    }

    #[test]
    fn a_file_that_was_applied_changes_nothing() {
        let before = stored(schedule("a", json!({})));
        let steps = plan(
            vec![schedule("a", json!({}))],
            &listing([before]),
            &options(true, None),
        );
        assert_eq!(actions(&steps), [("a", Action::Keep)]);
    }

    #[test]
    fn each_difference_is_named_by_its_field() {
        let before = stored(schedule("a", json!({"description": "old"})));
        let wanted = schedule("a", json!({"job": {"task": "t", "queue": "q"}}));
        let steps = plan(vec![wanted], &listing([before]), &options(false, None));
        let fields: Vec<&str> = steps[0].changes.iter().map(|c| c.field.as_str()).collect();
        assert_eq!(
            (steps[0].action, fields),
            (Action::Change, vec!["description", "job.queue"])
        );
        assert_eq!(steps[0].expect, Some(Expect::Last(7)));
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_replaced() {
        let mut listing = listing([]);
        listing.unusable.push(repull::client::UnusableSchedule {
            key: "a".into(),
            problem: "garbage".into(),
            revision: 3,
        });
        let steps = plan(
            vec![schedule("a", json!({}))],
            &listing,
            &options(false, None),
        );
        assert_eq!(
            (steps[0].action, steps[0].expect),
            (Action::Change, Some(Expect::Last(3)))
        );
    }

    #[test]
    fn only_pruning_deletes_and_a_label_bounds_it() {
        let before = listing([
            stored(schedule("a", json!({"metadata": {"team": "x"}}))),
            stored(schedule("b", json!({}))),
        ]);
        let run = |args| plan(vec![schedule("c", json!({}))], &before, &args);
        assert_eq!(actions(&run(options(false, None))), [("c", Action::Add)]);
        let all = run(options(true, None));
        assert_eq!(
            actions(&all),
            [
                ("c", Action::Add),
                ("a", Action::Delete),
                ("b", Action::Delete)
            ]
        );
        let labelled = run(options(true, Some(("team", "x"))));
        assert_eq!(
            actions(&labelled),
            [("c", Action::Add), ("a", Action::Delete)]
        );
    }
}
