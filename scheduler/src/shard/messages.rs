//! A fire as the messages it can become.

use async_nats::HeaderMap;
use chrono::{DateTime, Utc};
use repull::client::{Client, Error, Expect, Message};
use repull::clock;
use repull::telemetry::trace::{self, Step};
use repull::wire::{Place, encode_headers, headers};

use super::lookup;
use crate::due::Fire;

/// What the id of a buffered fire's later job ends with.
const BUFFERED: &str = repull::schedule::BUFFERED_SUFFIX;

/// Where its job is queued.
pub(super) fn publish_subject(client: &Client, fire: &Fire) -> String {
    lookup::address(fire).subject(client.namespace(), Place::Jobs)
}

/// Where it waits for the end of its schedule's previous run.
pub(super) fn buffer_subject(client: &Client, fire: &Fire) -> String {
    let subject = lookup::address(fire).subject(client.namespace(), Place::Later);
    format!("{subject}{BUFFERED}")
}

/// Its job.
pub(super) fn publish_message(client: &Client, fire: &Fire) -> Message {
    let mut job = fire.job();
    job.enqueued_at = Some(clock::now());
    let mut headers = encode_headers(&job);
    begin_trace(fire, &mut headers);
    Message {
        subject: publish_subject(client, fire),
        headers,
        body: job.args,
        id: fire.id(),
        expect: Expect::Nothing,
    }
}

/// The fire as a later job that is due now and stays until its schedule's previous run has ended.
pub(super) fn buffer_message(client: &Client, fire: &Fire) -> Message {
    let mut job = fire.job();
    let now: DateTime<Utc> = clock::now();
    (job.enqueued_at, job.run_at) = (Some(now), Some(now));
    let mut headers = encode_headers(&job);
    begin_trace(fire, &mut headers);
    headers.insert(headers::JOB_ID, job.id.as_str());
    Message {
        subject: buffer_subject(client, fire),
        headers,
        body: job.args,
        id: format!("{}:buffer", fire.id()),
        expect: Expect::Nothing,
    }
}

/// A fire's job has its origin here.
fn begin_trace(fire: &Fire, headers: &mut HeaderMap) {
    if trace::is_on() {
        trace::publish(Step::Create, &lookup::address(fire), headers);
    }
}

/// Ends the previous run.
pub(super) async fn cancel_other(client: &Client, fire: &Fire) -> Result<(), Error> {
    let reason = format!(
        "schedule `{}` fired again at {}",
        fire.schedule,
        repull::wire::write_time(fire.at)
    );
    client
        .cancel_all([lookup::address(fire)], &reason)
        .await
        .map(drop)
}
