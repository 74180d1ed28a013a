//! What becomes of fires that are late or overlap, of later jobs, and of what nobody can read.

mod support;

use bytes::Bytes;
use chrono::TimeDelta;
use repull::client::{Expect, Message};
use repull::id::{JobId, TaskName};
use repull::job::Job;
use repull::queue::QueueSettings;
use repull::topology::{Bucket, Topology};
use repull::wire::{EventKind, Fate, JobEvent, LedgerEntry, Place, encode_headers, headers};
use serde_json::json;
use support::{World, eventually};

impl World {
    /// The messages of a stream on a subject.
    async fn stored(
        &self,
        stream: &str,
        filter: &str,
    ) -> Vec<async_nats::jetstream::message::StreamMessage> {
        let mut found = Vec::new();
        let mut next = 1;
        while let Some(message) = self
            .client
            .next_message(stream, filter, next)
            .await
            .unwrap()
        {
            next = message.sequence + 1;
            found.push(message);
        }
        found
    }

    async fn jobs(&self) -> Vec<async_nats::jetstream::message::StreamMessage> {
        self.stored("REPULL_JOBS", "repull.jobs.default.>").await
    }

    async fn later(&self) -> Vec<async_nats::jetstream::message::StreamMessage> {
        self.stored("REPULL_LATER", "repull.later.>").await
    }

    async fn ledger(&self, schedule: &str) -> Vec<LedgerEntry> {
        let namespace = self.client.namespace();
        let subject = Topology::ledger_subject(namespace, schedule);
        let found = self.stored(&Topology::ledger(namespace), &subject).await;
        found
            .iter()
            .map(|message| serde_json::from_slice(&message.payload).unwrap())
            .collect()
    }

    /// Removes a job as a worker's ack does.
    async fn end(&self, message: &async_nats::jetstream::message::StreamMessage) {
        let stream = self.client.stream_handle("REPULL_JOBS").await.unwrap();
        stream.delete_message(message.sequence).await.unwrap();
    }

    /// A leader.
    async fn led() -> Self {
        let mut world = Self::start().await;
        world.scheduler("first");
        world.logged("first", "took over").await;
        world
    }
}

fn every_second(id: &str, more: serde_json::Value) -> serde_json::Value {
    let mut schedule = json!({
        "id": id,
        "trigger": {"every": {"interval": "1s", "anchor": "1970-01-01T00:00:00Z"}},
        "job": {"task": "t"},
    });
    schedule
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    schedule
}

