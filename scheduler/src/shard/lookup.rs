//! Questions to the streams' leaders that settle what a publish left open.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::message::StreamMessage;
use chrono::{DateTime, Utc};
use repull::client::{Client, Error};
use repull::schedule::{Overlap, fire_id};
use repull::wire::{Address, JobEvent, Place, headers};
use tracing::debug;

use crate::due::Fire;
use crate::due::overlap::Found;

/// How often a lookup at a change of leader is tried.
const TRIES_MAX: u32 = 10;

/// The pause between the tries.
const PAUSE: Duration = Duration::from_millis(500);

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

/// Whether an attempt of a later job was queued before and has ended since.
pub(crate) async fn was_promoted(
    client: &Client,
    address: &Address,
    nonce: Option<&str>,
    attempts_used: u32,
) -> Result<bool, Error> {
    let Some(nonce) = nonce else { return Ok(false) };
    let subject = address.subject(client.namespace(), Place::Results);
    let Some(message) = client.last_on_subject(Place::Results, &subject).await? else {
        return Ok(false);
    };
    let event = JobEvent::decode(Some(&message.headers), message.payload).ok();
    Ok(event.is_some_and(|event| {
        event.nonce.as_deref() == Some(nonce) && event.attempt > attempts_used
    }))
}

/// A later message, from the stream's leader: a replica may still show one that was cancelled.
pub(crate) async fn later_message(
    client: &Client,
    sequence: u64,
) -> Result<Option<StreamMessage>, Error> {
    let stream = Place::Later.stream(client.namespace());
    client.message_at(&stream, sequence).await
}

/// Removes a message. False where it was not there any more.
pub(crate) async fn delete(client: &Client, place: Place, sequence: u64) -> Result<bool, Error> {
    let name = place.stream(client.namespace());
    let stream = client.stream_handle(&name).await?;
    match stream.delete_message(sequence).await {
        Ok(_) => Ok(true),
        Err(error) => match client.message_at(&name, sequence).await? {
            None => Ok(false),
            Some(_) => Err(client.failed(format!("delete message {sequence} of `{name}`"), error)),
        },
    }
}

/// A header's last value.
pub(crate) fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get_last(name).map(|value| value.as_str())
}
