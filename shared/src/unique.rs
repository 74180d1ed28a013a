//! What makes two jobs the same: a key, a period, and what a submit does that finds one there.
//!
//! A key becomes the job's id, so that the broker itself refuses a second one. Pure: the time is an
//! argument.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::id::{InvalidName, JobId};
use crate::job::{InvalidJob, Job};

/// The shortest period: the ids of periods differ by their first second.
pub const PERIOD_MIN: Duration = Duration::from_secs(1);

/// What a submit does that finds a job of its id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// Leaves it alone and answers with it.
    #[default]
    Keep,
    /// Takes its place where it waits; one that runs or has ended is left alone.
    Replace,
    /// Fails.
    Refuse,
}

impl fmt::Display for OnConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Keep => "keep",
            Self::Replace => "replace",
            Self::Refuse => "refuse",
        })
    }
}

impl FromStr for OnConflict {
    type Err = InvalidOnConflict;

    fn from_str(text: &str) -> Result<Self, InvalidOnConflict> {
        [Self::Keep, Self::Replace, Self::Refuse]
            .into_iter()
            .find(|each| each.to_string() == text)
            .ok_or_else(|| InvalidOnConflict {
                value: text.chars().take(100).collect(),
            })
    }
}

/// A word that is no [`OnConflict`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` says nothing of a conflict, expected keep, replace or refuse")]
pub struct InvalidOnConflict {
    /// The word.
    pub value: String,
}

/// What makes jobs of one task and queue the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// A text of the caller's.
    Text(String),
    /// These fields of the arguments, such as `customer.id`, in whatever order.
    Fields(Vec<String>),
    /// The arguments as a whole: of JSON the value, whatever its layout.
    Arguments,
}

impl Key {
    /// A key of fields of the arguments.
    pub fn fields<T: Into<String>>(fields: impl IntoIterator<Item = T>) -> Self {
        Self::Fields(fields.into_iter().map(Into::into).collect())
    }

    /// The id that all jobs of this key have: `u-` and 32 hexadecimal digits.
    fn id(&self, job: &Job) -> Result<JobId, InvalidJob> {
        let invalid = |reason: String| InvalidJob::Key {
            task: job.task.clone(),
            reason,
        };
        let hash = Sha256::new().chain_update(job.task.as_str());
        let hash = match self {
            Self::Text(text) if text.is_empty() => {
                return Err(invalid("it is empty, expected a text".to_owned()));
            }
            Self::Text(text) => hash.chain_update([0]).chain_update(text),
            Self::Fields(fields) => {
                let args = serde_json::from_slice(&job.args)
                    .map_err(|error| invalid(format!("the arguments are not JSON: {error}")))?;
                let mut fields: Vec<&str> = fields.iter().map(String::as_str).collect();
                fields.sort_unstable();
                fields.dedup();
                if fields.is_empty() {
                    return Err(invalid("it has no field, expected at least one".to_owned()));
                }
                let mut hash = hash.chain_update([1]);
                for field in fields {
                    let value = find(&args, field)
                        .ok_or_else(|| invalid(format!("the arguments have no field `{field}`")))?;
                    hash = hash.chain_update(field).chain_update([0]);
                    hash = hash.chain_update(canonical(value)).chain_update([0]);
                }
                hash
            }
            Self::Arguments => match serde_json::from_slice(&job.args) {
                Ok(args) => hash.chain_update([2]).chain_update(canonical(&args)),
                Err(_) => hash.chain_update([3]).chain_update(&job.args),
            },
        };
        let digest: String = hash.finalize()[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(JobId::new(format!("u-{digest}"))?)
    }
}

impl Job {
    /// The same job under an id that follows from `key`, its task and its arguments: while one of
    /// that id is queued, running or later, there is no second one.
    ///
    /// ```
    /// use repull::job::Job;
    /// use repull::unique::Key;
    /// use serde_json::json;
    ///
    /// let invoice = |args| Job::json("invoice.send", &args)?.unique_by(&Key::fields(["customer"]));
    /// let first = invoice(json!({"customer": 7, "try": 1}))?;
    /// assert_eq!(first.id, invoice(json!({"try": 2, "customer": 7}))?.id);
    /// assert_ne!(first.id, invoice(json!({"customer": 8}))?.id);
    /// assert!(invoice(json!({})).is_err(), "a key that is not there is no key");
    /// # Ok::<(), repull::job::InvalidJob>(())
    /// ```
    pub fn unique_by(self, key: &Key) -> Result<Self, InvalidJob> {
        let id = key.id(&self)?;
        Ok(self.with_id(id))
    }

    /// Makes the job's id unique over a period, also when the job has ended: periods follow each
    /// other from 1970-01-01 on (UTC), and each has one job. The id is given the first second of the
    /// period in which the job is enqueued.
    pub fn unique_for(mut self, period: Duration) -> Result<Self, InvalidJob> {
        if period < PERIOD_MIN || period.subsec_nanos() != 0 {
            return Err(InvalidJob::Key {
                task: self.task,
                reason: format!(
                    "its period is {}, expected whole seconds, at least one",
                    humantime::format_duration(period)
                ),
            });
        }
        // Any period's id has the same length for some centuries.
        in_period(
            &self.id,
            period,
            DateTime::UNIX_EPOCH + Duration::from_secs(9_999_999_999),
        )?;
        (self.unique, self.period) = (true, Some(period));
        Ok(self)
    }

