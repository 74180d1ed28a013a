//! What the jobs of a measurement do: nothing, or sleep for a time that their arguments name.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use repull_worker::{Output, TaskError};

use super::latencies::Latencies;

/// The task of all jobs.
pub(crate) const TASK: &str = "bench";

/// How long jobs take.
#[derive(Args, Debug, Clone)]
pub(crate) struct WorkArgs {
    /// How long each `--long-every`th job takes
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    pub(crate) long_work: Duration,
    /// Which jobs are long; none by default
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) long_every: Option<u64>,
    /// Jobs of 1 ms, each hundredth of 1 s
    #[arg(long, conflicts_with_all = ["work", "long_work", "long_every"])]
    pub(crate) mixed: bool,
}

/// How long each job takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Durations {
    work: Duration,
    long: Option<(u64, Duration)>,
}

impl Durations {
    pub(crate) fn new(work: Duration, args: &WorkArgs) -> Self {
        if args.mixed {
            return Self {
                work: Duration::from_millis(1),
                long: Some((100, Duration::from_secs(1))),
            };
        }
        Self {
            work,
            long: args.long_every.map(|every| (every, args.long_work)),
        }
    }

    /// All of the same.
    pub(crate) fn all(work: Duration) -> Self {
        Self { work, long: None }
    }

    /// What job number so-and-so is to do.
    pub(crate) fn of(&self, number: u64) -> Work {
        let time = match self.long {
            Some((every, long)) if number.is_multiple_of(every) => long,
            _ => self.work,
        };
        Work { number, time }
    }

    /// The time of that many jobs together.
    pub(crate) fn sum(&self, jobs: u64) -> Duration {
        let long = self.long.map_or(0, |(every, _)| jobs.div_ceil(every));
        let whole = self.work.as_secs_f64() * (jobs - long) as f64
            + self
                .long
                .map_or(0.0, |(_, time)| time.as_secs_f64() * long as f64);
        Duration::from_secs_f64(whole)
    }
}

impl std::fmt::Display for Durations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.work.is_zero() {
            true => f.write_str("jobs that do nothing")?,
            false => write!(f, "jobs of {:?}", self.work)?,
        }
        match self.long {
            Some((every, time)) => write!(f, ", each {every}th of {time:?}"),
            None => Ok(()),
        }
    }
}

/// What one job is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work {
    /// Its place among the jobs of its round.
    pub(crate) number: u64,
    /// How long it takes.
    pub(crate) time: Duration,
}

impl Work {
    /// As a job's arguments, filled up to a size.
    pub(crate) fn args(self, bytes: usize) -> Bytes {
        let mut text = format!("{} {} ", self.number, self.time.as_micros()).into_bytes();
        text.resize(bytes.max(text.len()), b'x');
        text.into()
    }

    /// From a job's arguments.
    pub(crate) fn read(args: &[u8]) -> Option<Self> {
        // Short of the filling, which may be long.
        let text = std::str::from_utf8(args.get(..64).unwrap_or(args)).ok()?;
        let mut words = text.split(' ');
        Some(Self {
            number: words.next()?.parse().ok()?,
            time: Duration::from_micros(words.next()?.parse().ok()?),
        })
    }

    /// Does it.
    pub(crate) async fn done(self) {
        if !self.time.is_zero() {
            tokio::time::sleep(self.time).await;
        }
    }
}

/// What a handler of a measurement returns.
pub(crate) fn nothing() -> Result<Output, TaskError> {
    Ok(Output::from(Bytes::new()))
}

/// What the handlers of one side note in one round.
#[derive(Debug)]
pub(crate) struct Tally {
    first: OnceLock<Instant>,
    /// Slots that came free and have no job since, the first first.
    free: Mutex<VecDeque<Instant>>,
    /// From a slot coming free to the next start.
    pub(crate) refills: Latencies,
    /// How long jobs have held their slots, together, in nanoseconds.
    busy_ns: AtomicU64,
}

impl Tally {
    pub(crate) fn new() -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            first: OnceLock::new(),
            free: Mutex::default(),
            refills: Latencies::new()?,
            busy_ns: AtomicU64::new(0),
        }))
    }

    /// A job starts, and nothing but the first of them is of interest.
    pub(crate) fn has_begun(&self) {
        self.first.get_or_init(Instant::now);
    }

    /// A job starts, and says when; with a backlog it takes the slot that has been free for longest.
    pub(crate) fn started(&self) -> Instant {
        let now = Instant::now();
        self.first.get_or_init(|| now);
        if let Some(free_since) = self.lock().pop_front() {
            self.refills.record(now.duration_since(free_since));
        }
        now
    }

    /// A job has ended that started then.
    pub(crate) fn ended(&self, started: Instant) {
        let now = Instant::now();
        let busy_ns = now.duration_since(started).as_nanos();
        self.busy_ns.fetch_add(
            u64::try_from(busy_ns).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
        self.lock().push_back(now);
    }

    /// How long jobs have held their slots, together.
    pub(crate) fn busy(&self) -> Duration {
        Duration::from_nanos(self.busy_ns.load(Ordering::Relaxed))
    }

    /// The time since the first start.
    pub(crate) fn since_first(&self) -> Duration {
        self.first.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Instant>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_job_is_to_do_survives_its_arguments() {
        let work = Work {
            number: 17,
            time: Duration::from_millis(3),
        };
        for bytes in [0, 9, 10, 256, 65_536] {
            let args = work.args(bytes);
            assert_eq!(Work::read(&args), Some(work));
            assert_eq!(args.len(), bytes.max(8));
        }
        assert_eq!(Work::read(b"{}"), None);
    }

    #[test]
    fn the_sum_counts_long_jobs_as_such() {
        let durations = Durations {
            work: Duration::from_millis(1),
            long: Some((100, Duration::from_secs(1))),
        };
        let sum: Duration = (0..250).map(|number| durations.of(number).time).sum();
        assert_eq!(durations.sum(250), sum);
        assert_eq!(sum, Duration::from_millis(3_247));
    }
}
