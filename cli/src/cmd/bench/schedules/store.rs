//! What is stored before a measurement, and what is read of the jobs after it.

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use bytes::Bytes;
use chrono::{DateTime, Datelike, TimeDelta, Utc};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use repull::client::{Client, PIPELINE_WINDOW};
use repull::job::Job;
use repull::schedule::Schedule;
use repull::topology::Bucket;
use repull::wire::{self, Place};
use serde_json::json;

/// Days of which every month has one.
const DAYS: usize = 28;

/// A schedule whose next fire is months away: half of them crontabs of some 40,000 kinds, half of
/// them intervals, all of them with arguments of their own.
pub(crate) fn quiet(number: usize, now: DateTime<Utc>) -> serde_json::Value {
    let trigger = if number.is_multiple_of(2) {
        let (minute, hour) = (number / 2 % 60, number / 120 % 24);
        let day = number / 2_880 % DAYS + 1;
        let month = (now.month0() + 6) % 12 + 1;
        let zone = ["Europe/Berlin", "UTC", "America/New_York"][number % 3];
        json!({"cron": {"expression": format!("{minute} {hour} {day} {month} *"), "timezone": zone}})
    } else {
        let anchor = now + TimeDelta::days(180) + TimeDelta::milliseconds(number as i64);
        json!({"every": {"interval": "8760h", "anchor": anchor}})
    };
    schedule("quiet", &format!("quiet-{number:07}"), trigger, number, now)
}

/// A schedule of the measurement.
pub(crate) fn schedule(
    queue: &str,
    id: &str,
    trigger: serde_json::Value,
    number: usize,
    active_from: DateTime<Utc>,
) -> serde_json::Value {
    json!({
        "id": id,
        "trigger": trigger,
        "job": {"task": "bench", "queue": queue, "args": {"account": number, "report": "daily"}},
        "active_from": active_from,
    })
}

/// Stores schedules, pipelined; all confirmed.
pub(crate) async fn put(
    client: &Client,
    schedules: impl Iterator<Item = serde_json::Value>,
) -> anyhow::Result<usize> {
    let bucket = Bucket::Schedules.name(client.namespace());
    let stored = stream::iter(schedules).map(|schedule| {
        let id = schedule["id"].as_str().unwrap_or_default().to_owned();
        let (subject, bytes) = (format!("$KV.{bucket}.{id}"), schedule.to_string());
        async move {
            // What the product would refuse must not be what is measured.
            Schedule::from_json(&id, bytes.as_bytes())?;
            let stored = client.jetstream().publish(subject, bytes.into()).await?;
            stored.await?;
            anyhow::Ok(())
        }
    });
    count(stored.buffer_unordered(PIPELINE_WINDOW)).await
}

async fn count(stored: impl Stream<Item = anyhow::Result<()>>) -> anyhow::Result<usize> {
    Box::pin(stored.try_fold(0, |count, ()| std::future::ready(Ok(count + 1)))).await
}

/// Stores jobs that wait until then, each until `step` after the one before.
pub(crate) async fn put_later(
    client: &Client,
    queue: &str,
    jobs: usize,
    run_at: DateTime<Utc>,
    step: TimeDelta,
) -> anyhow::Result<()> {
    let jobs = (0..jobs).map(|number| {
        let job = Job::json("bench", &json!({"account": number, "report": "daily"}))?;
        let at = run_at + step * i32::try_from(number).unwrap_or(i32::MAX);
        Ok(job.on(queue.parse()?).not_before(at))
    });
    let jobs: anyhow::Result<Vec<Job>> = jobs.collect();
    let stored = client.enqueue_many(stream::iter(jobs?));
    Box::pin(stored.try_for_each(|_| std::future::ready(Ok(())))).await?;
    Ok(())
}

/// Publishes what the fires of these schedules would be, with nothing but async-nats: the same
/// subjects, headers and bodies under ids of their own, pipelined; all confirmed.
pub(crate) async fn publish_raw(
    client: &Client,
    schedules: &[serde_json::Value],
    fires: &[DateTime<Utc>],
    queue: &str,
) -> anyhow::Result<usize> {
    let mut parsed = Vec::new();
    for schedule in schedules {
        let id = schedule["id"].as_str().unwrap_or_default();
        let mut schedule = Schedule::from_json(id, schedule.to_string().as_bytes())?;
        schedule.job.queue = queue.parse()?;
        parsed.push(schedule);
    }
    let (namespace, jetstream) = (client.namespace(), client.jetstream());
    let all = fires
        .iter()
        .flat_map(|fire| parsed.iter().map(move |schedule| (schedule, *fire)));
    let stored = stream::iter(all).map(|(schedule, fire)| {
        let mut job = schedule.job(fire);
        job.enqueued_at = Some(repull::clock::now());
        let mut headers: HeaderMap = wire::encode_headers(&job);
        headers.insert("Nats-Msg-Id", format!("raw-{}", schedule.fire_id(fire)));
        headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
        let subject = format!(
            "{namespace}.{}.{queue}.{}.{}",
            Place::Jobs.token(),
            job.task,
            job.id
        );
        async move {
            let body: Bytes = job.args;
            jetstream
                .publish_with_headers(subject, headers, body)
                .await?
                .await?;
            anyhow::Ok(())
        }
    });
    count(stored.buffer_unordered(PIPELINE_WINDOW)).await
}

/// A job in the work queue: when it was stored, and what its id ends with.
pub(crate) struct Stored {
    pub(crate) at: DateTime<Utc>,
    pub(crate) suffix: i64,
}

/// Reads the jobs of a queue, in the order in which they were stored.
pub(crate) async fn read(client: &Client, queue: &str) -> anyhow::Result<Vec<Stored>> {
    let stream = client
        .stream_handle(&Place::Jobs.stream(client.namespace()))
        .await?;
    // The only kind that a work queue admits; none is acked.
    let config = pull::Config {
        filter_subject: format!("{}.{}.{queue}.>", client.namespace(), Place::Jobs.token()),
        ack_policy: AckPolicy::Explicit,
        max_ack_pending: -1,
        headers_only: true,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let mut left = consumer.cached_info().num_pending;
    let mut messages = consumer.messages().await?;
    let mut stored = Vec::with_capacity(usize::try_from(left)?);
    while left > 0
        && let Some(message) = messages.next().await
    {
        let message = message?;
        let info = message.info().map_err(|error| anyhow::anyhow!("{error}"))?;
        left = info.pending;
        let suffix = message
            .subject
            .rsplit('-')
            .next()
            .and_then(|text| text.parse().ok());
        stored.push(Stored {
            at: info.published,
            suffix: suffix.unwrap_or_default(),
        });
    }
    let name = consumer.cached_info().name.clone();
    stream.delete_consumer(&name).await?;
    Ok(stored)
}
