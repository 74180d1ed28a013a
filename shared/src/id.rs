//! Names of things: jobs, queues, tasks, schedules, workers and the installation's namespace.
//!
//! Each is a newtype that can only hold a valid name, so a name that came in from the wire or from
//! a command line is checked once, where it enters, and is safe to put into a NATS subject after.
//! Cloning is a reference count.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest queue, job or task name in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// The longest schedule id in bytes: a fire's job id is the schedule's id, a dash and the fire's
/// unix milliseconds, and must itself be a job id.
pub const SCHEDULE_ID_BYTES_MAX: usize = 100;

/// The most dot-separated words in a task name. A job is found by its id alone by trying each depth.
pub const TASK_WORDS_MAX: usize = 8;

/// A name that was refused, and what would have been accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{value}` is not valid, expected {expected}")]
pub struct InvalidName {
    /// What the name was for, such as `queue` or `job id`.
    pub what: &'static str,
    /// The value that was refused.
    pub value: String,
    /// The form that is accepted.
    pub expected: &'static str,
}

const ONE_WORD: &str = "1 to 128 characters of A-Z a-z 0-9 _ -";
const ONE_SHORT_WORD: &str = "1 to 100 characters of A-Z a-z 0-9 _ -";
const DOTTED: &str =
    "1 to 8 words of A-Z a-z 0-9 _ - joined by single dots, 128 characters at most";

fn is_word(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| IN_WORD[usize::from(*byte)])
}

/// The bytes that a word may hold. A table, because every id on the wire is checked by it.
const IN_WORD: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte as u8, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        byte += 1;
    }
    table
};

fn is_one_word(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX && is_word(text.as_bytes())
}

fn is_short_word(text: &str) -> bool {
    text.len() <= SCHEDULE_ID_BYTES_MAX && is_word(text.as_bytes())
}

fn is_dotted(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX
        && text.bytes().filter(|byte| *byte == b'.').count() < TASK_WORDS_MAX
        && text.as_bytes().split(|byte| *byte == b'.').all(is_word)
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:ident, $expected:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `value` and makes a name of it.
            pub fn new(value: impl AsRef<str>) -> Result<Self, InvalidName> {
                let value = value.as_ref();
                if $check(value) {
                    Ok(Self(value.into()))
                } else {
                    let value = value.chars().take(NAME_BYTES_MAX + 1).collect();
                    Err(InvalidName { what: $what, value, expected: $expected })
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(value: &str) -> Result<Self, InvalidName> {
                Self::new(value)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(value).map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// The id of a job: one word, unique among the jobs that are queued, running or later.
    JobId, "job id", is_one_word, ONE_WORD
);
name!(
    /// The name of a queue: one word.
    QueueName, "queue", is_one_word, ONE_WORD
);
name!(
    /// The name of a task, such as `mail.send`: words joined by dots.
    TaskName, "task", is_dotted, DOTTED
);
name!(
    /// The id of a schedule: one word, short enough that each of its fires has a valid job id.
    ScheduleId, "schedule id", is_short_word, ONE_SHORT_WORD
);
name!(
    /// The id of a running worker or scheduler process.
    WorkerId, "worker id", is_one_word, ONE_WORD
);

impl JobId {
    /// An id that stands for none, to be replaced before anybody sees it. Costs no allocation.
    pub(crate) fn placeholder() -> Self {
        static PLACEHOLDER: std::sync::LazyLock<Arc<str>> = std::sync::LazyLock::new(|| "-".into());
        Self(PLACEHOLDER.clone())
    }

    /// A new id that sorts by the time it was made (UUID version 7).
    pub fn generate() -> Self {
        let mut buffer = uuid::Uuid::encode_buffer();
        let text: &str = uuid::Uuid::now_v7()
            .as_hyphenated()
            .encode_lower(&mut buffer);
        Self(text.into())
    }
}

impl Default for QueueName {
    fn default() -> Self {
        static DEFAULT: std::sync::LazyLock<Arc<str>> =
            std::sync::LazyLock::new(|| "default".into());
        Self(DEFAULT.clone())
    }
}

impl WorkerId {
    /// An id made of the host's name and a random part, new for each process.
    pub fn generate() -> Self {
        let host: String = std::env::var("HOSTNAME")
            .ok()
            .or_else(|| std::fs::read_to_string("/etc/hostname").ok())
            .unwrap_or_default()
            .trim()
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '-' {
                    c
                } else {
                    '-'
                }
            })
            .take(80)
            .collect();
        let random = uuid::Uuid::now_v7().simple().to_string();
        let host = if host.is_empty() { "worker" } else { &host };
        Self(format!("{host}-{}", &random[random.len() - 8..]).into())
    }
}

/// The word that all names of one installation start with, so that several share one account.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Namespace(Arc<str>);

impl Namespace {
    /// Checks `value` and makes a namespace of it.
    pub fn new(value: impl AsRef<str>) -> Result<Self, InvalidName> {
        let value = value.as_ref();
        let valid = (1..=32).contains(&value.len())
            && value
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
        if valid {
            Ok(Self(value.into()))
        } else {
            Err(InvalidName {
                what: "namespace",
                value: value.chars().take(64).collect(),
                expected: "1 to 32 characters of a-z 0-9 _ -",
            })
        }
    }

    /// The namespace as text: the first token of every subject.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of a stream or bucket of this installation: `REPULL_JOBS` for `JOBS`.
    pub fn asset(&self, name: &str) -> String {
        format!("{}_{name}", self.0.to_ascii_uppercase())
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self("repull".into())
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl FromStr for Namespace {
    type Err = InvalidName;

    fn from_str(value: &str) -> Result<Self, InvalidName> {
        Self::new(value)
    }
}

/// Where a job stands among the jobs of its queue.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before all others of the queue.
    High,
    /// The lane of a plain subject.
    #[default]
    Normal,
    /// When nothing else of the queue waits.
    Low,
}

impl Priority {
    /// All of them, first served first.
    pub const ALL: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];
}

impl FromStr for Priority {
    type Err = InvalidName;

    fn from_str(value: &str) -> Result<Self, InvalidName> {
        match value {
            "high" => Ok(Self::High),
            "normal" => Ok(Self::Normal),
            "low" => Ok(Self::Low),
            _ => Err(InvalidName {
                what: "priority",
                value: value.chars().take(32).collect(),
                expected: "`high`, `normal` or `low`",
            }),
        }
    }
}

/// One lane of a queue: what a consumer is for. Its text is the subject's queue token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// The queue.
    pub queue: QueueName,
    /// The lane's priority; the normal lane is written as the queue's name alone.
    pub priority: Priority,
}