    /// What becomes of a submit that finds a job of the same id; to keep that one unless said.
    #[must_use]
    pub fn on_conflict(mut self, on_conflict: OnConflict) -> Self {
        self.on_conflict = on_conflict;
        self
    }
}

/// The id of the one job of `id` in the period that `now` is in.
pub(crate) fn in_period(
    id: &JobId,
    period: Duration,
    now: DateTime<Utc>,
) -> Result<JobId, InvalidName> {
    let seconds = i64::try_from(period.as_secs()).unwrap_or(i64::MAX).max(1);
    let start = now.timestamp().div_euclid(seconds).saturating_mul(seconds);
    JobId::new(format!("{id}-{start}"))
}

/// A field by its path: names and indexes joined by dots, or a JSON pointer.
fn find<'v>(args: &'v Value, field: &str) -> Option<&'v Value> {
    if field.starts_with('/') {
        return args.pointer(field);
    }
    field.split('.').try_fold(args, |value, word| match value {
        Value::Object(fields) => fields.get(word),
        Value::Array(items) => items.get(word.parse::<usize>().ok()?),
        _ => None,
    })
}

/// A value as text in which the order of an object's fields says nothing.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            let fields: Vec<String> = fields
                .into_iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn id(task: &str, args: &Value, key: &Key) -> Result<String, InvalidJob> {
        let job = Job::json(task, args)?.unique_by(key)?;
        Ok(job.id.to_string())
    }

    #[test]
    fn the_id_follows_from_the_task_and_the_key_alone() {
        let args = json!({"a": {"b": [1, {"x": 1, "y": 2}]}, "c": "x", "d": 1});
        let same = json!({"d": 2, "c": "x", "a": {"b": [1, {"y": 2, "x": 1}]}});
        let key = Key::fields(["c", "a.b.1"]);
        let first = id("t", &args, &key).unwrap();
        assert_eq!(
            first,
            id("t", &same, &Key::fields(["a.b.1", "c", "c"])).unwrap()
        );
        assert_ne!(first, id("u", &args, &key).unwrap(), "another task");
        assert_ne!(first, id("t", &args, &Key::fields(["c"])).unwrap());
        let number = json!({"c": 1, "d": 1});
        let text = json!({"c": "1", "d": 1});
        let key = Key::fields(["c"]);
        assert_ne!(
            id("t", &number, &key).unwrap(),
            id("t", &text, &key).unwrap()
        );
        // Fixed for all times: producers of different versions must agree.
        assert_eq!(
            id("t", &number, &key).unwrap(),
            "u-83a780a43133134868c3a4a576fa7785"
        );
        assert_eq!(
            id("t", &number, &Key::Text("7".into())).unwrap(),
            "u-d813f2bf3e2819eb9d4c76732224d5b0"
        );
        assert_eq!(
            id("t", &number, &Key::Arguments).unwrap(),
            "u-c07ae5405b595b5b0e4b28d7a9dbcbad"
        );
    }

    #[test]
    fn a_field_is_found_by_names_and_indexes_or_by_a_pointer() {
        let args = json!({"a": [{"b.c": null}]});
        assert_eq!(find(&args, "/a/0/b.c"), Some(&Value::Null));
        assert_eq!(find(&args, "a.0"), Some(&json!({"b.c": null})));
        assert_eq!(find(&args, "a.x"), None);
        assert_eq!(find(&args, "a.0.b.c"), None);
    }

    #[test]
    fn a_key_that_is_none_is_refused_with_the_reason() {
        let args = json!({"a": 1});
        for (key, part) in [
            (Key::fields(["b"]), "no field `b`"),
            (Key::fields([] as [&str; 0]), "no field"),
            (Key::Text(String::new()), "empty"),
        ] {
            let error = id("t", &args, &key).unwrap_err().to_string();
            assert!(
                error.contains(part) && error.contains("task `t`"),
                "{error}"
            );
        }
        let mut bytes = Job::json("t", &args).unwrap();
        bytes.args = "no JSON".into();
        assert!(bytes.clone().unique_by(&Key::fields(["a"])).is_err());
        assert!(bytes.unique_by(&Key::Arguments).is_ok());
    }

    #[test]
    fn a_period_has_one_id_and_the_next_one_another() {
        let id = JobId::new("x").unwrap();
        let at = |text: &str| {
            let now = text.parse().unwrap();
            in_period(&id, Duration::from_secs(600), now)
                .unwrap()
                .to_string()
        };
        assert_eq!(at("2026-11-23T10:00:00Z"), "x-1795428000");
        assert_eq!(at("2026-11-23T10:09:59.9Z"), "x-1795428000");
        assert_eq!(at("2026-11-23T10:10:00Z"), "x-1795428600");
        assert_eq!(at("1969-12-31T23:59:59Z"), "x--600");
    }

    #[test]
    fn a_period_that_can_not_be_is_refused() {
        let job = || Job::json("t", &json!(1)).unwrap();
        let long = job().with_id(JobId::new("x".repeat(120)).unwrap());
        assert!(long.unique_for(Duration::from_secs(60)).is_err());
        for period in [Duration::ZERO, Duration::from_millis(1500)] {
            let error = job().unique_for(period).unwrap_err().to_string();
            assert!(error.contains("whole seconds"), "{error}");
        }
    }

    #[test]
    fn words_of_a_conflict_read_back() {
        for word in ["keep", "replace", "refuse"] {
            assert_eq!(word.parse::<OnConflict>().unwrap().to_string(), word);
        }
        let error = "drop".parse::<OnConflict>().unwrap_err().to_string();
        assert!(
            error.contains("drop") && error.contains("expected"),
            "{error}"
        );
    }
}
