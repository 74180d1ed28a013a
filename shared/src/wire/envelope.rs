//! A job as headers and back.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};

use super::headers::{
    ATTEMPT, BACKOFF, CONTENT_TYPE, DEADLINE, ENQUEUED_AT, ERRORS, EXPIRES, FIRE, MAX_ATTEMPTS,
    NONCE, PREFIX, RESULT, RUN_AT, SCHEDULE, SERVER_PREFIX, TIMEOUT,
};
use super::subject::{Address, InvalidSubject, Place};
use crate::id::Namespace;
use crate::job::{Job, Timeout};

/// A message that can't be read as a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Its subject names no job.
    #[error(transparent)]
    Subject(#[from] InvalidSubject),
    /// A header's value is not of the expected form.
    #[error("header `{header}` is `{value}`, expected {expected}")]
    Header {
        /// The header.
        header: &'static str,
        /// Its value, cut to 200 characters.
        value: String,
        /// The form that is accepted.
        expected: &'static str,
    },
}

/// A time as the wire carries it: RFC 3339 in UTC.
pub fn write_time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// The headers that say all of `job` but its address and its arguments.
pub fn encode_headers(job: &Job) -> HeaderMap {
    let mut headers = job.headers.clone();
    let mut put = |name: &'static str, value: String| {
        headers.insert(HeaderName::from_static(name), value);
    };
    if job.attempts_used > 0 {
        put(ATTEMPT, job.attempts_used.to_string());
    }
    if let Some(max_attempts) = job.max_attempts {
        put(MAX_ATTEMPTS, max_attempts.to_string());
    }
    if let Some(backoff) = job.backoff {
        put(BACKOFF, backoff.to_string());
    }
    match job.timeout {
        Some(Timeout::After(timeout)) => {
            put(TIMEOUT, humantime::format_duration(timeout).to_string());
        }
        Some(Timeout::Never) => put(TIMEOUT, "never".to_owned()),
        None => {}
    }
    let times = [
        (DEADLINE, job.deadline),
        (EXPIRES, job.expires),
        (RUN_AT, job.run_at),
        (ENQUEUED_AT, job.enqueued_at),
        (FIRE, job.fire),
    ];
    for (name, time) in times {
        if let Some(time) = time {
            put(name, write_time(time));
        }
    }
    if let Some(schedule) = &job.schedule {
        put(SCHEDULE, schedule.to_string());
    }
    if let Some(keep) = job.keep_result {
        put(RESULT, if keep { "on" } else { "off" }.to_owned());
    }
    if let Some(nonce) = &job.nonce {
        put(NONCE, nonce.clone());
    }
    if let Some(content_type) = &job.content_type {
        put(CONTENT_TYPE, content_type.clone());
    }
    if !job.errors.is_empty() {
        put(
            ERRORS,
            serde_json::to_string(&job.errors).unwrap_or_default(),
        );
    }
    headers
}

/// Reads a message as a job. Everything but the subject has a default.
pub fn decode(
    namespace: &Namespace,
    place: Place,
    subject: &str,
    headers: Option<&HeaderMap>,
    body: Bytes,
) -> Result<Job, DecodeError> {
    decode_at(Address::parse(namespace, place, subject)?, headers, body)
}

/// Reads a message as the job of an address: for who has read its subject already.
pub fn decode_at(
    address: Address,
    headers: Option<&HeaderMap>,
    body: Bytes,
) -> Result<Job, DecodeError> {
    let mut job = Job {
        id: address.id,
        queue: address.lane.queue,
        priority: address.lane.priority,
        args: body,
        ..Job::bare(address.task)
    };
    for (name, values) in headers.into_iter().flat_map(HeaderMap::iter) {
        let name: &str = name.as_ref();
        let Some(value) = values.last() else { continue };
        if name.starts_with(SERVER_PREFIX) {
            continue;
        }
        if name.starts_with(PREFIX) || name == CONTENT_TYPE {
            read_header(&mut job, name, value.as_str())?;
        } else {
            for value in values {
                job.headers.append(name, value.clone());
            }
        }
    }
    Ok(job)
}