impl Lane {
    /// The normal lane of `queue`.
    pub fn normal(queue: QueueName) -> Self {
        Self {
            queue,
            priority: Priority::Normal,
        }
    }

    /// What its text has after the queue's name.
    pub(crate) fn suffix(&self) -> &'static str {
        match self.priority {
            Priority::High => "~high",
            Priority::Normal => "",
            Priority::Low => "~low",
        }
    }
}

/// The most bytes that a lane's text has after the queue's name.
pub(crate) const LANE_SUFFIX_BYTES_MAX: usize = "~high".len();

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.queue.as_str())?;
        f.write_str(self.suffix())
    }
}

impl FromStr for Lane {
    type Err = InvalidName;

    fn from_str(token: &str) -> Result<Self, InvalidName> {
        let (queue, priority) = match token.split_once('~') {
            None => (token, Priority::Normal),
            Some((queue, "high")) => (queue, Priority::High),
            Some((queue, "low")) => (queue, Priority::Low),
            Some((_, other)) => {
                return Err(other.parse::<Priority>().err().unwrap_or(InvalidName {
                    what: "lane",
                    value: token.chars().take(NAME_BYTES_MAX).collect(),
                    expected: "`<queue>~high`, `<queue>` or `<queue>~low`",
                }));
            }
        };
        Ok(Self {
            queue: QueueName::new(queue)?,
            priority,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_would_break_a_subject() {
        for bad in ["", "a.b", "a b", "a*", ">", "ä", "a/b", "a~b"] {
            assert!(QueueName::new(bad).is_err(), "{bad}");
            assert!(JobId::new(bad).is_err(), "{bad}");
        }
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a.*",
            "a b",
            "1.2.3.4.5.6.7.8.9",
        ] {
            assert!(TaskName::new(bad).is_err(), "{bad}");
        }
        assert!(TaskName::new("mail.send").is_ok());
        assert!(JobId::new("x".repeat(128)).is_ok());
        assert!(JobId::new("x".repeat(129)).is_err());
        assert!(ScheduleId::new("x".repeat(101)).is_err());
    }

    #[test]
    fn lanes_read_back_what_they_write() {
        for text in ["default", "default~high", "default~low"] {
            assert_eq!(text.parse::<Lane>().unwrap().to_string(), text);
        }
        for bad in ["default~", "default~normal", "default~urgent", "~high"] {
            assert!(bad.parse::<Lane>().is_err(), "{bad}");
        }
    }

    #[test]
    fn generated_ids_sort_by_time() {
        let ids: Vec<JobId> = (0..100).map(|_| JobId::generate()).collect();
        assert!(ids.is_sorted());
    }

    #[test]
    fn a_refused_name_says_what_was_expected() {
        let error = QueueName::new("a.b").unwrap_err().to_string();
        assert_eq!(
            error,
            format!("queue `a.b` is not valid, expected {ONE_WORD}")
        );
    }
}
