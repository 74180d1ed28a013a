//! `repull schedule add`.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use repull::client::{Client, Expect, StoredSchedule};
use repull::clock;
use repull::connect::ConnectArgs;
use repull::id::{Priority, QueueName, ScheduleId, TaskName};
use repull::queue::Pause;
use repull::retry::Backoff;
use repull::schedule::{Coalesce, JobTemplate, Overlap, Schedule};
use serde_json::Value;

use super::trigger::TriggerArgs;
use crate::cmd;
use crate::ui::{out, read, report, time};

/// The options of `repull schedule add`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  repull schedule add nightly --cron '30 2 * * *' --tz Europe/Berlin --task backup.run
  repull schedule add tick --every 10s --task echo --args '{\"n\": 1}' --overlap skip")]
pub(crate) struct AddArgs {
    /// Its id
    id: ScheduleId,
    #[command(flatten)]
    trigger: TriggerArgs,
    #[command(flatten)]
    job: TemplateArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    /// What it is for
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// Label of your own; can be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = read::pair)]
    metadata: Vec<(String, String)>,
    /// Add it paused
    #[arg(long)]
    paused: bool,
    /// What to do where a schedule of this id exists
    #[arg(long, value_enum, default_value = "refuse")]
    if_exists: IfExists,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The job that each fire makes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Job")]
struct TemplateArgs {
    /// Task that handles it
    #[arg(long)]
    task: TaskName,
    /// Its arguments: JSON, `-` for stdin or `@FILE`
    #[arg(long, value_name = "JSON")]
    args: Option<String>,
    /// Queue it waits on
    #[arg(long, short, default_value_t)]
    queue: QueueName,
    /// Lane of the queue: high, normal or low
    #[arg(long, default_value = "normal")]
    priority: Priority,
    /// Attempts in all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_attempts: Option<u32>,
    /// Wait between attempts: `<first>,<factor>,<cap>` such as `1s,2,6h`
    #[arg(long)]
    backoff: Option<Backoff>,
    /// How long one attempt may run
    #[arg(long, value_name = "DURATION", value_parser = time::duration)]
    timeout: Option<Duration>,
    /// Do not store outcomes
    #[arg(long)]
    no_result: bool,
}

/// What happens to fires that are late or overlap.
#[derive(Args, Debug)]
#[command(next_help_heading = "Policy")]
struct PolicyArgs {
    /// When the previous run has not ended: allow, skip, buffer_one or cancel_other
    #[arg(long, value_name = "POLICY", default_value = "allow", value_parser = word::<Overlap>)]
    overlap: Overlap,
    /// Of several fires due at once, as after an outage: all, latest or earliest
    #[arg(long, value_name = "POLICY", default_value = "all", value_parser = word::<Coalesce>)]
    coalesce: Coalesce,
    /// Skip fires that are later than this
    #[arg(long, value_name = "DURATION", value_parser = time::duration)]
    misfire_grace: Option<Duration>,
    /// Delay each fire by up to this, the same for every scheduler
    #[arg(long, value_name = "DURATION", value_parser = time::duration)]
    jitter: Option<Duration>,
    /// End after so many fires
    #[arg(long, value_name = "N")]
    max_runs: Option<u64>,
    /// Pause after so many failed jobs in a row
    #[arg(long, value_name = "N")]
    pause_after_failures: Option<u32>,
}

/// What to do where a schedule of this id exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum IfExists {
    /// Fail
    Refuse,
    /// Leave it as it is
    Keep,
    /// Put this one in its place
    Replace,
}

/// Reads a word as its file form is read, so that both know the same words.
fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    let word = Value::String(text.replace('-', "_"));
    serde_json::from_value(word).map_err(|error| error.to_string())
}

/// Adds.
pub(crate) async fn run(args: AddArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let schedule = args.schedule()?;
    let client = cmd::connect(connect).await?;
    cmd::queue::check_lane(&client, &schedule.job.queue, schedule.job.priority).await?;
    let (stored, done) = put(&client, schedule, args.if_exists).await?;
    if args.json {
        out::json(&super::show::view(&stored))?;
        return Ok(ExitCode::SUCCESS);
    }
    report::note(format_args!(
        "schedule `{}` {done}: {}",
        stored.schedule.id,
        stored.schedule.trigger.describe()
    ));
    let next = super::next::upcoming(&stored.schedule, clock::now()).next();
    match next {
        Some(fire) => report::note(format_args!(
            "next fire {} ({})",
            time::local(fire.local),
            time::relative(fire.due)
        )),
        None if stored.schedule.paused.is_some() => report::note("it is paused"),
        None => report::note("it has no fire left"),
    }
    Ok(ExitCode::SUCCESS)
}

