//! What a worker is told at its start, checked in one place before any socket opens.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use repull::id::{InvalidName, QueueName, WorkerId};
use repull::topology::Layout;

/// The most slots a worker may have; far above what one process can run.
pub const SLOTS_MAX: u32 = 100_000;

/// The most queues one worker serves.
pub const QUEUES_MAX: usize = 64;

/// The shortest watchdog: below it the silence of a healthy server could look like a fault.
pub const WATCHDOG_MIN: Duration = Duration::from_secs(13);

/// The largest value that is stored with an outcome, unless the config says otherwise.
pub const VALUE_BYTES_MAX_DEFAULT: usize = 256 * 1024;

/// Everything a worker can be told.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerConfig {
    /// The id under which it is listed, new for each process.
    pub id: WorkerId,
    /// The queues it serves, in order of preference.
    pub queues: Vec<ServedQueue>,
    /// How queues with a backlog share the slots.
    pub order: Order,
    /// Jobs that may run at once, over all queues.
    pub slots: u32,
    /// How long running jobs may go on after a drain began.
    pub drain_timeout: Duration,
    /// How long a handler may take to end by itself after its cancellation.
    pub cancel_grace: Duration,
    /// Whether the slot of a handler that ignores its cancellation is replaced by a new one.
    pub replace_stuck: bool,
    /// Idle slots beside a backlog for this long lead to a new subscription, twice this to a new
    /// connection, three times this to the end of the process.
    pub watchdog: Duration,
    /// Whether outcomes are stored for jobs that do not say and whose task does not say.
    pub results_default: bool,
    /// The largest value that is stored with an outcome, in bytes.
    pub value_bytes_max: usize,
    /// How long the worker waits at its start for the server, the streams and its consumers, each;
    /// zero: not at all.
    pub start_timeout: Duration,
    /// How the installation's streams are laid out.
    pub layout: Layout,
    /// Where `/metrics`, `/healthz` and `/readyz` are served; none: nowhere.
    pub http: Option<SocketAddr>,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            id: WorkerId::generate(),
            queues: vec![ServedQueue::new(QueueName::default())],
            order: Order::default(),
            slots: 100,
            drain_timeout: Duration::from_secs(25),
            cancel_grace: Duration::from_secs(5),
            replace_stuck: false,
            watchdog: Duration::from_secs(30),
            results_default: true,
            value_bytes_max: VALUE_BYTES_MAX_DEFAULT,
            start_timeout: Duration::from_secs(300),
            layout: Layout::default(),
            http: None,
        }
    }
}

impl WorkerConfig {
    /// Checks all of it and reports every problem at once.
    pub fn validate(&self) -> Result<(), Problems> {
        let mut problems = Problems::default();
        if !(1..=SLOTS_MAX).contains(&self.slots) {
            problems.add("slots", self.slots, format!("1 to {SLOTS_MAX}"));
        }
        if !(1..=QUEUES_MAX).contains(&self.queues.len()) {
            problems.add(
                "queues",
                format!("{} queues", self.queues.len()),
                format!("1 to {QUEUES_MAX}"),
            );
        }
        let mut seen = HashSet::new();
        for queue in &self.queues {
            if !seen.insert(&queue.name) {
                problems.add("queues", &queue.name, "each queue once");
            }
            if queue.weight == 0 {
                problems.add(format!("weight of queue `{}`", queue.name), 0, "at least 1");
            }
        }
        if self.cancel_grace.is_zero() {
            problems.add("cancel_grace", "0s", "at least 1ms");
        }
        if self.watchdog < WATCHDOG_MIN {
            problems.add(
                "watchdog",
                humantime::format_duration(self.watchdog),
                format!("at least {}", humantime::format_duration(WATCHDOG_MIN)),
            );
        }
        if self.layout.ack_wait < Duration::from_secs(1) {
            problems.add(
                "layout.ack_wait",
                humantime::format_duration(self.layout.ack_wait),
                "at least 1s",
            );
        }
        problems.into_result()
    }
}

/// A queue that a worker serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedQueue {
    /// Its name.
    pub name: QueueName,
    /// Its share of the slots among the queues with a backlog, where [`Order::Weighted`].
    pub weight: u32,
}

impl ServedQueue {
    /// The queue with weight 1.
    pub fn new(name: QueueName) -> Self {
        Self { name, weight: 1 }
    }
}

impl fmt::Display for ServedQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.weight {
            1 => write!(f, "{}", self.name),
            weight => write!(f, "{}={weight}", self.name),
        }
    }
}

/// A served queue that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidServedQueue {
    /// Its name is not valid.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// Its weight is not valid.
    #[error("weight of queue `{queue}` is `{value}`, expected a whole number of at least 1")]
    Weight {
        /// The queue.
        queue: String,
        /// What stands after the `=`.
        value: String,
    },
}

impl FromStr for ServedQueue {
    type Err = InvalidServedQueue;

    /// Reads `name` or `name=weight`.
    fn from_str(text: &str) -> Result<Self, InvalidServedQueue> {
        let (name, weight) = match text.split_once('=') {
            None => (text, "1"),
            Some((name, weight)) => (name, weight),
        };
        let name = QueueName::new(name.trim())?;
        match weight.trim().parse() {
            Ok(weight) if weight > 0 => Ok(Self { name, weight }),
            _ => Err(InvalidServedQueue::Weight {
                queue: name.to_string(),
                value: weight.chars().take(40).collect(),
            }),
        }
    }
}

/// How queues share the slots while more than one has a backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, clap::ValueEnum)]
pub enum Order {
    /// The first queue with a backlog takes every free slot; those after it wait.
    Strict,
    /// Free slots are dealt out by weight, so that no queue waits for ever.
    #[default]
    Weighted,
}

/// What is wrong with a config: every field that is, its value, and what was expected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<String>);

impl Problems {
    /// Adds one in the usual form.
    pub(crate) fn add(
        &mut self,
        field: impl fmt::Display,
        value: impl fmt::Display,
        expected: impl fmt::Display,
    ) {
        self.0
            .push(format!("{field} is `{value}`, expected {expected}"));
    }

    /// Adds one in its own words.
    pub(crate) fn say(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    /// Adds all of another.
    pub(crate) fn extend(&mut self, others: Problems) {
        self.0.extend(others.0);
    }

    /// One text for each problem.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Fails where there is any.
    pub(crate) fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => f.write_str(one),
            all => {
                write!(f, "{} problems:", all.len())?;
                all.iter()
                    .try_for_each(|problem| write!(f, "\n  - {problem}"))
            }
        }
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_accepted() {
        assert_eq!(WorkerConfig::default().validate(), Ok(()));
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let config = WorkerConfig {
            slots: 0,
            queues: vec!["a".parse().unwrap(), "a".parse().unwrap()],
            watchdog: Duration::from_secs(1),
            ..WorkerConfig::default()
        };
        let text = config.validate().unwrap_err().to_string();
        for part in [
            "3 problems",
            "slots is `0`, expected 1 to",
            "queues is `a`, expected each queue once",
            "watchdog is `1s`, expected at least 13s",
        ] {
            assert!(text.contains(part), "`{part}` in {text}");
        }
    }

    #[test]
    fn served_queues_read_back_what_they_write() {
        for text in ["default", "mail=3"] {
            assert_eq!(text.parse::<ServedQueue>().unwrap().to_string(), text);
        }
        for bad in ["", "a.b", "a=0", "a=x", "a=", "=2"] {
            assert!(bad.parse::<ServedQueue>().is_err(), "{bad}");
        }
    }
}
