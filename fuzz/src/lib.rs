//! What must hold for any input: nothing panics, and what is accepted reads back as it was.
//!
//! One function for each target of `cargo fuzz`; `tests/scenarios/fuzzed.rs` includes this file and
//! feeds the same functions with the seeds and with cuts of them, on the stable compiler.

#![allow(
    unreachable_pub,
    reason = "as a module of the scenarios it has no public face"
)]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue};
use bytes::Bytes;
use chrono::TimeDelta;
use repull::id::{JobId, Lane, Namespace, QueueName, ScheduleId, TaskName, WorkerId};
use repull::queue::QueueSettings;
use repull::retry::Backoff;
use repull::schedule::Schedule;
use repull::trigger::Trigger;
use repull::wire::{self, Address, JobEvent, Place};
use repull_worker::config::ServedQueue;
use repull_worker::tasks::TaskFile;

/// Subjects and the names in them.
pub fn subject(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let namespace = Namespace::default();
    for place in Place::ALL {
        if let Ok(address) = Address::parse(&namespace, place, text) {
            assert_eq!(address.subject(&namespace, place), text);
        }
    }
    reads_back::<JobId>(text);
    reads_back::<TaskName>(text);
    reads_back::<QueueName>(text);
    reads_back::<ScheduleId>(text);
    reads_back::<WorkerId>(text);
    reads_back::<Lane>(text);
    reads_back::<Namespace>(text);
    // A name that is accepted must never add a token to a subject, nor be a wildcard.
    if let Ok(id) = text.parse::<JobId>() {
        assert!(!id.as_str().contains(['.', '*', '>', ' ', '\r', '\n']));
    }
    if let Ok(task) = text.parse::<TaskName>() {
        assert!(!task.as_str().contains(['*', '>', ' ', '\r', '\n']));
        assert!(task.as_str().split('.').all(|token| !token.is_empty()));
    }
}

/// A message as a job and as an event: lines `Name: value`, an empty line, the body. And the same bytes
/// as a block of headers that somebody stored.
pub fn headers(data: &[u8]) {
    for block in [data, &[b"NATS/1.0\r\n", data].concat()] {
        let Ok(read) = wire::read_headers(block) else {
            continue;
        };
        for (name, values) in read.iter() {
            let name: &str = name.as_ref();
            assert!(
                name.chars()
                    .all(|char| char.is_ascii_graphic() && char != ':')
            );
            assert!(
                values
                    .iter()
                    .all(|value| !value.as_str().contains(['\r', '\n']))
            );
        }
    }
    let (head, body) = match data.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&data[..at], &data[at + 2..]),
        None => (data, &[][..]),
    };
    let Ok(head) = std::str::from_utf8(head) else {
        return;
    };
    let mut headers = HeaderMap::new();
    for line in head.lines() {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        // What the client library refuses never arrives.
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_str(name),
            HeaderValue::from_str(value.trim()),
        ) {
            headers.append(name, value);
        }
    }
    let (namespace, body) = (Namespace::default(), Bytes::copy_from_slice(body));
    let decode = |headers: &HeaderMap| {
        let subject = "repull.jobs.default.mail.send.1";
        wire::decode(
            &namespace,
            Place::Jobs,
            subject,
            Some(headers),
            body.clone(),
        )
    };
    if let Ok(job) = decode(&headers) {
        let again = decode(&wire::encode_headers(&job)).expect("what we write we read");
        assert_eq!(again, job);
    }
    if let Ok(event) = JobEvent::decode(Some(&headers), body.clone()) {
        let _ = (event.text(), event.value());
        let again = JobEvent::decode(Some(&event.encode_headers()), body.clone());
        assert_eq!(again.expect("what we write we read").kind, event.kind);
    }
}

/// Triggers and schedules in JSON, else a crontab expression.
pub fn trigger(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(schedule) = Schedule::from_json("fuzzed", data) {
        fires_in_order(&schedule.trigger);
        let json = serde_json::to_vec(&schedule).expect("a schedule is JSON");
        let again = Schedule::from_json("fuzzed", &json).expect("what we write we read");
        assert_eq!(again, schedule);
    }
    let trigger = Trigger::parse_json(text).or_else(|_| Trigger::cron(text, "Europe/Berlin"));
    if let Ok(trigger) = trigger {
        fires_in_order(&trigger);
        let json = serde_json::to_string(&trigger).expect("a trigger is JSON");
        let again = Trigger::parse_json(&json).expect("what we write we read");
        assert_eq!(again, trigger);
    }
}

/// Files of tasks, settings of queues, and options.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Err(problems) = TaskFile::parse(text) {
        assert!(!problems.to_string().is_empty());
    }
    if let Ok(settings) = serde_json::from_slice::<QueueSettings>(data) {
        let json = serde_json::to_vec(&settings).expect("settings are JSON");
        let again: QueueSettings = serde_json::from_slice(&json).expect("what we write we read");
        assert_eq!(again, settings);
    }
    reads_back::<ServedQueue>(text);
    if let Ok(backoff) = text.parse::<Backoff>() {
        assert_eq!(backoff.to_string().parse::<Backoff>().ok(), Some(backoff));
        for attempts in [0, 1, 7, u32::MAX] {
            for unit in [0.0, 0.5, 1.0] {
                let _ = backoff.delay(attempts, unit);
            }
        }
    }
}

/// What is accepted reads back from what it writes.
fn reads_back<T>(text: &str)
where
    T: FromStr<Err: Debug> + Display + PartialEq + Debug,
{
    if let Ok(value) = text.parse::<T>() {
        let again: T = value.to_string().parse().expect("what we write we read");
        assert_eq!(again, value);
    }
}

/// The next fires come in order, and each is the same whoever asks for it.
fn fires_in_order(trigger: &Trigger) {
    let mut before = None;
    for fire in trigger.fires(None).take(4) {
        assert!(before.is_none_or(|before| fire > before));
        let just_before = fire - TimeDelta::nanoseconds(1);
        assert_eq!(trigger.next(Some(just_before)), Some(fire));
        before = Some(fire);
    }
    let _ = trigger.to_string();
}
