//! Schedules become jobs, each fire once, whatever happens to schedulers.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use repull::topology::Bucket;
use serde_json::json;
use support::{Drain, World, eventually};

/// The fires of `every` within (from, until], as the ids their jobs carry.
fn expected(
    schedules: &BTreeMap<String, (DateTime<Utc>, i64)>,
    until: DateTime<Utc>,
) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for (id, (from, millis)) in schedules {
        let mut fire = from.timestamp_millis().div_euclid(*millis) * millis;
        while fire <= until.timestamp_millis() {
            if fire * 1_000 > from.timestamp_micros() {
                ids.insert(format!("{id}-{fire}"));
            }
            fire += millis;
        }
    }
    ids
}

/// Waits until every fire until `until` came, and then for two seconds' more of them, in which a
/// doubled one would come too.
async fn all_come(
    drain: &Drain,
    schedules: &BTreeMap<String, (DateTime<Utc>, i64)>,
    until: DateTime<Utc>,
) {
    let all = expected(schedules, until);
    let missing = || -> Vec<String> {
        let taken: BTreeSet<String> = drain.taken().into_iter().map(|job| job.nonce).collect();
        all.difference(&taken).cloned().collect()
    };
    eventually(
        || format!("all {} fires came, missing {:?}", all.len(), missing()),
        || async { missing().is_empty().then_some(()) },
    )
    .await;
    let later = expected(schedules, repull::clock::now() + TimeDelta::seconds(2));
    let last = later.last().cloned().unwrap_or_default();
    let millis: i64 = later
        .iter()
        .filter_map(|id| id.rsplit('-').next()?.parse().ok())
        .max()
        .unwrap_or(0);
    eventually(
        || format!("fires go on until `{last}`"),
        || async {
            let newest = drain
                .taken()
                .into_iter()
                .filter_map(|job| job.nonce.rsplit('-').next()?.parse::<i64>().ok())
                .max()?;
            (newest >= millis).then_some(())
        },
    )
    .await;
}

async fn put_many(
    world: &World,
    count: usize,
    millis: i64,
) -> BTreeMap<String, (DateTime<Utc>, i64)> {
    let mut schedules = BTreeMap::new();
    for number in 0..count {
        let id = format!("s{number}");
        let from = world
            .put(json!({
                "id": id,
                "trigger": {"every": {"interval": format!("{millis}ms"), "anchor": "1970-01-01T00:00:00Z"}},
                "job": {"task": "count", "args": {"number": number}},
            }))
            .await;
        schedules.insert(id, (from, millis));
    }
    schedules
}

