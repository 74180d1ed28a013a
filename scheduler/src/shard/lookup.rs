//! Questions to the streams' leaders that settle what a publish left open.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::message::StreamMessage;
use chrono::{DateTime, TimeDelta, Utc};
use repull::client::{Client, Error};
use repull::job::AttemptError;
use repull::schedule::{Overlap, fire_id};
use repull::wire::{Address, JobEvent, Place, headers};
use serde::Deserialize;
use serde_json::json;
use tracing::debug;

use crate::due::Fire;
use crate::due::overlap::Found;

/// How often a lookup at a change of leader is tried.
const TRIES_MAX: u32 = 10;

/// The pause between the tries.
const PAUSE: Duration = Duration::from_millis(500);

/// How long a worker's publish takes at most in health, with what clocks differ.
const PROMPT: TimeDelta = TimeDelta::milliseconds(100);

/// The address of a fire's job.
pub(crate) fn address(fire: &Fire) -> Address {
    let job = &fire.kind.job;
    Address {
        lane: repull::id::Lane {
            queue: job.queue.clone(),
            priority: job.priority,
        },
        task: job.task.clone(),
        id: fire.job_id(),
    }
}

/// What is on the subject that refused the fire, and the fire or enqueue that it belongs to.
pub(crate) async fn in_the_way(
    client: &Client,
    place: Place,
    subject: &str,
    fire: &Fire,
) -> Result<(Found, String), Error> {
    let message = client.last_on_subject(place, subject).await?;
    Ok(match message {
        None => (Found::Nothing, String::new()),
        Some(message) => match header(&message.headers, headers::NONCE) {
            Some(nonce) if nonce == fire.id() => (Found::Same, String::new()),
            nonce => (Found::Other, nonce.unwrap_or_default().to_owned()),
        },
    })
}

/// Whether a fire's previous run waits for a retry. Asked before publishing: the work queue itself
/// refuses only while the run is queued or running.
pub(crate) async fn waits_for_retry(client: &Client, fire: &Fire) -> Result<Option<String>, Error> {
    let subject = address(fire).subject(client.namespace(), Place::Later);
    let message = client.last_on_subject(Place::Later, &subject).await?;
    Ok(message.map(|message| {
        header(&message.headers, headers::NONCE)
            .unwrap_or_default()
            .to_owned()
    }))
}

/// Whether a fire was published before, as far as the streams still know.
///
/// The stream of jobs itself remembers a message id for two minutes, and after a restart only those
/// of messages that it still holds. This finds a job that was published, ran and is gone: by its
/// outcome, or because it waits for a retry.
pub(crate) async fn was_published(client: &Client, fire: &Fire) -> Result<bool, Error> {
    let address = address(fire);
    let is_its = |nonce: Option<&str>| match fire.kind.overlap {
        Overlap::Allow => nonce == Some(fire.id().as_str()),
        // Runs of one id come one after the other: a later fire's says that this one is through.
        _ => nonce
            .and_then(|nonce| fire_time(nonce, fire))
            .is_some_and(|time| time >= fire.at),
    };
    let later = address.subject(client.namespace(), Place::Later);
    if let Some(message) = client.last_on_subject(Place::Later, &later).await?
        && is_its(header(&message.headers, headers::NONCE))
    {
        return Ok(true);
    }
    let results = address.subject(client.namespace(), Place::Results);
    let Some(message) = client.last_on_subject(Place::Results, &results).await? else {
        return Ok(false);
    };
    let event = JobEvent::decode(Some(&message.headers), message.payload).ok();
    Ok(event.is_some_and(|event| is_its(event.nonce.as_deref())))
}

