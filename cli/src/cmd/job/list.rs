//! `repull job list`.

use std::process::ExitCode;

use clap::Args;
use repull::client::{JobFilter, JobState, JobSummary};
use repull::connect::ConnectArgs;
use repull::id::{Priority, QueueName, TaskName};

use crate::cmd;
use crate::ui::table::{Cell, Table};
use crate::ui::{out, report, time};

/// The options of `repull job list`.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Only jobs of this queue
    #[arg(long, short)]
    queue: Option<QueueName>,
    /// Only jobs of this task
    #[arg(long, short)]
    task: Option<TaskName>,
    /// Only jobs that are queued, running, later, dead or done
    #[arg(long, value_name = "STATE")]
    state: Option<JobState>,
    /// At most so many
    #[arg(long, short, default_value_t = 50, value_parser = limit)]
    limit: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A limit of at least one.
pub(crate) fn limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(limit @ 1..) => Ok(limit),
        _ => Err(format!(
            "`{text}` is no limit, expected a whole number of at least 1"
        )),
    }
}

/// Lists.
pub(crate) async fn run(args: ListArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let client = cmd::connect(connect).await?;
    let filter = JobFilter {
        queue: args.queue,
        task: args.task,
        state: args.state,
        limit: args.limit,
    };
    let listing = client.list_jobs(&filter).await?;
    if args.json {
        out::json(&listing.jobs)?;
    } else if listing.jobs.is_empty() {
        report::note("no jobs");
    } else {
        table(&listing.jobs).print()?;
    }
    if listing.more {
        report::note(format_args!(
            "there are more than these {}; --limit shows more, --state, --queue and --task others",
            listing.jobs.len()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Jobs as a table.
pub(crate) fn table(jobs: &[JobSummary]) -> Table {
    let columns = ["ID", "QUEUE", "TASK", "STATE", "SINCE", "DETAIL"];
    let mut table = Table::new(&columns);
    for job in jobs {
        table.row([
            job.id.as_str().into(),
            lane(job).into(),
            job.task.as_str().into(),
            Cell::painted(state(job)),
            since(job).into(),
            detail(job).into(),
        ]);
    }
    table
}

/// The queue, with the lane where it is not the normal one.
pub(crate) fn lane(job: &JobSummary) -> String {
    match job.priority {
        Priority::High => format!("{}~high", job.queue),
        Priority::Normal => job.queue.to_string(),
        Priority::Low => format!("{}~low", job.queue),
    }
}

/// The state, or how it ended.
pub(crate) fn state(job: &JobSummary) -> String {
    match job.outcome {
        Some(outcome) if job.state == JobState::Done => outcome.to_string(),
        _ => job.state.to_string(),
    }
}

/// `2/20` where the job says how many it gets.
pub(crate) fn attempt(job: &JobSummary) -> String {
    match job.max_attempts {
        Some(max) => format!("{}/{max}", job.attempt),
        None => job.attempt.to_string(),
    }
}

fn since(job: &JobSummary) -> String {
    job.since.map(time::age).unwrap_or_default()
}

fn detail(job: &JobSummary) -> String {
    let mut parts = Vec::new();
    if job.attempt > 1 {
        parts.push(format!("attempt {}", attempt(job)));
    }
    parts.extend(job.run_at.map(time::relative));
    if job.state == JobState::Running {
        parts.push(match &job.worker {
            Some(worker) => format!("on {worker}"),
            None => "just taken".to_owned(),
        });
    }
    parts.extend(
        job.progress
            .map(|progress| format!("{:.0} %", progress * 100.0)),
    );
    parts.extend(job.error.clone());
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use repull::job::Job;

    #[test]
    fn a_limit_is_at_least_one() {
        assert_eq!(limit("3").unwrap(), 3);
        assert!(limit("0").is_err() && limit("-1").is_err() && limit("all").is_err());
    }

    #[test]
    fn a_row_says_what_matters_in_its_state() {
        let mut job = Job::json("t", &()).unwrap();
        (job.max_attempts, job.attempts_used) = (Some(5), 2);
        let now = repull::clock::now();
        let mut row = JobSummary::of_message(&job, JobState::Running, 1, now);
        assert_eq!(detail(&row), "attempt 2/5, just taken");
        row.worker = Some("w-1".parse().unwrap());
        row.progress = Some(0.25);
        assert_eq!(detail(&row), "attempt 2/5, on w-1, 25 %");
        assert_eq!(
            (attempt(&row), state(&row)),
            ("2/5".into(), "running".into())
        );
    }
}