/// Each fire until `until` came exactly once, and none came that should not have.
fn check(drain: &Drain, schedules: &BTreeMap<String, (DateTime<Utc>, i64)>, until: DateTime<Utc>) {
    let taken = drain.taken();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for job in &taken {
        *counts.entry(job.nonce.as_str()).or_default() += 1;
    }
    let doubled: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(doubled.is_empty(), "doubled: {doubled:?}");
    let expected = expected(schedules, until);
    let lost: Vec<_> = expected
        .iter()
        .filter(|id| !counts.contains_key(id.as_str()))
        .collect();
    assert!(
        lost.is_empty(),
        "{} of {} lost: {lost:?}",
        lost.len(),
        expected.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_loses_no_fire_and_doubles_none() {
    let mut world = World::start().await;
    world.scheduler("first");
    world.logged("first", "took over").await;
    let schedules = put_many(&world, 20, 100).await;
    let drain = world.drain().await;
    world.scheduler("second");
    drain.reached(200).await;
    world.logged("second", "scheduler started").await;
    world.kill("first");
    world.logged("second", "took over").await;
    let until = repull::clock::now();
    all_come(&drain, &schedules, until).await;
    world.stop("second").await;
    check(&drain, &schedules, until);
}

/// Puts schedules under load through `trouble`, with a second scheduler at hand, and checks.
async fn through(trouble: impl AsyncFnOnce(&mut World)) {
    through_on(World::start().await, trouble).await;
}

async fn through_on(mut world: World, trouble: impl AsyncFnOnce(&mut World)) {
    world.scheduler("first");
    world.logged("first", "took over").await;
    let schedules = put_many(&world, 20, 100).await;
    let drain = world.drain().await;
    world.scheduler("second");
    world.logged("second", "scheduler started").await;
    drain.reached(200).await;
    trouble(&mut world).await;
    let until = repull::clock::now();
    all_come(&drain, &schedules, until).await;
    check(&drain, &schedules, until);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_leader_that_wakes_up_doubles_nothing() {
    through(async |world: &mut World| {
        world.signal("first", "-STOP");
        world.logged("second", "took over").await;
        world.signal("first", "-CONT");
        world.logged("first", "stepping down").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_comes_back_loses_and_doubles_nothing() {
    through(async |world: &mut World| {
        world.restart_server();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_and_a_leader_that_die_together_lose_and_double_nothing() {
    through(async |world: &mut World| {
        world.kill("first");
        world.restart_server();
        world.logged("second", "took over").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_stopped_hands_over_at_once() {
    through(async |world: &mut World| {
        world.stop("first").await;
        let stopped = std::time::Instant::now();
        world.logged("second", "took over").await;
        assert!(stopped.elapsed() < std::time::Duration::from_secs(1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_leader_of_jobs_is_killed_loses_and_doubles_nothing() {
    let world = World::with_nodes(3).await;
    through_on(world, async |world: &mut World| {
        let leader = world.leader_of("REPULL_JOBS").await;
        world.kill_node(leader);
        let now = repull::clock::now();
        eventually("some time passes without it", || async {
            (repull::clock::now() > now + TimeDelta::seconds(8)).then_some(())
        })
        .await;
        world.start_node(leader);
    })
    .await;
}

/// Catching up takes the scheduler several writes of its watermark, in which those that were stuck
/// come free one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn schedules_that_were_stuck_for_long_catch_up_with_the_watermark_and_lose_nothing() {
    let mut world = World::start().await;
    world.scheduler("first");
    world.logged("first", "took over").await;
    let stream = world.client.stream_handle("REPULL_JOBS").await.unwrap();
    let config = stream.get_info().await.unwrap().config;
    let full = async_nats::jetstream::stream::Config {
        max_bytes: 1,
        ..config.clone()
    };
    let jetstream = world.client.jetstream();
    jetstream.update_stream(full).await.unwrap();
    let end = repull::clock::now() + TimeDelta::seconds(10);
    let mut schedules = BTreeMap::new();
    for number in 0..40 {
        let id = format!("s{number}");
        let every = json!({"interval": "20ms", "anchor": "1970-01-01T00:00:00Z"});
        let spec = json!({
            "id": id,
            "trigger": {"every": every, "end": end.to_rfc3339()},
            "job": {"task": "count"},
        });
        schedules.insert(id, (world.put(spec).await, 20));
    }
    let bucket = Bucket::Watermark.name(world.client.namespace());
    let bucket = jetstream.get_key_value(bucket).await.unwrap();
    eventually(
        "the watermark leaves them behind until their end",
        || async {
            let entry = bucket.get("0-of-1").await.unwrap()?;
            let mark: serde_json::Value = serde_json::from_slice(&entry).unwrap();
            let up_to: DateTime<Utc> = mark["up_to"].as_str()?.parse().ok()?;
            (mark["held"].as_object()?.len() == schedules.len() && up_to > end).then_some(())
        },
    )
    .await;
    let drain = world.drain().await;
    jetstream.update_stream(config).await.unwrap();
    let all = expected(&schedules, end);
    let missing = || all.len() - drain.count();
    eventually(
        || format!("all {} fires came, {} are missing", all.len(), missing()),
        || async { (drain.count() >= all.len()).then_some(()) },
    )
    .await;
    check(&drain, &schedules, end);
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_spread_over_schedulers_and_are_taken_over() {
    let mut world = World::start().await;
    let four = ["--shards", "4"];
    world.scheduler_with("first", &four);
    world.spread(&[("first", 4)]).await;
    let schedules = put_many(&world, 20, 100).await;
    let drain = world.drain().await;
    world.scheduler_with("second", &four);
    world.spread(&[("first", 2), ("second", 2)]).await;
    world.scheduler_with("third", &four);
    // Two are the share of each of three as well, so nobody gives one back.
    world.logged("third", "scheduler started").await;
    world.kill("first");
    world.spread(&[("second", 2), ("third", 2)]).await;
    let until = repull::clock::now();
    all_come(&drain, &schedules, until).await;
    check(&drain, &schedules, until);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_number_of_shards_goes_on_where_the_last_one_was() {
    let mut world = World::start().await;
    world.scheduler("first");
    world.spread(&[("first", 1)]).await;
    let schedules = put_many(&world, 20, 100).await;
    let drain = world.drain().await;
    drain.reached(100).await;
    world.kill("first");
    let bucket = Bucket::Watermark.name(world.client.namespace());
    let bucket = world
        .client
        .jetstream()
        .get_key_value(bucket)
        .await
        .unwrap();
    bucket
        .put("shards", r#"{"count": 3}"#.into())
        .await
        .unwrap();
    world.scheduler("second");
    world.spread(&[("second", 3)]).await;
    let until = repull::clock::now();
    all_come(&drain, &schedules, until).await;
    check(&drain, &schedules, until);
    assert!(bucket.get("0-of-1").await.unwrap().is_none());
}