fn nonce(message: &async_nats::jetstream::message::StreamMessage) -> String {
    message
        .headers
        .get(headers::NONCE)
        .map(|nonce| nonce.as_str().to_owned())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn skip_leaves_the_previous_run_alone_and_tells_of_it() {
    let world = World::led().await;
    world
        .put(every_second("s", json!({"overlap": "skip"})))
        .await;
    let entry = eventually("a fire is passed over", || async {
        world.ledger("s").await.into_iter().next()
    })
    .await;
    assert_eq!((entry.fate, entry.count), (Fate::Overlapped, Some(1)));
    let jobs = world.jobs().await;
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].subject.as_str(), "repull.jobs.default.t.s");
    world.end(&jobs[0]).await;
    let first = nonce(&jobs[0]);
    eventually("the next run is queued", || async {
        world
            .jobs()
            .await
            .first()
            .filter(|job| nonce(job) != first)
            .map(drop)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn skip_counts_a_run_that_waits_for_a_retry() {
    let world = World::led().await;
    let mut job = Job::new(TaskName::new("t").unwrap());
    job.id = JobId::new("s").unwrap();
    job.run_at = Some(repull::clock::now() + TimeDelta::hours(1));
    let retry = Message {
        subject: "repull.later.default.t.s".into(),
        headers: encode_headers(&job),
        body: Bytes::new(),
        id: "retry".into(),
        expect: Expect::Nothing,
    };
    world.client.publish(&retry).await.unwrap();
    world
        .put(every_second("s", json!({"overlap": "skip"})))
        .await;
    eventually("a fire is passed over", || async {
        world.ledger("s").await.into_iter().next()
    })
    .await;
    assert_eq!(world.jobs().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn buffer_one_lets_one_fire_wait_for_the_previous_run() {
    let world = World::led().await;
    world
        .put(every_second("s", json!({"overlap": "buffer_one"})))
        .await;
    eventually("a third fire is passed over", || async {
        world.ledger("s").await.into_iter().next()
    })
    .await;
    let (running, waiting) = (world.jobs().await, world.later().await);
    assert_eq!((running.len(), waiting.len()), (1, 1));
    world.end(&running[0]).await;
    let next = eventually("the one that waited is queued", || async {
        world.jobs().await.into_iter().next()
    })
    .await;
    assert_eq!(next.subject.as_str(), "repull.jobs.default.t.s");
    assert_eq!(nonce(&next), nonce(&waiting[0]));
    assert!(
        next.headers.get(headers::JOB_ID).is_none() && next.headers.get(headers::RUN_AT).is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_other_replaces_the_previous_run() {
    let world = World::led().await;
    world
        .put(every_second("s", json!({"overlap": "cancel_other"})))
        .await;
    let first = eventually("the first run is queued", || async {
        world.jobs().await.into_iter().next()
    })
    .await;
    eventually("another run takes its place", || async {
        world
            .jobs()
            .await
            .first()
            .filter(|job| nonce(job) != nonce(&first))
            .map(drop)
    })
    .await;
    let events = world
        .stored("REPULL_RESULTS", "repull.results.default.t.s")
        .await;
    let event = JobEvent::decode(Some(&events[0].headers), events[0].payload.clone()).unwrap();
    assert_eq!(event.kind, EventKind::Cancelled);
    assert_eq!(event.nonce, Some(nonce(&first)));
}

#[tokio::test(flavor = "multi_thread")]
async fn fires_of_an_outage_are_judged_and_told() {
    let mut world = World::led().await;
    for (id, policy) in [
        ("skips", json!({"misfire_grace": "1s"})),
        ("latest", json!({"coalesce": "latest"})),
        ("all", json!({})),
    ] {
        world.put(every_second(id, policy)).await;
    }
    eventually("the schedules fire", || async {
        (world.jobs().await.len() >= 3).then_some(())
    })
    .await;
    world.stop("first").await;
    let stopped = repull::clock::now();
    eventually("some time passes", || async {
        (repull::clock::now() > stopped + TimeDelta::seconds(7)).then_some(())
    })
    .await;
    world.scheduler("second");
    world.logged("second", "took over").await;
    let skipped = eventually("skipped fires are told", || async {
        world
            .ledger("skips")
            .await
            .into_iter()
            .find(|entry| entry.fate == Fate::Skipped)
    })
    .await;
    assert!(skipped.count.is_some_and(|count| count >= 3), "{skipped:?}");
    let coalesced = eventually("coalesced fires are told", || async {
        world
            .ledger("latest")
            .await
            .into_iter()
            .find(|entry| entry.fate == Fate::Coalesced)
    })
    .await;
    assert!(
        coalesced.count.is_some_and(|count| count >= 4),
        "{coalesced:?}"
    );
    let late = eventually("late fires are told", || async {
        world
            .ledger("all")
            .await
            .into_iter()
            .find(|entry| entry.fate == Fate::Late)
    })
    .await;
    assert!(late.reason.contains("late"), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_job_whose_time_can_not_be_read_is_due_now() {
    let world = World::led().await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert(headers::RUN_AT, "tomorrow");
    let message = Message {
        subject: "repull.later.default.t.odd".into(),
        headers,
        body: "{}".into(),
        id: "odd".into(),
        expect: Expect::Nothing,
    };
    world.client.publish(&message).await.unwrap();
    let job = eventually("it is queued", || async {
        world.jobs().await.into_iter().next()
    })
    .await;
    assert_eq!(job.subject.as_str(), "repull.jobs.default.t.odd");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_no_queue_can_deliver_is_moved_to_the_dead() {
    let world = World::start().await;
    world
        .client
        .nats()
        .publish("repull.jobs.lost", "{}".into())
        .await
        .unwrap();
    world.client.nats().flush().await.unwrap();
    let mut world = world;
    world.scheduler("first");
    let dead = eventually("it is moved", || async {
        world
            .stored("REPULL_DEAD", "repull.dead.>")
            .await
            .into_iter()
            .next()
    })
    .await;
    assert_eq!(
        dead.headers.get(headers::FOUND_ON).unwrap().as_str(),
        "repull.jobs.lost"
    );
    eventually("it is gone", || async {
        world.jobs().await.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_gets_its_limit_and_its_lanes() {
    let world = World::led().await;
    let bucket = Bucket::Queues.name(world.client.namespace());
    let bucket = world
        .client
        .jetstream()
        .get_key_value(bucket)
        .await
        .unwrap();
    for (limit, expected) in [(Some(3), 3), (None, 200_000)] {
        let settings = QueueSettings {
            limit,
            lanes: true,
            ..QueueSettings::default()
        };
        bucket
            .put("mail", serde_json::to_vec(&settings).unwrap().into())
            .await
            .unwrap();
        for lane in ["mail", "mail~high", "mail~low"] {
            eventually(&format!("`{lane}` has the limit {limit:?}"), || async {
                let info = world
                    .client
                    .lane_info(&lane.parse().unwrap())
                    .await
                    .unwrap()?;
                (info.config.max_ack_pending == expected).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_pauses_itself_when_its_jobs_fail() {
    let world = World::led().await;
    world
        .put(every_second("s", json!({"pause_after_failures": 2})))
        .await;
    let mut failed = Vec::new();
    let paused = eventually("the schedule is paused", || {
        let world = &world;
        let done = failed.clone();
        let look = async move {
            let mut done = done;
            for job in world.jobs().await {
                let address = repull::wire::Address::parse(
                    world.client.namespace(),
                    Place::Jobs,
                    &job.subject,
                )
                .unwrap();
                let mut event = JobEvent::new(EventKind::Failed, 1, "test", repull::clock::now());
                event.nonce = Some(nonce(&job));
                let message = Message {
                    subject: address.subject(world.client.namespace(), Place::Results),
                    headers: event.encode_headers(),
                    body: Bytes::new(),
                    id: format!("{}:failed", nonce(&job)),
                    expect: Expect::Anything,
                };
                world.client.publish(&message).await.unwrap();
                world.end(&job).await;
                done.push(job.sequence);
            }
            let id = repull::id::ScheduleId::new("s").unwrap();
            world.client.schedule(&id).await.unwrap()?.schedule.paused
        };
        failed.push(0);
        look
    })
    .await;
    assert_eq!(paused.by, "scheduler");
    assert!(paused.reason.contains('2'), "{paused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_delays_fires_and_loses_none() {
    let world = World::led().await;
    let stream = world.client.stream_handle("REPULL_JOBS").await.unwrap();
    let config = stream.get_info().await.unwrap().config;
    let full = async_nats::jetstream::stream::Config {
        // The pin and two jobs.
        max_messages: 3,
        ..config.clone()
    };
    world.client.jetstream().update_stream(full).await.unwrap();
    let from = world.put(every_second("s", json!({}))).await;
    world.logged("first", "could not be published yet").await;
    assert_eq!(world.jobs().await.len(), 2);
    world
        .client
        .jetstream()
        .update_stream(config)
        .await
        .unwrap();
    let until = repull::clock::now();
    let jobs = eventually("the fires that waited came", || async {
        let jobs = world.jobs().await;
        (jobs.len() as i64 > (until - from).num_seconds() + 1).then_some(jobs)
    })
    .await;
    let mut fires: Vec<String> = jobs.iter().map(nonce).collect();
    fires.sort();
    fires.dedup();
    assert_eq!(fires.len(), jobs.len());
    let first = (from.timestamp() + 1) * 1_000;
    for (index, fire) in fires.iter().enumerate() {
        assert_eq!(*fire, format!("s-{}", first + 1_000 * index as i64));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_is_no_schedule_is_told_of_and_stops_nothing() {
    let world = World::led().await;
    let bucket = Bucket::Schedules.name(world.client.namespace());
    let bucket = world
        .client
        .jetstream()
        .get_key_value(bucket)
        .await
        .unwrap();
    bucket.put("broken", "{".into()).await.unwrap();
    bucket.put("bad/key", "{}".into()).await.unwrap();
    world.logged("first", "it can't be used").await;
    world.put(every_second("good", json!({}))).await;
    eventually("the good one fires", || async {
        world.jobs().await.into_iter().next()
    })
    .await;
}