async fn put(
    client: &Client,
    mut schedule: Schedule,
    if_exists: IfExists,
) -> anyhow::Result<(StoredSchedule, &'static str)> {
    let id = schedule.id.clone();
    let existing = match if_exists {
        IfExists::Replace => match client.schedule(&id).await {
            // What can't be read is replaced all the more.
            Err(repull::client::Error::Invalid(_)) => {
                let stored = client.put_schedule(schedule, Expect::Anything).await?;
                return Ok((stored, "replaced"));
            }
            found => found?,
        },
        IfExists::Refuse | IfExists::Keep => None,
    };
    let (expect, done) = match &existing {
        Some(stored) => {
            schedule.adopt(&stored.schedule);
            (Expect::Last(stored.revision), "replaced")
        }
        None => (Expect::Nothing, "added"),
    };
    match client.put_schedule(schedule, expect).await {
        Ok(stored) => Ok((stored, done)),
        Err(repull::client::Error::Conflict { .. }) if existing.is_none() => match if_exists {
            IfExists::Keep => Ok((client.existing_schedule(&id).await?, "exists already, kept")),
            _ => Err(report::hinted(
                anyhow::anyhow!("schedule `{id}` exists already"),
                "`--if-exists replace` puts this one in its place, `--if-exists keep` leaves that one",
            )),
        },
        Err(error) => Err(error.into()),
    }
}

impl AddArgs {
    fn schedule(&self) -> anyhow::Result<Schedule> {
        let job = &self.job;
        let args = job
            .args
            .as_deref()
            .map(|args| read::json("arguments", args))
            .transpose()?;
        let template = JobTemplate {
            task: job.task.clone(),
            queue: job.queue.clone(),
            priority: job.priority,
            args: args.unwrap_or_default(),
            max_attempts: job.max_attempts,
            backoff: job.backoff,
            timeout: job.timeout,
            keep_result: job.no_result.then_some(false),
        };
        let pause = || Pause {
            by: cmd::operator(),
            reason: "added paused".to_owned(),
            at: clock::now(),
        };
        let schedule = Schedule {
            coalesce: self.policy.coalesce,
            misfire_grace: self.policy.misfire_grace,
            overlap: self.policy.overlap,
            jitter: self.policy.jitter,
            max_runs: self.policy.max_runs,
            pause_after_failures: self.policy.pause_after_failures,
            paused: self.paused.then(pause),
            description: self.description.clone(),
            metadata: self.metadata.iter().cloned().collect(),
            ..Schedule::new(self.id.clone(), self.trigger.read()?, template)
        };
        schedule
            .validate()
            .map_err(|error| report::usage(error.to_string()))?;
        Ok(schedule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Harness {
        #[command(flatten)]
        args: AddArgs,
    }

    fn parse(line: &[&str]) -> anyhow::Result<Schedule> {
        let words = ["x", "s-1", "--task", "t"]
            .into_iter()
            .chain(line.iter().copied());
        Harness::try_parse_from(words)?.args.schedule()
    }

    #[test]
    fn options_become_the_schedule() {
        let schedule = parse(&[
            "--every",
            "10s",
            "--args",
            "{\"n\":1}",
            "-q",
            "mail",
            "--overlap",
            "buffer-one",
            "--coalesce",
            "latest",
            "--misfire-grace",
            "1m",
            "--jitter",
            "2s",
            "--max-runs",
            "3",
            "--metadata",
            "team=a",
            "--description",
            "words",
            "--paused",
        ])
        .unwrap();
        assert_eq!(schedule.overlap, Overlap::BufferOne);
        assert_eq!(schedule.coalesce, Coalesce::Latest);
        assert_eq!(schedule.misfire_grace, Some(Duration::from_secs(60)));
        assert_eq!(schedule.job.args, serde_json::json!({"n": 1}));
        assert_eq!(schedule.metadata["team"], "a");
        assert!(schedule.paused.is_some());
    }

    #[test]
    fn bad_values_are_named() {
        let error = |line: &[&str]| parse(line).unwrap_err().to_string();
        let every = ["--every", "10s"];
        assert!(error(&[&every[..], &["--overlap", "never"]].concat()).contains("buffer_one"));
        assert!(error(&[&every[..], &["--max-runs", "0"]].concat()).contains("max_runs"));
        assert!(error(&[&every[..], &["--args", "{"]].concat()).contains("not JSON"));
        assert!(error(&["--cron", "* * *"]).contains("cron"));
    }
}
