//! Progress, log and outcome of a job, seen the moment they are told.

use repull::wire::EventKind;
use repull_tests::{DEADLINE, Toward, World, job, job_with_id};
use repull_worker::Context;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::inside;

/// The job goes on only when its follower has printed what it told: nothing is shown at the end alone.
#[tokio::test]
async fn a_follower_sees_progress_and_log_while_the_job_runs() {
    let world = World::start().await;
    let (go, going) = watch::channel(false);
    let _worker = inside(&world, |builder| {
        builder.task("report", move |context: Context, (): ()| {
            let mut going = going.clone();
            async move {
                context.progress(0.25, "a quarter");
                context.log("reading the ledger");
                going.wait_for(|going| *going).await?;
                Ok("done")
            }
        })
    })
    .await;
    let enqueued = world
        .client()
        .enqueue(job_with_id("report", &Value::Null, "r"))
        .await;
    assert!(enqueued.unwrap().is_new);

    let follow = ["job", "show", "r", "--follow"];
    let mut follower = world
        .process(repull_tests::Binary::Cli)
        .args(follow)
        .spawn();
    follower.wait_for_line("a quarter", DEADLINE).await;
    follower.wait_for_line("reading the ledger", DEADLINE).await;
    assert!(follower.is_running(), "it goes on with the job");
    go.send_replace(true);
    follower.wait_for_line("succeeded", DEADLINE).await;
    assert!(follower.wait_exit(DEADLINE).await.success());
}

/// The server pushes the outcome: a wait asks a handful of times in seconds, not a hundred.
#[tokio::test]
async fn a_wait_is_told_of_the_outcome_and_does_not_poll() {
    let world = World::builder().intercepted().start().await;
    let url = world.server_url();
    let _worker = world.worker().url(&url).start().await;
    let sleep = job_with_id("sleep", &json!({"ms": 3_000}), "s");
    world.client().enqueue(sleep).await.unwrap();

    let waited = world.cli(&["job", "wait", "s", "--json"]).await.success();

    assert_eq!(waited.json()["event"], "succeeded");
    let asked = world
        .interceptor()
        .seen(Toward::Server, "$JS.API.*.MSG.GET.REPULL_RESULTS");
    assert!(asked.len() <= 12, "it asked {} times", asked.len());
    let told = world
        .interceptor()
        .seen(Toward::Client, "repull.results.default.sleep.s");
    assert_eq!(told.len(), 1, "the outcome was pushed to it");
}

/// What others may consume: every event of the whole life, in one stream, in order.
#[tokio::test]
async fn the_events_of_a_whole_life_are_a_stream() {
    let world = World::start().await;
    let _scheduler = world.scheduler().start().await;
    let subject = format!("{}.results.>", world.namespace());
    let mut pushed = world.nats().subscribe(subject).await.unwrap();
    world.nats().flush().await.unwrap();
    let _worker = world.worker().start().await;
    let mut failing = job("fail", &json!({"times": 2}));
    failing.backoff = "10ms,1,10ms".parse().ok();
    world.client().enqueue(failing).await.unwrap();

    let mut kinds = Vec::new();
    while kinds.last() != Some(&"succeeded".to_owned()) {
        let next = futures_util::StreamExt::next(&mut pushed);
        let event = tokio::time::timeout(DEADLINE, next).await.unwrap().unwrap();
        let kind = event
            .headers
            .unwrap()
            .get("Repull-Event")
            .unwrap()
            .to_string();
        kinds.push(kind);
    }
    let retrying = EventKind::Retrying.to_string();
    assert_eq!(kinds, [retrying.clone(), retrying, "succeeded".to_owned()]);
}