fn read_header(job: &mut Job, name: &str, value: &str) -> Result<(), DecodeError> {
    match name {
        ATTEMPT => job.attempts_used = read(ATTEMPT, value, "a whole number")?,
        MAX_ATTEMPTS => {
            let attempts: std::num::NonZeroU32 =
                read(MAX_ATTEMPTS, value, "a whole number of at least 1")?;
            job.max_attempts = Some(attempts.get());
        }
        BACKOFF => {
            job.backoff = Some(read(
                BACKOFF,
                value,
                "`<first>,<factor>,<cap>` such as `1s,2,6h`",
            )?);
        }
        TIMEOUT => job.timeout = Some(read_timeout(value)?),
        DEADLINE => job.deadline = Some(read_time(DEADLINE, value)?),
        EXPIRES => job.expires = Some(read_time(EXPIRES, value)?),
        RUN_AT => job.run_at = Some(read_time(RUN_AT, value)?),
        ENQUEUED_AT => job.enqueued_at = Some(read_time(ENQUEUED_AT, value)?),
        FIRE => job.fire = Some(read_time(FIRE, value)?),
        SCHEDULE => job.schedule = Some(read(SCHEDULE, value, "a schedule id")?),
        RESULT => {
            job.keep_result = Some(match value {
                "on" => true,
                "off" => false,
                _ => return Err(refused(RESULT, value, "`on` or `off`")),
            });
        }
        NONCE => job.nonce = Some(value.to_owned()),
        CONTENT_TYPE => job.content_type = Some(value.to_owned()),
        ERRORS => {
            job.errors = serde_json::from_str(value).map_err(|_| {
                refused(
                    ERRORS,
                    value,
                    "a JSON array of {attempt, at, worker, error}",
                )
            })?;
        }
        // A newer version's header: nothing to us.
        _ => {}
    }
    Ok(())
}

fn read<T: FromStr>(
    header: &'static str,
    value: &str,
    expected: &'static str,
) -> Result<T, DecodeError> {
    value
        .trim()
        .parse()
        .map_err(|_| refused(header, value, expected))
}

pub(crate) fn read_time(header: &'static str, value: &str) -> Result<DateTime<Utc>, DecodeError> {
    DateTime::parse_from_rfc3339(value.trim())
        .map(|time| time.to_utc())
        .map_err(|_| {
            refused(
                header,
                value,
                "a time such as `2026-11-23T10:00:00Z` (RFC 3339)",
            )
        })
}

fn read_timeout(value: &str) -> Result<Timeout, DecodeError> {
    let expected = "a duration such as `90s` or `never`";
    if value == "never" {
        return Ok(Timeout::Never);
    }
    match humantime::parse_duration(value.trim()) {
        Ok(timeout) if timeout > Duration::ZERO => Ok(Timeout::After(timeout)),
        _ => Err(refused(TIMEOUT, value, expected)),
    }
}

pub(crate) fn refused(
    header: &'static str,
    value: impl Display,
    expected: &'static str,
) -> DecodeError {
    DecodeError::Header {
        header,
        value: value.to_string().chars().take(200).collect(),
        expected,
    }
}

