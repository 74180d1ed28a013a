//! What became of jobs: their events, read from the results as any client would.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use repull::client::{Client, Enqueued};
use repull::id::{JobId, QueueName};
use repull::job::Job;
use repull::wire::{Address, EventKind, JobEvent, Place};

use crate::wait::{DEADLINE, eventually};

/// A job for `task` on the queue `default` with arguments of JSON.
pub fn job(task: &str, args: &serde_json::Value) -> Job {
    Job::json(task, args).expect("a valid task")
}

/// The same under an id.
pub fn job_with_id(task: &str, args: &serde_json::Value, id: &str) -> Job {
    job(task, args).with_id(JobId::new(id).expect("a valid id"))
}

/// The same on a queue.
pub fn job_on(queue: &str, task: &str, args: &serde_json::Value) -> Job {
    job(task, args).on(QueueName::new(queue).expect("a valid queue"))
}

/// Enqueues all of them, pipelined; every one must be stored.
pub async fn enqueue_all(client: &Client, jobs: Vec<Job>) -> Vec<Enqueued> {
    let stored = client.enqueue_many(futures_util::stream::iter(jobs));
    stored
        .map(|stored| stored.expect("every job is stored"))
        .collect()
        .await
}

/// All events of all jobs, by id, in order.
pub async fn events(client: &Client) -> HashMap<String, Vec<JobEvent>> {
    use async_nats::jetstream::consumer::pull::OrderedConfig;
    let name = Place::Results.stream(client.namespace());
    // A cluster may be electing a leader.
    let stream = eventually(DEADLINE, "the results can be read", async || {
        client.jetstream().get_stream(&name).await.ok()
    })
    .await;
    let mut left = stream.cached_info().state.messages;
    let consumer = eventually(DEADLINE, "the results have a reader", async || {
        stream.create_consumer(OrderedConfig::default()).await.ok()
    })
    .await;
    let mut messages = consumer.messages().await.expect("messages of the results");
    let mut events: HashMap<String, Vec<JobEvent>> = HashMap::new();
    while left > 0 {
        let message = messages
            .next()
            .await
            .expect("another message")
            .expect("a message");
        left -= 1;
        let id = message
            .subject
            .rsplit('.')
            .next()
            .unwrap_or_default()
            .to_owned();
        let event =
            JobEvent::decode(message.headers.as_ref(), message.payload.clone()).expect("an event");
        events.entry(id).or_default().push(event);
    }
    events
}

/// How many messages a stream holds, beside the work queue's pin. Asks again where nobody answers, as
/// during an election.
pub async fn messages_in(client: &Client, place: Place) -> u64 {
    let name = place.stream(client.namespace());
    let what = format!("somebody answers for stream `{name}`");
    eventually(DEADLINE, &what, async || {
        if place == Place::Jobs {
            return client.work_queue_messages().await.ok();
        }
        let stream = client.jetstream().get_stream(&name).await.ok()?;
        Some(stream.cached_info().state.messages)
    })
    .await
}

/// Waits until no job waits or runs any more, nor waits for a time.
pub async fn all_settled(client: &Client, within: Duration) {
    eventually(within, "no job waits, runs or is later", async || {
        let left = messages_in(client, Place::Jobs).await + messages_in(client, Place::Later).await;
        (left == 0).then_some(())
    })
    .await;
}

/// Waits for the outcome of a job.
pub async fn outcome(client: &Client, enqueued: &Enqueued, within: Duration) -> JobEvent {
    match tokio::time::timeout(within, client.wait(enqueued)).await {
        Ok(event) => event.expect("an outcome"),
        Err(_) => panic!(
            "job `{}` has no outcome within {within:?}",
            enqueued.address.id
        ),
    }
}

/// Waits for the outcome of a job that was published by somebody else.
pub async fn outcome_at(client: &Client, address: &str, within: Duration) -> JobEvent {
    let address =
        Address::parse(client.namespace(), Place::Jobs, address).expect("a job's subject");
    match tokio::time::timeout(within, client.wait_at(&address, None)).await {
        Ok(event) => event.expect("an outcome"),
        Err(_) => panic!("job `{}` has no outcome within {within:?}", address.id),
    }
}

/// Asserts that each of these jobs has exactly one outcome, and that it is of this kind.
///
/// # Panics
///
/// Names some of the jobs for which it is not so.
pub fn assert_outcomes(events: &HashMap<String, Vec<JobEvent>>, ids: &[String], kind: EventKind) {
    let outcomes = |id: &String| -> Vec<EventKind> {
        let events = events.get(id).into_iter().flatten();
        events
            .map(|event| event.kind)
            .filter(|kind| kind.is_outcome())
            .collect()
    };
    let wrong: Vec<_> = ids
        .iter()
        .map(|id| (id, outcomes(id)))
        .filter(|(_, kinds)| kinds.as_slice() != [kind])
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} jobs did not end with exactly one `{kind}`, such as {:?}",
        wrong.len(),
        ids.len(),
        &wrong[..wrong.len().min(5)]
    );
}
