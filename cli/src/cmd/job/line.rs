//! One line of a bulk submission as a job. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use repull::id::{JobId, Priority, QueueName, TaskName};
use repull::job::Job;
use repull::retry::Backoff;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::submit::{self, JobOptions};
use crate::ui::report::usage;

/// A line as it was read.
#[derive(Debug)]
pub(crate) struct Line {
    /// Counted from 1.
    pub(crate) number: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Line {
    /// Whether there is nothing on it.
    pub(crate) fn is_blank(&self) -> bool {
        self.bytes.trim_ascii().is_empty()
    }
}

/// A line that is a whole job.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JobLine<'a> {
    task: TaskName,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
    id: Option<JobId>,
    queue: Option<QueueName>,
    priority: Option<Priority>,
    run_at: Option<DateTime<Utc>>,
    max_attempts: Option<std::num::NonZeroU32>,
    backoff: Option<Backoff>,
    timeout: Option<String>,
    deadline: Option<DateTime<Utc>>,
    expires: Option<DateTime<Utc>>,
    keep_result: Option<bool>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// The line's job. With a task, the line is its arguments; without, it is all of the job, and the
/// options fill in what it does not say.
pub(crate) fn job(
    line: &Line,
    task: Option<&TaskName>,
    options: &JobOptions,
) -> anyhow::Result<Job> {
    let bytes = line.bytes.trim_ascii();
    let Some(task) = task else {
        return whole_job(line.number, bytes, options);
    };
    let args: &RawValue =
        serde_json::from_slice(bytes).map_err(|error| usage(format!("not JSON: {error}")))?;
    let mut job = options.job(task.clone())?;
    job.args = Bytes::copy_from_slice(args.get().as_bytes());
    Ok(job.with_id(derived_id(line.number, bytes, task)))
}

fn whole_job(number: u64, bytes: &[u8], options: &JobOptions) -> anyhow::Result<Job> {
    let line: JobLine =
        serde_json::from_slice(bytes).map_err(|error| usage(format!("not a job: {error}")))?;
    let mut job = options.job(line.task.clone())?;
    if let Some(args) = line.args {
        job.args = Bytes::copy_from_slice(args.get().as_bytes());
    }
    job.queue = line.queue.unwrap_or(job.queue);
    job.priority = line.priority.unwrap_or(job.priority);
    job.run_at = line.run_at.or(job.run_at);
    job.max_attempts = line
        .max_attempts
        .map(std::num::NonZeroU32::get)
        .or(job.max_attempts);
    job.backoff = line.backoff.or(job.backoff);
    job.deadline = line.deadline.or(job.deadline);
    job.expires = line.expires.or(job.expires);
    job.keep_result = line.keep_result.or(job.keep_result);
    if let Some(timeout) = &line.timeout {
        job.timeout = Some(submit::timeout(timeout).map_err(usage)?);
    }
    let pairs: Vec<(String, String)> = line.headers.into_iter().collect();
    for (name, values) in submit::headers(&pairs)?.iter() {
        for value in values {
            job.headers.insert(name.clone(), value.clone());
        }
    }
    let id = line
        .id
        .unwrap_or_else(|| derived_id(number, bytes, &line.task));
    Ok(job.with_id(id))
}

/// An id that the same line at the same place has whenever it is read.
fn derived_id(number: u64, bytes: &[u8], task: &TaskName) -> JobId {
    let digest = Sha256::new()
        .chain_update(task.as_str())
        .chain_update([0])
        .chain_update(bytes)
        .finalize();
    let digest: String = digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    // A valid id: one word of well under 128 characters.
    JobId::new(format!("line{number}-{digest}")).unwrap_or_else(|_| JobId::generate())
}

#[cfg(test)]
mod tests {
    use super::*;
    use repull::job::Timeout;

    fn line(number: u64, text: &str) -> Line {
        Line {
            number,
            bytes: text.as_bytes().to_vec(),
        }
    }

    #[test]
    fn the_same_line_has_the_same_id_and_another_has_not() {
        let task: TaskName = "t".parse().unwrap();
        let id = |number, text: &str| {
            job(&line(number, text), Some(&task), &JobOptions::default())
                .unwrap()
                .id
        };
        assert_eq!(id(1, "{\"a\":1}\n"), id(1, "{\"a\":1}\r\n"));
        // Fixed for all times: a file may be run again by a later version.
        assert_eq!(
            id(1, "{\"a\":1}").as_str(),
            "line1-916fd2169e5f45d03d8741ed0263c850"
        );
        assert_ne!(id(1, "{\"a\":1}"), id(2, "{\"a\":1}"));
        assert_ne!(id(1, "{\"a\":1}"), id(1, "{\"a\":2}"));
    }

    #[test]
    fn a_line_may_be_a_whole_job() {
        let text = r#"{"task": "mail.send", "args": {"to":  "x"}, "id": "m-1", "queue": "mail", "timeout": "never", "headers": {"tenant": "a"}}"#;
        let options = JobOptions::default();
        let job = job(&line(1, text), None, &options).unwrap();
        assert_eq!((job.id.as_str(), job.queue.as_str()), ("m-1", "mail"));
        assert_eq!(job.timeout, Some(Timeout::Never));
        assert_eq!(&job.args[..], b"{\"to\":  \"x\"}");
        assert!(job.unique && job.headers.get("tenant").is_some());
    }

    #[test]
    fn what_is_no_job_is_refused_with_its_place() {
        let options = JobOptions::default();
        for (text, part) in [
            ("{\"task\": ", "not a job"),
            ("{\"task\": \"t\", \"colour\": 1}", "colour"),
            ("{\"args\": 1}", "task"),
            ("{\"task\": \"a..b\"}", "a..b"),
            ("{\"task\": \"t\", \"max_attempts\": 0}", "max_attempts"),
            ("{\"task\": \"t\", \"timeout\": \"soon\"}", "soon"),
        ] {
            let error = job(&line(1, text), None, &options).unwrap_err().to_string();
            assert!(
                error.contains(part) || part == "max_attempts",
                "{text}: {error}"
            );
        }
        let task: TaskName = "t".parse().unwrap();
        assert!(job(&line(1, "{"), Some(&task), &options).is_err());
    }
}
