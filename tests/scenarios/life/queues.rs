//! Queues over one pool of slots: lanes, weights, a pause and a limit, none of which stalls another.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use repull::id::{Priority, QueueName};
use repull::wire::JobEvent;
use repull_tests::{
    DEADLINE, World, all_settled, enqueue_all, events, eventually, job_on, outcome,
};
use serde_json::json;

/// What the tests ask of a pause and of a resume.
const A_SECOND: TimeDelta = TimeDelta::seconds(1);

fn sleep_on(queue: &str, ms: u64) -> repull::job::Job {
    job_on(queue, "sleep", &json!({"ms": ms}))
}

/// When each job started, the first one first, and what `of` says of it.
fn starts<T>(
    events: &HashMap<String, Vec<JobEvent>>,
    of: &HashMap<String, T>,
) -> Vec<(DateTime<Utc>, T)>
where
    T: Clone,
{
    let started = events.iter().filter_map(|(id, events)| {
        let at = events.last()?.started_at?;
        Some((at, of.get(id)?.clone()))
    });
    let mut starts: Vec<_> = started.collect();
    starts.sort_by_key(|(at, _)| *at);
    starts
}

#[tokio::test]
async fn what_is_urgent_goes_first_on_one_slot_and_the_low_lane_is_served_too() {
    let world = World::start().await;
    let set = ["queue", "set", "default", "--lanes", "on", "--json"];
    assert_eq!(world.cli(&set).await.success().json()["lanes"], true);
    let mut priorities = HashMap::new();
    for priority in [Priority::Low, Priority::Normal, Priority::High] {
        let jobs = (0..15).map(|_| sleep_on("default", 5).with_priority(priority));
        for each in enqueue_all(world.client(), jobs.collect()).await {
            priorities.insert(each.address.id.to_string(), priority);
        }
    }
    let _worker = world.worker().slots(1).start().await;
    all_settled(world.client(), DEADLINE).await;

    let starts = starts(&events(world.client()).await, &priorities);
    let place = |priority| {
        let places = starts.iter().enumerate();
        let places = places.filter(|(_, (_, of))| *of == priority);
        places.map(|(place, _)| place).sum::<usize>() / 15
    };
    assert_eq!(starts.len(), 45);
    let (high, normal, low) = (
        place(Priority::High),
        place(Priority::Normal),
        place(Priority::Low),
    );
    assert!(
        high < 12 && low > 32,
        "in the mean at {high}, {normal}, {low} of 45"
    );
}

#[tokio::test]
async fn weights_share_the_slots_while_both_queues_have_a_backlog() {
    let world = World::start().await;
    let mut queues = HashMap::new();
    for queue in ["light", "heavy"] {
        let jobs = (0..200).map(|_| sleep_on(queue, 5)).collect();
        for each in enqueue_all(world.client(), jobs).await {
            queues.insert(each.address.id.to_string(), queue);
        }
    }
    let worker = world.worker().slots(4);
    let _worker = worker.queue("light=1").queue("heavy=3").start().await;
    all_settled(world.client(), DEADLINE).await;

    let starts = starts(&events(world.client()).await, &queues);
    let first = &starts[..200];
    let light = first.iter().filter(|(_, queue)| *queue == "light").count();
    assert!(
        (30..=70).contains(&light),
        "{light} of the first 200, expected a quarter"
    );
}

/// Two workers of one slot each. Jobs come all the time; a pause is effective on both within a second,
/// and neither slot is held back from the other queue.
#[tokio::test]
async fn a_pause_is_effective_on_all_workers_within_a_second_and_stalls_no_other_queue() {
    let world = World::start().await;
    let worker = || world.worker().slots(1).queue("default").queue("other");
    let (_first, _second) = (worker().start().await, worker().start().await);
    let (client, queue) = (world.client(), QueueName::default());
    let mut jobs = HashMap::new();
    let submit = async || client.enqueue(sleep_on("default", 1)).await.unwrap();
    for _ in 0..20 {
        outcome(client, &submit().await, DEADLINE).await;
    }

    let pause = ["queue", "pause", "default", "--reason", "test", "--json"];
    let _paused = world.cli(&pause).await.success();
    let paused = repull::clock::now();
    while repull::clock::now() < paused + A_SECOND * 2 {
        jobs.insert(submit().await.address.id.to_string(), ());
        let asked = repull::clock::now();
        let other = client.enqueue(sleep_on("other", 1)).await.unwrap();
        let other = outcome(client, &other, DEADLINE).await;
        let waited = other.started_at.unwrap() - asked;
        assert!(waited < A_SECOND, "the other queue's job waited {waited}");
    }
    let late = starts(&events(client).await, &jobs);
    let late: Vec<_> = late
        .iter()
        .filter(|(at, ())| *at > paused + A_SECOND)
        .collect();
    assert!(late.is_empty(), "{} started later than that", late.len());

    let resumed = repull::clock::now();
    client.resume_queue(&queue).await.unwrap();
    all_settled(client, DEADLINE).await;
    let starts = starts(&events(client).await, &jobs);
    let again = starts.iter().find(|(at, ())| *at > resumed).unwrap();
    assert!(again.0 < resumed + A_SECOND, "after {}", again.0 - resumed);
}

/// A queue at its cluster-wide limit leaves the slots to the others.
#[tokio::test]
async fn a_limit_holds_over_all_workers_and_keeps_no_slot_from_another_queue() {
    let world = World::start().await;
    let limit = ["queue", "limit", "default", "2", "--json"];
    let _limited = world.cli(&limit).await.success();
    let worker = || world.worker().slots(4).queue("default").queue("other");
    let (mut first, mut second) = (worker().start().await, worker().start().await);
    let client = world.client();
    let long = (0..10).map(|_| sleep_on("default", 600_000)).collect();
    let long = enqueue_all(client, long).await;
    let both = async |first: &mut repull_tests::Process, second: &mut repull_tests::Process| {
        let slots = "repull_worker_slots_running";
        first.metrics().await.value(slots) + second.metrics().await.value(slots)
    };
    eventually(DEADLINE, "two of the ten run", async || {
        (both(&mut first, &mut second).await == 2.0).then_some(())
    })
    .await;

    let other = (0..200).map(|_| sleep_on("other", 5)).collect();
    for each in enqueue_all(client, other).await {
        outcome(client, &each, Duration::from_secs(20)).await;
    }
    eventually(DEADLINE, "only the two run", async || {
        (both(&mut first, &mut second).await == 2.0).then_some(())
    })
    .await;
    let addresses = long.into_iter().map(|each| each.address);
    client.cancel_all(addresses, "the end").await.unwrap();
    all_settled(client, DEADLINE).await;
}
