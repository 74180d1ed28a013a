//! Jobs that wait for a time: queued when it comes, once, and not where they were cancelled.

mod support;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use repull::client::{Expect, Message};
use repull::id::JobId;
use repull::job::Job;
use repull::wire::{Address, EventKind, JobEvent, Place};
use support::{World, eventually};

impl World {
    /// A leader.
    async fn led(nodes: usize) -> Self {
        let mut world = Self::with_nodes(nodes).await;
        world.scheduler("first");
        world.logged("first", "took over").await;
        world
    }

    /// How many jobs the work queue holds.
    async fn queued(&self) -> Option<u64> {
        self.client.work_queue_messages().await.ok()
    }

    /// How many messages a stream holds.
    async fn count(&self, stream: &str) -> Option<u64> {
        let stream = self.client.stream_handle(stream).await.ok()?;
        Some(stream.get_info().await.ok()?.state.messages)
    }

    async fn nothing_is_later(&self) {
        eventually("nothing is left among the later jobs", || async {
            (self.count("REPULL_LATER").await? == 0).then_some(())
        })
        .await;
    }

    /// Enqueues jobs that are due from then on, a hundred a second.
    async fn enqueue_later(&self, count: i32, from: DateTime<Utc>) -> Vec<(String, DateTime<Utc>)> {
        let mut times = Vec::new();
        for number in 0..count {
            let run_at = from + TimeDelta::milliseconds(10) * number;
            let job = Job::json("t", &number).unwrap().not_before(run_at);
            let enqueued = self.client.enqueue(job).await.unwrap();
            times.push((enqueued.nonce.unwrap(), run_at));
        }
        times
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn later_jobs_are_queued_when_their_time_comes_and_once() {
    let world = World::led(1).await;
    let drain = world.drain().await;
    let now = repull::clock::now();
    let times = world
        .enqueue_later(200, now + TimeDelta::milliseconds(500))
        .await;
    let cancelled = Job::json("t", &0)
        .unwrap()
        .not_before(now + TimeDelta::seconds(1));
    let cancelled = cancelled.with_id(JobId::new("cancelled").unwrap());
    world.client.enqueue(cancelled).await.unwrap();
    world
        .client
        .cancel(&JobId::new("cancelled").unwrap(), "not wanted")
        .await
        .unwrap();
    drain.reached(200).await;
    world.nothing_is_later().await;
    let taken = drain.taken();
    assert_eq!(taken.len(), 200);
    for (nonce, run_at) in times {
        let job = taken.iter().find(|job| job.nonce == nonce).unwrap();
        assert!(job.stored >= run_at, "{nonce} came early");
        assert!(
            job.stored < run_at + TimeDelta::seconds(1),
            "{nonce} came late"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn later_jobs_survive_a_killed_leader_and_come_once() {
    let mut world = World::led(1).await;
    let drain = world.drain().await;
    let now = repull::clock::now();
    world
        .enqueue_later(400, now + TimeDelta::milliseconds(500))
        .await;
    world.scheduler("second");
    drain.reached(100).await;
    world.kill("first");
    drain.reached(400).await;
    world.nothing_is_later().await;
    assert_eq!(drain.count(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_leader_of_later_jobs_is_killed_loses_and_doubles_none() {
    let mut world = World::led(3).await;
    let drain = world.drain().await;
    let from = repull::clock::now() + TimeDelta::seconds(1);
    world.enqueue_later(400, from).await;
    drain.reached(50).await;
    let leader = world.leader_of("REPULL_LATER").await;
    world.kill_node(leader);
    world.start_node(leader);
    drain.reached(400).await;
    world.nothing_is_later().await;
    assert_eq!(drain.count(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_still_holds_a_cancelled_job_is_not_believed() {
    let world = World::led(1).await;
    let jetstream = world.client.jetstream();
    // It answers direct reads of the stream that it mirrors, together with that stream.
    let mirror = async_nats::jetstream::stream::Config {
        name: "COPY".to_owned(),
        mirror: Some(async_nats::jetstream::stream::Source {
            name: "REPULL_LATER".to_owned(),
            ..Default::default()
        }),
        mirror_direct: true,
        ..Default::default()
    };
    jetstream.create_stream(mirror).await.unwrap();
    let from = repull::clock::now() + TimeDelta::seconds(4);
    world.enqueue_later(40, from).await;
    eventually("the mirror has all", || async {
        (world.count("COPY").await? == 40).then_some(())
    })
    .await;
    let addresses = world.client.live_addresses(None, None).await.unwrap();
    let cancelled = world.client.cancel_all(addresses, "not wanted").await;
    assert_eq!(cancelled.unwrap().len(), 40);
    assert!(
        repull::clock::now() < from,
        "too slow: they were due before they were cancelled"
    );
    let after = from + TimeDelta::seconds(1);
    let wanted = Job::json("t", &"wanted").unwrap().not_before(after);
    world.client.enqueue(wanted).await.unwrap();
    world.nothing_is_later().await;
    assert_eq!(world.queued().await, Some(1));
    assert_eq!(world.count("COPY").await, Some(41));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ended_before_its_later_message_could_be_removed_does_not_come_again() {
    let mut world = World::led(1).await;
    let stream = world.client.stream_handle("REPULL_LATER").await.unwrap();
    let mut config = stream.get_info().await.unwrap().config;
    config.deny_delete = true;
    let jetstream = world.client.jetstream().clone();
    jetstream.update_stream(&config).await.unwrap();
    let job = Job::json("t", &1)
        .unwrap()
        .with_id(JobId::new("j").unwrap());
    let soon = repull::clock::now() + TimeDelta::milliseconds(100);
    let enqueued = world.client.enqueue(job.not_before(soon)).await.unwrap();
    let queued = eventually("it is queued", || async {
        let filter = "repull.jobs.default.>";
        let found = world.client.next_message("REPULL_JOBS", filter, 1).await;
        found.unwrap()
    })
    .await;
    // It runs and is acked.
    let namespace = world.client.namespace();
    let address = Address::parse(namespace, Place::Jobs, &queued.subject).unwrap();
    let event = JobEvent {
        nonce: enqueued.nonce,
        ..JobEvent::new(EventKind::Succeeded, 1, "test", repull::clock::now())
    };
    let outcome = Message {
        subject: address.subject(namespace, Place::Results),
        headers: event.encode_headers(),
        body: Bytes::new(),
        id: "j:1:succeeded".into(),
        expect: Expect::Anything,
    };
    world.client.publish(&outcome).await.unwrap();
    let jobs = world.client.stream_handle("REPULL_JOBS").await.unwrap();
    jobs.delete_message(queued.sequence).await.unwrap();
    // With it the stream forgets the ids of messages that it does not hold any more.
    world.restart_server();
    let removals = "$JS.API.STREAM.MSG.DELETE.REPULL_LATER";
    let mut removals = world.client.nats().subscribe(removals).await.unwrap();
    // Two requests a try, and those of one that had begun before.
    for _ in 0..4 {
        let removal = tokio::time::timeout(support::DEADLINE, removals.next()).await;
        removal.expect("it is tried again").unwrap();
    }
    assert_eq!(world.queued().await, Some(0));
}
