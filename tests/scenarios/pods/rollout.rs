//! Rollouts and removals: what a new version of the pods costs the jobs, which is nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::Utc;
use repull::client::{Client, Enqueued, Expect};
use repull::id::ScheduleId;
use repull::job::Job;
use repull::schedule::Schedule;
use repull::topology::Layout;
use repull_tests::{DEADLINE, World, all_settled, enqueue_all, events, eventually, job};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{DRAIN, Pod, assert_all_succeeded, assert_drained, run_again};

const WORKERS: usize = 4;
const SLOTS: u32 = 8;

/// How often the test's schedule fires.
const FIRES_EVERY: Duration = Duration::from_millis(500);

/// A job that has one attempt: were a rollout to use it up, the job would be dead.
fn once(ms: u64) -> Job {
    let mut job = job("sleep", &json!({"ms": ms}));
    job.max_attempts = Some(1);
    job
}

/// Longer than a drain: such a job has to move to another worker.
fn long() -> Job {
    once(u64::try_from((DRAIN * 3).as_millis()).expect("a few seconds"))
}

/// A load that goes on until it is told to end: for each two dozen short jobs a longer one, one that
/// outlasts a drain, and one that waits for a time. About three quarters of the slots are busy.
fn load(client: Client, end: CancellationToken) -> tokio::task::JoinHandle<Vec<Enqueued>> {
    tokio::spawn(async move {
        let mut enqueued = Vec::new();
        let mut pace = tokio::time::interval(Duration::from_millis(400));
        while !end.is_cancelled() {
            let mut jobs: Vec<Job> = (0..24).map(|_| once(100)).collect();
            let mut later = once(50);
            later.run_at = Some(Utc::now() + Duration::from_millis(1_500));
            jobs.extend([once(1_000), long(), later]);
            enqueued.extend(enqueue_all(&client, jobs).await);
            pace.tick().await;
        }
        enqueued
    })
}

/// A schedule with a fire twice a second.
async fn put_schedule(client: &Client) -> ScheduleId {
    let id: ScheduleId = "beat".parse().expect("an id");
    let text = json!({
        "id": id,
        "trigger": {"every": {"interval": format!("{}ms", FIRES_EVERY.as_millis())}},
        "job": {"task": "echo", "max_attempts": 1},
    });
    let schedule = Schedule::from_json(id.as_str(), text.to_string().as_bytes());
    let schedule = schedule.expect("a schedule");
    let put = client.put_schedule(schedule, Expect::Nothing).await;
    put.expect("a stored schedule");
    id
}

/// Asserts that no fire is missing between the first and the last that ran.
fn assert_no_gap(ids: impl Iterator<Item = String>) {
    let fires: BTreeSet<u64> = ids
        .filter_map(|id| id.strip_prefix("beat-")?.parse().ok())
        .collect();
    let step = u64::try_from(FIRES_EVERY.as_millis()).expect("half a second");
    let (first, last) = (fires.first().expect("a fire"), fires.last().expect("one"));
    let expected = (last - first) / step + 1;
    assert_eq!(fires.len() as u64, expected, "fires are missing: {fires:?}");
    assert!(expected > 4, "the schedule fired {expected} times only");
}