/// The same, asked until there is an answer. Without one in the end the fire counts as not published
/// and is published again, under the same id.
pub(crate) async fn was_published_surely(client: &Client, fire: &Fire) -> bool {
    for _ in 0..TRIES_MAX {
        match was_published(client, fire).await {
            Ok(was) => return was,
            Err(error) => {
                debug!(schedule = %fire.schedule, fire = %fire.at, %error, "can't look for a fire's job yet");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    false
}

/// The fire's time in a nonce that one of the schedule's fires carries.
fn fire_time(nonce: &str, fire: &Fire) -> Option<DateTime<Utc>> {
    let millis = nonce
        .strip_prefix(fire.schedule.as_str())?
        .strip_prefix('-')?;
    let time = DateTime::from_timestamp_millis(millis.parse().ok()?)?;
    // Ids have milliseconds, fires may be finer.
    if fire_id(&fire.schedule, time) == fire.id() {
        return Some(fire.at);
    }
    Some(time)
}

/// Whether a later job has ended since the attempt it was stored after: it was queued by a leader
/// before us, or it comes late from a worker that had lost the job to another.
///
/// Only an outcome says so. What else is told of a job, a retry or a snooze, may be this very
/// message's own. `thorough`: also where something was told after the outcome, as what comes late is.
pub(crate) async fn has_ended(
    client: &Client,
    address: &Address,
    nonce: Option<&str>,
    attempts_used: u32,
    thorough: bool,
) -> Result<bool, Error> {
    let Some(nonce) = nonce else { return Ok(false) };
    let is_end = |event: &JobEvent| {
        event.kind.is_outcome()
            && event.nonce.as_deref() == Some(nonce)
            && event.attempt > attempts_used
    };
    if thorough {
        let events = client.events(address).await?;
        return Ok(events.iter().any(|(_, event)| is_end(event)));
    }
    let subject = address.subject(client.namespace(), Place::Results);
    let Some(message) = client.last_on_subject(Place::Results, &subject).await? else {
        return Ok(false);
    };
    let event = JobEvent::decode(Some(&message.headers), message.payload).ok();
    Ok(event.as_ref().is_some_and(is_end))
}

/// Whether a worker's retry or snooze lay in the network before it was stored, so that the job may
/// have become another worker's meanwhile. A snooze does not say when it was sent.
pub(crate) fn was_held_up(message: &StreamMessage) -> bool {
    let is_workers =
        header(&message.headers, "Nats-Msg-Id").is_some_and(|id| id.ends_with(":later"));
    if !is_workers {
        return false;
    }
    let errors = header(&message.headers, headers::ERRORS);
    let errors: Vec<AttemptError> = errors
        .and_then(|errors| serde_json::from_str(errors).ok())
        .unwrap_or_default();
    let attempts_used = header(&message.headers, headers::ATTEMPT).unwrap_or("0");
    match errors.last() {
        Some(error) if error.attempt.to_string() == attempts_used => {
            (message.time - error.at).abs() > PROMPT
        }
        _ => true,
    }
}

/// The server's answer to a removal.
#[derive(Debug, Deserialize)]
struct Removal {
    #[serde(default)]
    success: bool,
    #[serde(default)]
    error: serde_json::Value,
}

/// Removes a message. False where it was not there any more.
///
/// Without overwriting it on disk first, which the server does unless told otherwise and which is
/// many times slower; what a worker acks is not overwritten either.
pub(crate) async fn delete(client: &Client, place: Place, sequence: u64) -> Result<bool, Error> {
    let name = place.stream(client.namespace());
    let wanted = json!({"seq": sequence, "no_erase": true});
    let subject = format!("STREAM.MSG.DELETE.{name}");
    let problem = match client.jetstream().request(subject, &wanted).await {
        Ok(Removal { success: true, .. }) => return Ok(true),
        Ok(Removal { error, .. }) => error.to_string(),
        Err(error) => error.to_string(),
    };
    match client.message_at(&name, sequence).await? {
        None => Ok(false),
        Some(_) => Err(client.failed(format!("delete message {sequence} of `{name}`"), problem)),
    }
}

/// A header's last value.
pub(crate) fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get_last(name).map(|value| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A later message of attempt 2, whose last error is one of `attempt`, stored `late` after it.
    fn stored(id: &str, attempt: u32, late_ms: i64) -> StreamMessage {
        let at: DateTime<Utc> = "2026-11-23T10:00:00Z".parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id);
        headers.insert(headers::ATTEMPT, "2");
        let error = format!(r#"[{{"attempt":{attempt},"at":"{at:?}","worker":"w","error":"e"}}]"#);
        headers.insert(headers::ERRORS, error);
        StreamMessage {
            subject: "s".into(),
            sequence: 1,
            headers,
            payload: bytes::Bytes::new(),
            time: at + TimeDelta::milliseconds(late_ms),
        }
    }

    #[test]
    fn a_workers_publish_that_took_long_was_held_up() {
        assert!(!was_held_up(&stored("n:1:2:later", 2, 20)));
        assert!(was_held_up(&stored("n:1:2:later", 2, 2_000)));
        assert!(
            was_held_up(&stored("n:1:2:later", 2, -2_000)),
            "by another clock"
        );
        assert!(was_held_up(&stored("n:1:3:later", 1, 20)), "a snooze");
        assert!(!was_held_up(&stored("n", 2, 2_000)), "a submit");
    }
}
