//! Traces from whoever makes a job to whoever runs it, as a collector sees them.

mod collector;

use std::time::Duration;

use repull::client::Expect;
use repull::schedule::Schedule;
use repull::wire::EventKind;
use repull_tests::{
    Binary, DEADLINE, ProcessBuilder, World, enqueue_all, job, outcome, outcome_at,
};
use serde_json::json;

use collector::Collector;

/// Kinds of spans as OTLP numbers them.
const PRODUCER: u64 = 4;
const CONSUMER: u64 = 5;

const TASKS: &str = r#"
builtins = true
[tasks.context]
exec = ["/bin/sh", "-c", 'printf "\"%s\"" "$TRACEPARENT"']
"#;

fn traced(process: ProcessBuilder, collector: &Collector) -> ProcessBuilder {
    process
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint)
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
}

async fn worker(world: &World, collector: &Collector) -> repull_tests::Process {
    let file = world.write_file("tasks.toml", TASKS);
    let worker = world.process(Binary::Worker).arg("--config").arg(file);
    traced(worker, collector).start().await
}

#[tokio::test]
async fn a_run_links_to_the_one_who_enqueued_it_and_hands_its_own_context_on() {
    let (world, collector) = (World::start().await, Collector::start().await);
    let mut worker = worker(&world, &collector).await;
    let submit = ["job", "submit", "context", "1", "--id", "t-1", "--wait"];

    let cli = traced(world.process(Binary::Cli).args(submit), &collector);
    let seen = cli.run(b"").await.success().json();
    worker.stop().await;

    let sent = collector.named("send default", 1).await.remove(0);
    let run = collector.named("process default", 1).await.remove(0);
    assert_eq!((sent.kind, sent.service.as_str()), (PRODUCER, "repull"));
    assert_eq!(
        (run.kind, run.service.as_str()),
        (CONSUMER, "repull-worker")
    );
    assert!(run.follows(&sent), "{run:?} is not linked to {sent:?}");
    assert_ne!(run.trace, sent.trace, "a trace of its own");
    assert_eq!(run.parent, "");
    for span in [&sent, &run] {
        assert_eq!(span.attribute("messaging.system"), "nats");
        assert_eq!(span.attribute("messaging.destination.name"), "default");
        assert_eq!(span.attribute("messaging.message.id"), "t-1");
        assert_eq!(span.attribute("repull.task"), "context");
    }
    assert_eq!(run.attribute("repull.attempt"), "1");
    assert_eq!(seen, json!(format!("00-{}-{}-01", run.trace, run.id)));
}

#[tokio::test]
async fn every_attempt_of_a_fire_and_its_way_through_the_wait_link_to_the_fire() {
    let (world, collector) = (World::start().await, Collector::start().await);
    let scheduler = traced(world.process(Binary::Scheduler), &collector);
    let mut scheduler = scheduler.start().await;
    let mut worker = worker(&world, &collector).await;
    let at = chrono::Utc::now() + Duration::from_millis(500);
    let text = json!({
        "id": "once",
        "trigger": {"at": at},
        "job": {"task": "fail", "args": {"times": 1}, "backoff": "10ms,1,20ms"},
    });
    let schedule = Schedule::from_json("once", text.to_string().as_bytes()).unwrap();
    let put = world
        .client()
        .put_schedule(schedule.clone(), Expect::Nothing)
        .await;
    put.unwrap();

    let runs = collector.named("process default", 2).await;

    let made = collector.named("create default", 1).await.remove(0);
    let moved = collector.named("forward default", 1).await.remove(0);
    assert_eq!(
        (made.kind, made.service.as_str()),
        (PRODUCER, "repull-scheduler")
    );
    assert!(
        runs.iter().all(|run| run.follows(&made)),
        "{runs:?}, {made:?}"
    );
    assert!(moved.follows(&made), "{moved:?} is not linked to {made:?}");
    let attempts: Vec<_> = runs
        .iter()
        .map(|run| run.attribute("repull.attempt"))
        .collect();
    assert_eq!(attempts, ["1", "2"]);
    assert_eq!((runs[0].status, runs[1].status), (2, 0), "{runs:?}");
    assert_eq!(runs[0].attribute("error.type"), "failed");
    worker.stop().await;
    scheduler.stop().await;
}

/// What the submitter brings goes with the job as it is.
#[tokio::test]
async fn a_context_that_the_submitter_brings_is_the_one_that_is_linked_to() {
    let (world, collector) = (World::start().await, Collector::start().await);
    let mut worker = worker(&world, &collector).await;
    let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let mut submitted = job("echo", &json!(1));
    let context = format!("00-{trace}-{span}-01");
    submitted.headers.insert("traceparent", context.as_str());
    submitted.headers.insert("tracestate", "vendor=1");

    let enqueued = enqueue_all(world.client(), vec![submitted]).await;
    let ended = outcome(world.client(), &enqueued[0], DEADLINE).await;

    assert_eq!(ended.kind, EventKind::Succeeded);
    let run = collector.named("process default", 1).await.remove(0);
    assert_eq!(run.links, [(trace.to_owned(), span.to_owned())]);
    worker.stop().await;
}

/// A context that is none, and a collector that is away, are no reason not to work.
#[tokio::test]
async fn neither_a_bad_context_nor_an_absent_collector_stops_a_job() {
    let world = World::start().await;
    let nobody = Collector::away();
    let mut worker = worker(&world, &nobody).await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("traceparent", "00-none-at-all");
    let subject = format!("{}.jobs.default.echo.bad", world.namespace());
    let nats = world.nats();
    let published = nats.publish_with_headers(subject.clone(), headers, "1".into());
    published.await.unwrap();

    let ended = outcome_at(world.client(), &subject, DEADLINE).await;

    assert_eq!(ended.kind, EventKind::Succeeded);
    worker.stop().await;
}