/// Every pod of both deployments is replaced under load, new ones first and old ones as soon as their
/// successor is ready, as `maxSurge` and `maxUnavailable: 0` have it.
#[tokio::test]
async fn a_rolling_restart_under_load_fails_and_loses_no_job() {
    let world = World::start().await;
    let mut schedulers = Vec::new();
    for _ in 0..2 {
        schedulers.push(Pod::scheduler(&world).await);
    }
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        workers.push(Pod::worker(&world, SLOTS).await);
    }
    let schedule = put_schedule(world.client()).await;
    let end = CancellationToken::new();
    let load = load(world.client().clone(), end.clone());
    let first = &mut workers[0].process;
    let running = "repull_worker_slots_running";
    first
        .wait_for_metric(running, "the load is under way", |running| running >= 4.0)
        .await;

    let mut ending = Vec::new();
    let mut next = Vec::new();
    for old in schedulers {
        next.push(Pod::scheduler(&world).await);
        ending.push(tokio::spawn(old.delete()));
    }
    for old in workers {
        next.push(Pod::worker(&world, SLOTS).await);
        ending.push(tokio::spawn(old.delete()));
    }
    let mut slowest = Duration::ZERO;
    for ended in ending {
        let ended = ended.await.expect("a pod that ends");
        assert_drained(&ended);
        slowest = slowest.max(ended.took);
    }
    end.cancel();
    let jobs = load.await.expect("the load");
    let client = world.client();
    let pause = client.pause_schedule(&schedule, "test", "the end").await;
    pause.expect("a paused schedule");
    all_settled(client, DEADLINE).await;

    let events = events(client).await;
    assert_all_succeeded(&events, &jobs);
    assert_eq!(run_again(&events), 0, "a drain used up attempts");
    assert_no_gap(events.keys().cloned());
    println!(
        "{} jobs and {} fires through the restart of {} pods; the slowest drain took {slowest:.1?}",
        jobs.len(),
        events.len() - jobs.len(),
        WORKERS + 2,
    );
}

/// A worker that ends is off the list when its process is gone, whatever it was about to write.
#[tokio::test]
async fn a_worker_that_has_drained_is_listed_no_more() {
    let world = World::start().await;
    for _ in 0..5 {
        let pod = Pod::worker(&world, 1).await;
        assert_drained(&pod.delete().await);
        let listed = world.client().workers().await.expect("the list");
        assert!(listed.is_empty(), "{listed:?}");
    }
}

/// A program that takes no notice of SIGTERM is killed by its worker, not left to the kubelet.
#[tokio::test]
async fn a_program_that_ignores_its_end_does_not_outlast_the_grace_period() {
    let world = World::start().await;
    let tasks =
        "[tasks.deaf]\nexec = [\"sh\", \"-c\", \"trap '' TERM INT; while :; do sleep 1; done\"]\n";
    let worker = world.worker().slots(2).drain(Duration::from_millis(500));
    let worker = worker.config(tasks).arg("--cancel-grace").arg("1s");
    let mut pod = Pod::of(worker.start().await);
    let jobs = enqueue_all(world.client(), vec![job("deaf", &json!({}))]).await;
    pod.process
        .wait_for_metric("repull_worker_slots_running", "it runs", |n| n == 1.0)
        .await;

    assert_drained(&pod.delete().await);

    let lane = jobs[0].address.lane.clone();
    eventually(DEADLINE, "the job waits again", async || {
        let info = world.client().lane_info(&lane).await.ok()??;
        (info.num_pending == 1 && info.num_ack_pending == 0).then_some(())
    })
    .await;
}

/// A grace period that is too short, or a node that is lost: what ran runs again elsewhere.
#[tokio::test]
async fn a_pod_that_is_killed_at_the_end_of_its_grace_period_loses_no_job() {
    let layout = Layout {
        ack_wait: Duration::from_secs(2),
        ..Layout::default()
    };
    let world = World::builder().layout(layout).start().await;
    let mut pod = Pod::worker(&world, 4).await.with_grace(DRAIN / 6);
    let sleep = json!({"ms": 4_000});
    let jobs = (0..6).map(|_| job("sleep", &sleep)).collect();
    let jobs = enqueue_all(world.client(), jobs).await;
    pod.process
        .wait_for_metric("repull_worker_slots_running", "four run", |n| n == 4.0)
        .await;
    let _heir = Pod::worker(&world, 4).await;

    let ended = pod.delete().await;

    assert!(ended.killed && !ended.clean, "{ended:?}");
    all_settled(world.client(), DEADLINE).await;
    let events = events(world.client()).await;
    assert_all_succeeded(&events, &jobs);
    assert_eq!(
        run_again(&events),
        4,
        "the jobs that ran in it, and no other"
    );
}
