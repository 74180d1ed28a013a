//! `repull bench`, each measurement once with numbers so small that they say nothing: that it comes to
//! its end, and that its report has the figures that it should.

use repull_tests::{Binary, Process, nats_server};
use serde_json::Value;

/// Runs a measurement on a server of its own; its figures.
async fn bench(arguments: &[&str]) -> Vec<Value> {
    let output = Process::builder(Binary::Cli)
        .env("REPULL_NATS_SERVER", nats_server())
        .arg("bench")
        .args(arguments)
        .arg("--json")
        .run(b"")
        .await
        .success();
    // Whoever wants JSON wants no progress.
    assert_eq!(output.stderr, "", "{output}");
    let report = output.json();
    assert!(report["what"].is_string(), "{output}");
    assert!(report["server"].is_string(), "{output}");
    assert!(report["cores"].as_u64() > Some(0), "{output}");
    report["figures"].as_array().expect("figures").clone()
}

/// The figure of a name: Repull's values, and those it is held against.
fn figure(figures: &[Value], name: &str) -> (Vec<f64>, Vec<f64>) {
    let found = figures.iter().find(|figure| figure["name"] == name);
    let found = found.unwrap_or_else(|| panic!("no figure `{name}` in {figures:?}"));
    assert!(found["unit"].is_string() && found["against"].is_string());
    let values = |side: &str| -> Vec<f64> {
        let values = found[side].as_array().expect("values").iter();
        values
            .map(|value| value.as_f64().expect("a number"))
            .collect()
    };
    (values("repull"), values("raw"))
}

/// Asserts that a figure has a value of so many rounds on both sides, all above zero.
fn assert_measured(figures: &[Value], name: &str, rounds: usize) {
    let (repull, raw) = figure(figures, name);
    assert_eq!((repull.len(), raw.len()), (rounds, rounds), "{name}");
    assert!(
        repull.iter().chain(&raw).all(|value| *value > 0.0),
        "{name}: {repull:?} {raw:?}"
    );
}

/// Asserts that a figure has just that value, on each side that has any.
fn assert_is(figures: &[Value], name: &str, value: f64) {
    let (repull, raw) = figure(figures, name);
    assert!(!repull.is_empty(), "{name}");
    assert!(
        repull.iter().chain(&raw).all(|found| *found == value),
        "{name}: {repull:?} {raw:?}"
    );
}

const ONCE: [&str; 4] = ["--rounds", "1", "--warmup", "0"];

async fn once(arguments: &str) -> Vec<Value> {
    let words: Vec<&str> = arguments.split(' ').chain(ONCE).collect();
    bench(&words).await
}

#[tokio::test]
async fn jobs_are_counted_over_workers_in_one_process_and_in_several() {
    let figures = bench(&[
        "jobs",
        "--jobs=300",
        "--slots=4",
        "--workers=2",
        "--results",
        "--rounds=2",
        "--warmup=1",
    ])
    .await;
    for name in [
        "enqueue many",
        "work off",
        "work off against acks only",
        "work off against one worker",
    ] {
        assert_measured(&figures, name, 2);
    }
    let figures = once("jobs --jobs 300 --slots 4 --workers 2 --processes --memory").await;
    assert_measured(&figures, "work off", 1);
    assert_measured(&figures, "work off against one worker", 1);
}

#[tokio::test]
async fn a_side_can_be_measured_alone() {
    let figures = once("jobs --jobs 200 --slots 4 --only repull").await;
    let (repull, raw) = figure(&figures, "work off");
    assert_eq!((repull.len(), raw.len()), (1, 0));
    let figures = once("jobs --jobs 200 --slots 4 --only raw").await;
    let (repull, raw) = figure(&figures, "work off");
    assert_eq!((repull.len(), raw.len()), (0, 1));
}

#[tokio::test]
async fn latencies_are_measured_on_idle_and_loaded_workers_and_at_a_steady_rate() {
    for (arguments, name) in [
        ("latency --jobs 20", "enqueue to start"),
        ("latency --jobs 20 --rate 100", "enqueue to start"),
        ("steady --rate 200 --for 500ms --work 1ms", "due to start"),
    ] {
        let figures = once(arguments).await;
        for percentile in ["p50", "p90", "p99", "p99.9", "most"] {
            assert_measured(&figures, &format!("{name}, {percentile}"), 1);
        }
    }
}

#[tokio::test]
async fn slots_are_watched_while_they_are_busy() {
    let figures = once("utilisation --jobs 150 --slots 8 --mixed").await;
    for name in [
        "makespan",
        "busy slots",
        "free slot to next start, p50",
        "free slot to next start, p99",
    ] {
        assert_measured(&figures, name, 1);
    }
}

#[tokio::test]
async fn all_that_can_grow_is_measured_with_it_and_without() {
    let figures = once(
        "growth --jobs 200 --slots 16 --queues 60 --tasks 20 --payload 65536 --waiting 300 --retrying 100",
    )
    .await;
    for what in [
        "over 60 queues",
        "of 20 tasks",
        "of 65536 bytes",
        "of 65536 bytes, beside raw",
        "beside 300 waiting",
        "300 jobs",
        "beside 100 retrying",
    ] {
        assert_measured(&figures, &format!("work off, {what}"), 1);
    }
}

#[tokio::test]
async fn after_kills_nothing_is_lost() {
    let scheduler = Binary::Scheduler.path();
    let scheduler = format!("--scheduler={}", scheduler.display());
    let figures = bench(&[
        "recovery",
        "--rounds=1",
        "--workers=2",
        "--slots=2",
        "--lease=1s",
        "--scheduler-lease=2s",
        &scheduler,
    ])
    .await;
    for fault in ["worker killed", "server killed"] {
        assert_is(&figures, &format!("{fault}: lost"), 0.0);
    }
    assert_measured(&figures, "worker killed: next start elsewhere", 1);
    assert_measured(&figures, "worker killed: its last job runs again", 1);
    assert_measured(&figures, "server killed: no start for", 1);
    let (next, _) = figure(&figures, "scheduler killed: next fire");
    assert!(next.iter().all(|seconds| *seconds > 0.0), "{next:?}");
    assert_is(&figures, "scheduler killed: fires lost", 0.0);
    assert_is(&figures, "scheduler killed: fires twice", 0.0);
}
