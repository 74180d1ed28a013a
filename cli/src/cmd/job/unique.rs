//! The options that make a submitted job unique.

use std::time::Duration;

use clap::Args;
use repull::id::JobId;
use repull::job::Job;
use repull::unique::{Key, OnConflict};

use crate::ui::{report, time};

/// What makes a job the same as another, and what then.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct UniqueOptions {
    /// Id of your own: while a job of it is queued, running or later, no second one is made
    #[arg(long, conflicts_with = "lines")]
    id: Option<JobId>,
    /// The same by a text of any form: the id follows from it and the task
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["lines", "id"])]
    unique_key: Option<String>,
    /// The same by fields of the arguments, such as `customer,invoice.number`
    #[arg(long, value_name = "FIELD", value_delimiter = ',', conflicts_with_all = ["lines", "id", "unique_key"])]
    unique_fields: Vec<String>,
    /// Also when it has ended: one job in each period of this length; without an id or a key by all
    /// of the arguments
    #[arg(long, value_name = "DURATION", value_parser = time::duration, conflicts_with = "lines")]
    unique_for: Option<Duration>,
    /// Where one is there: `keep` it, `replace` it if it waits, or `refuse` the submit
    #[arg(long, value_name = "WHAT", default_value_t, conflicts_with = "lines")]
    on_conflict: OnConflict,
}

impl UniqueOptions {
    /// The job, unique as the options say.
    pub(crate) fn apply(&self, mut job: Job) -> anyhow::Result<Job> {
        let refused = |error: repull::job::InvalidJob| report::usage(error.to_string());
        let key = match (&self.unique_key, &self.unique_fields[..]) {
            (Some(text), _) => Some(Key::Text(text.clone())),
            (None, []) if self.unique_for.is_some() && self.id.is_none() => Some(Key::Arguments),
            (None, []) => None,
            (None, fields) => Some(Key::fields(fields)),
        };
        if let Some(id) = &self.id {
            job = job.with_id(id.clone());
        } else if let Some(key) = &key {
            job = job.unique_by(key).map_err(refused)?;
        } else if self.on_conflict != OnConflict::Keep {
            return Err(report::hinted(
                report::usage(format!(
                    "nothing makes the job unique, so there is no conflict to {}",
                    self.on_conflict
                )),
                "give it an --id, --unique-key, --unique-fields or --unique-for",
            ));
        }
        if let Some(period) = self.unique_for {
            job = job.unique_for(period).map_err(refused)?;
        }
        Ok(job.on_conflict(self.on_conflict))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use serde_json::json;

    #[derive(Parser)]
    struct Harness {
        #[command(flatten)]
        options: UniqueOptions,
        #[arg(long)]
        lines: Option<String>,
    }

    fn apply(line: &[&str]) -> anyhow::Result<Job> {
        let words = std::iter::once("x").chain(line.iter().copied());
        let harness = Harness::try_parse_from(words)?;
        let job = Job::json("t", &json!({"a": {"b": 1}, "c": 2}))?;
        harness.options.apply(job)
    }

    #[test]
    fn options_become_the_jobs_id_period_and_conflict() {
        let job = apply(&["--unique-fields", "a.b,c", "--unique-for", "1h"]).unwrap();
        assert!(job.unique && job.id.as_str().starts_with("u-"));
        assert_eq!(job.period, Some(Duration::from_secs(3600)));
        let same = apply(&["--unique-fields", "c", "--unique-fields", "a.b"]).unwrap();
        assert_eq!(job.id, same.id);
        let all = apply(&["--unique-for", "1h"]).unwrap();
        assert!(all.unique && all.id != same.id);
        let own = apply(&["--id", "x", "--unique-for", "1h", "--on-conflict", "refuse"]).unwrap();
        assert_eq!(
            (own.id.as_str(), own.on_conflict),
            ("x", OnConflict::Refuse)
        );
        assert!(!apply(&[]).unwrap().unique);
    }

    #[test]
    fn what_contradicts_itself_or_means_nothing_is_refused() {
        for line in [
            &["--id", "x", "--unique-key", "y"][..],
            &["--unique-key", "x", "--unique-fields", "a"],
            &["--unique-key", "x", "--lines", "f"],
            &["--unique-fields", "nope"],
            &["--unique-key", ""],
            &["--unique-for", "500ms"],
            &["--on-conflict", "replace"],
            &["--unique-key", "x", "--on-conflict", "drop"],
        ] {
            assert!(apply(line).is_err(), "{line:?}");
        }
    }
}
