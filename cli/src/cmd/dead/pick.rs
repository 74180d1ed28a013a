//! Which dead jobs a verb is for: some by name, or all that a filter matches.

use chrono::{DateTime, Utc};
use clap::Args;
use futures_util::{StreamExt, stream};
use repull::client::{Client, DeadFilter, DeadJob};
use repull::id::{QueueName, TaskName};

use crate::ui::{ask, out, report, time};

/// The filter's options.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Filter")]
pub(crate) struct FilterArgs {
    /// Only of this queue
    #[arg(long, short)]
    queue: Option<QueueName>,
    /// Only of this task
    #[arg(long, short)]
    task: Option<TaskName>,
    /// Only those that died since this time, or this long ago
    #[arg(long, value_name = "TIME|DURATION", value_parser = time::past)]
    since: Option<DateTime<Utc>>,
    /// Only those that died before this time, or longer ago than this
    #[arg(long, value_name = "TIME|DURATION", value_parser = time::past)]
    until: Option<DateTime<Utc>>,
    /// Only those whose reason or errors hold this text
    #[arg(long, short, value_name = "TEXT")]
    error: Option<String>,
}

impl FilterArgs {
    /// As the client takes it.
    pub(crate) fn filter(&self) -> DeadFilter {
        DeadFilter {
            queue: self.queue.clone(),
            task: self.task.clone(),
            since: self.since,
            until: self.until,
            error: self.error.clone(),
        }
    }
}

/// The options of a verb that changes dead jobs.
#[derive(Args, Debug)]
pub(crate) struct PickArgs {
    /// Dead jobs, by id or by sequence as `#N`
    #[arg(value_name = "ID|#N")]
    names: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// All dead jobs there are
    #[arg(long)]
    all: bool,
    /// Do not ask before changing many
    #[arg(long, short)]
    yes: bool,
}

impl PickArgs {
    /// The sequences of the dead jobs that are meant, after a yes where they are many. `verb` is
    /// what will be done to them.
    pub(crate) async fn pick(&self, client: &Client, verb: &str) -> anyhow::Result<Vec<u64>> {
        let filter = self.filter.filter();
        match (self.names.is_empty(), filter.takes_all(), self.all) {
            (false, true, false) => by_names(client, &self.names).await,
            (true, false, false) | (true, true, true) => {
                let found = client.dead_jobs(&filter, usize::MAX).await?;
                if found.jobs.is_empty() {
                    report::note("no such dead job");
                    return Ok(Vec::new());
                }
                ask::confirm(
                    &format!("{verb} {}", out::counted(found.matching, "dead job")),
                    self.yes,
                )?;
                // The oldest first, as they came.
                Ok(found.jobs.iter().rev().map(|dead| dead.sequence).collect())
            }
            (true, true, false) => Err(report::hinted(
                report::usage(format!("nothing says which dead jobs to {verb}")),
                "name some, or a filter such as --queue or --error, or all with --all",
            )),
            _ => Err(report::usage(
                "names, a filter and --all exclude each other: give one of the three",
            )),
        }
    }
}

/// The sequences of the dead jobs of these names: all of an id, however often it died.
pub(crate) async fn by_names(client: &Client, names: &[String]) -> anyhow::Result<Vec<u64>> {
    let mut sequences: Vec<u64> = names.iter().filter_map(|name| sequence(name)).collect();
    let ids: Vec<&String> = names
        .iter()
        .filter(|name| sequence(name).is_none())
        .collect();
    if ids.is_empty() {
        return Ok(sequences);
    }
    let found = client.dead_jobs(&DeadFilter::default(), usize::MAX).await?;
    for id in ids {
        let of_id = |dead: &&DeadJob| dead.id.as_ref() == Some(id);
        let matching: Vec<u64> = found
            .jobs
            .iter()
            .filter(of_id)
            .map(|dead| dead.sequence)
            .collect();
        if matching.is_empty() {
            return Err(report::hinted(
                anyhow::anyhow!("no dead job `{id}`"),
                format!("`repull dead list` lists them; `repull job show {id}` says where it is"),
            ));
        }
        sequences.extend(matching);
    }
    sequences.sort_unstable();
    sequences.dedup();
    Ok(sequences)
}

fn sequence(name: &str) -> Option<u64> {
    name.strip_prefix('#')?.parse().ok()
}

/// Does one thing to each, several at a time, and gives the failures.
pub(crate) async fn each<T, F>(
    sequences: Vec<u64>,
    mut act: impl FnMut(u64) -> F,
) -> Vec<(u64, Result<T, repull::client::Error>)>
where
    F: Future<Output = Result<T, repull::client::Error>>,
{
    stream::iter(sequences)
        .map(|sequence| {
            let action = act(sequence);
            async move { (sequence, action.await) }
        })
        .buffered(64)
        .collect()
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_marked_as_one_so_that_ids_of_digits_stay_ids() {
        assert_eq!(sequence("#17"), Some(17));
        assert_eq!(sequence("17"), None);
        assert_eq!(sequence("#x"), None);
    }
}
