//! The demo's load: a burst of jobs far above the slots there are, most of them short, some long,
//! some failing at first and some for good. Pure: the same numbers give the same load.

use std::time::Duration;

use repull::id::{JobId, QueueName};
use repull::job::{InvalidJob, Job};
use repull::retry::Backoff;
use serde::{Deserialize, Serialize};

/// Attempts of the jobs that fail at first; more than they need.
const FLAKY_ATTEMPTS: u32 = 5;

/// Attempts of the jobs that always fail.
const HOPELESS_ATTEMPTS: u32 = 3;

/// What a job's handler is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HashArgs {
    /// The files to hash and count; none: all of the folder.
    #[serde(default)]
    pub(super) files: Vec<String>,
    /// How long it takes on top of that, as a job that waits for a disk or a network does.
    pub(super) pace_ms: u64,
    /// How often it fails before it succeeds.
    #[serde(default)]
    pub(super) failures: u32,
}

/// What a job is there to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Hashes a few files and is done in about a second.
    Short,
    /// Hashes the whole folder in five seconds and more.
    Long,
    /// Fails once or twice, then succeeds.
    Flaky,
    /// Always fails and ends among the dead letters.
    Hopeless,
}

impl Kind {
    /// All of them.
    pub(super) const ALL: [Kind; 4] = [Self::Short, Self::Long, Self::Flaky, Self::Hopeless];

    /// The task that its jobs are for.
    pub(super) fn task(self) -> &'static str {
        match self {
            Self::Short => "files.hash",
            Self::Long => "files.survey",
            Self::Flaky => "files.flaky",
            Self::Hopeless => "files.hopeless",
        }
    }

    /// Three of a hundred are long, six fail at first, two always; in no visible order.
    fn of(index: u32) -> Self {
        match index.wrapping_mul(37) % 100 {
            0..3 => Self::Long,
            3..9 => Self::Flaky,
            9..11 => Self::Hopeless,
            _ => Self::Short,
        }
    }
}

/// One job of the load.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    /// What it is there to show.
    pub(super) kind: Kind,
    /// The job.
    pub(super) job: Job,
}

/// Makes the load of one run: `count` jobs over `files` on a queue of the run's own, whose name is
/// part of their ids.
pub(super) fn plan(
    queue: &QueueName,
    count: u32,
    files: &[String],
) -> Result<Vec<Planned>, InvalidJob> {
    // So many that all but the long ones together see about every file.
    let per_job = files
        .len()
        .div_ceil(count.max(1) as usize * 4 / 5 + 1)
        .max(1);
    (0..count)
        .map(|index| planned(queue, index, per_job, files))
        .collect()
}

fn planned(
    queue: &QueueName,
    index: u32,
    per_job: usize,
    files: &[String],
) -> Result<Planned, InvalidJob> {
    let kind = Kind::of(index);
    let share = || {
        let first = index as usize * per_job;
        let share = (first..first + per_job).filter_map(|at| files.get(at % files.len().max(1)));
        share.cloned().collect()
    };
    let args = match kind {
        Kind::Short => HashArgs {
            files: share(),
            pace_ms: spread(index, 200..1_400),
            failures: 0,
        },
        Kind::Long => HashArgs {
            files: Vec::new(),
            pace_ms: spread(index, 5_000..8_000),
            failures: 0,
        },
        Kind::Flaky => HashArgs {
            files: share(),
            pace_ms: spread(index, 100..500),
            failures: 1 + index % 2,
        },
        Kind::Hopeless => HashArgs {
            files: share(),
            pace_ms: spread(index, 100..300),
            failures: u32::MAX,
        },
    };
    let mut job = Job::json(kind.task(), &args)?
        .on(queue.clone())
        .with_id(JobId::new(format!("{queue}-{index:05}"))?);
    job.max_attempts = match kind {
        Kind::Short | Kind::Long => None,
        Kind::Flaky => Some(FLAKY_ATTEMPTS),
        Kind::Hopeless => Some(HOPELESS_ATTEMPTS),
    };
    job.backoff = Some(Backoff {
        first: Duration::from_millis(400),
        factor: 2.0,
        cap: Duration::from_secs(2),
    });
    Ok(Planned { kind, job })
}

/// A number of the range that looks random and is the same for the same index.
fn spread(index: u32, range: std::ops::Range<u64>) -> u64 {
    let scattered = u64::from(index).wrapping_mul(2_654_435_761) % 1_000_003;
    range.start + scattered % (range.end - range.start)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn load(count: u32, files: usize) -> Vec<Planned> {
        let files: Vec<String> = (0..files).map(|n| format!("f{n}")).collect();
        plan(&QueueName::default(), count, &files).unwrap()
    }

    fn args(planned: &Planned) -> HashArgs {
        serde_json::from_slice(&planned.job.args).unwrap()
    }

    #[test]
    fn the_load_has_its_kinds_in_their_shares() {
        let load = load(2_000, 300);
        let count = |kind| load.iter().filter(|planned| planned.kind == kind).count();
        assert_eq!(Kind::ALL.map(count), [1_780, 60, 120, 40]);
        let ids: HashSet<_> = load.iter().map(|planned| planned.job.id.clone()).collect();
        assert_eq!(ids.len(), 2_000);
    }

    #[test]
    fn every_file_is_in_a_short_job_s_share() {
        for files in [1, 7, 300, 2_000, 5_000] {
            let load = load(2_000, files);
            let short = load.iter().filter(|planned| planned.kind != Kind::Long);
            let seen: HashSet<_> = short.flat_map(|planned| args(planned).files).collect();
            assert!(seen.len() * 100 >= files * 95, "{} of {files}", seen.len());
        }
    }

    #[test]
    fn jobs_that_fail_at_first_have_the_attempts_they_need() {
        for planned in load(500, 10) {
            let attempts = planned.job.max_attempts;
            match planned.kind {
                Kind::Flaky => assert!(args(&planned).failures < attempts.unwrap()),
                Kind::Hopeless => assert!(args(&planned).failures > attempts.unwrap()),
                Kind::Short | Kind::Long => assert_eq!(args(&planned).failures, 0),
            }
        }
    }
}