/// The last value of `name`, where the message has it.
pub(crate) fn header<'h>(headers: Option<&'h HeaderMap>, name: &str) -> Option<&'h str> {
    headers
        .and_then(|headers| headers.get_last(name))
        .map(HeaderValue::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Priority, TaskName};
    use crate::job::AttemptError;
    use crate::retry::Backoff;
    use proptest::prelude::*;

    fn read_back(job: &Job) -> Job {
        let namespace = Namespace::default();
        let address = Address {
            lane: job.lane(),
            task: job.task.clone(),
            id: job.id.clone(),
        };
        let subject = address.subject(&namespace, Place::Jobs);
        decode(
            &namespace,
            Place::Jobs,
            &subject,
            Some(&encode_headers(job)),
            job.args.clone(),
        )
        .unwrap()
    }

    #[test]
    fn a_bare_publish_is_a_job() {
        let job = decode(
            &Namespace::default(),
            Place::Jobs,
            "repull.jobs.default.echo.hello-1",
            None,
            "{}".into(),
        )
        .unwrap();
        assert_eq!(
            (job.task.as_str(), job.id.as_str(), job.attempts_used),
            ("echo", "hello-1", 0)
        );
    }

    #[test]
    fn a_full_job_reads_back() {
        let time: DateTime<Utc> = "2026-11-23T10:00:00.123456Z".parse().unwrap();
        let mut job = Job::json("mail.send", &serde_json::json!({"to": "x"})).unwrap();
        job.priority = Priority::High;
        job.attempts_used = 3;
        job.max_attempts = Some(7);
        job.backoff = Some(Backoff::default());
        job.timeout = Some(Timeout::After(Duration::from_millis(90_500)));
        (job.deadline, job.expires, job.run_at) = (Some(time), Some(time), Some(time));
        (job.enqueued_at, job.fire) = (Some(time), Some(time));
        job.schedule = Some("nightly".parse().unwrap());
        job.keep_result = Some(false);
        job.nonce = Some("n".into());
        job.content_type = Some("text/plain".into());
        job.headers.insert("traceparent", "00-1-2-01");
        job.push_error(AttemptError {
            attempt: 1,
            at: time,
            worker: "w".into(),
            error: "line\nbreak \"q\" ä".into(),
        });
        assert_eq!(read_back(&job), job);
    }

    #[test]
    fn an_unknown_header_of_ours_is_passed_over_and_of_theirs_handed_on() {
        let mut headers = HeaderMap::new();
        headers.insert(format!("{PREFIX}From-The-Future").as_str(), "1");
        headers.insert("Nats-Msg-Id", "1");
        headers.insert("tenant", "a");
        let job = decode(
            &Namespace::default(),
            Place::Jobs,
            "repull.jobs.q.t.1",
            Some(&headers),
            Bytes::new(),
        )
        .unwrap();
        assert_eq!(job.headers.len(), 1);
        assert!(job.headers.get("tenant").is_some());
    }

    #[test]
    fn a_bad_header_names_itself_its_value_and_what_was_expected() {
        for (name, value) in [
            (ATTEMPT, "x"),
            (MAX_ATTEMPTS, "0"),
            (TIMEOUT, "0s"),
            (RUN_AT, "tomorrow"),
            (RESULT, "maybe"),
            (BACKOFF, "1"),
            (ERRORS, "{"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value);
            let error = decode(
                &Namespace::default(),
                Place::Jobs,
                "repull.jobs.q.t.1",
                Some(&headers),
                Bytes::new(),
            )
            .unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains(name) && text.contains(value) && text.contains("expected"),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_header_value_makes_reading_panic(name in "Repull-(Attempt|Errors|Timeout|Backoff|Fire|Result)", value in "[ -~]{0,60}") {
            let mut headers = HeaderMap::new();
            headers.insert(name.as_str(), value.as_str());
            let _ = decode(&Namespace::default(), Place::Jobs, "repull.jobs.q.t.1", Some(&headers), Bytes::new());
        }

        #[test]
        fn no_subject_makes_reading_panic(subject in "[a-z.~>*]{0,40}") {
            let _ = decode(&Namespace::default(), Place::Jobs, &subject, None, Bytes::new());
        }
    }

    #[test]
    fn a_bare_job_needs_no_headers() {
        assert!(encode_headers(&Job::bare(TaskName::new("t").unwrap())).is_empty());
    }
}
