//! Metrics: the tables of `docs/METRICS.md` say what is exported, and the queues' numbers do not hang on
//! any worker.

use std::collections::BTreeMap;

use repull_tests::{
    DEADLINE, Metrics, Process, World, all_settled, enqueue_all, eventually, get, job, repository,
};
use serde_json::json;

/// Type and labels of a metric.
type Described = (String, Vec<String>);

/// The table of a program: `| name | type | labels | meaning |`, by name.
fn table(program: &str) -> BTreeMap<String, Described> {
    let text = std::fs::read_to_string(repository().join("docs/METRICS.md")).expect("the tables");
    let heading = format!("## `{program}`");
    let section = text.split_once(&heading).expect("the program's section").1;
    let section = section.split("\n## ").next().unwrap_or_default();
    let words = |cell: &str| -> Vec<String> {
        let words = cell.split('`').skip(1).step_by(2);
        words.map(str::to_owned).collect()
    };
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let name = words(cells[0]).remove(0);
        (name, (cells[1].to_owned(), words(cells[2])))
    })
    .collect()
}

/// What a process exports: its `# TYPE` lines, and the labels of its samples.
async fn exported(process: &mut Process) -> BTreeMap<String, Described> {
    let (_, text) = process.http("/metrics").await;
    let samples = Metrics::parse(&text);
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        else {
            continue;
        };
        let total = if kind == "counter" { "_total" } else { "" };
        let series = if kind == "histogram" { "_count" } else { total };
        let mut labels: Vec<String> = Vec::new();
        for (sample, _) in samples.iter() {
            let (sample_name, rest) = sample.split_once('{').unwrap_or((sample, ""));
            if sample_name == format!("{name}{series}") {
                let names = rest.split(',').filter_map(|pair| pair.split_once('='));
                labels.extend(names.map(|(label, _)| label.to_owned()));
            }
        }
        labels.sort();
        labels.dedup();
        found.insert(format!("{name}{total}"), (kind.to_owned(), labels));
    }
    found
}

/// Both are the same, but for what is only exported once it has happened.
fn assert_same(program: &str, exported: &BTreeMap<String, Described>, seldom: &[&str]) {
    let table = table(program);
    for (name, described) in exported {
        let row = table.get(name);
        let row = row.unwrap_or_else(|| panic!("`{name}` of `{program}` is in no table"));
        assert_eq!(row.0, described.0, "type of `{name}`");
        let mut labels = row.1.clone();
        labels.sort();
        if !described.1.is_empty() {
            assert_eq!(labels, described.1, "labels of `{name}`");
        }
    }
    let missing: Vec<_> = table
        .keys()
        .filter(|name| !exported.contains_key(*name) && !seldom.contains(&name.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "`{program}` does not export {missing:?}"
    );
}

#[tokio::test]
async fn the_tables_say_what_is_exported() {
    let world = World::start().await;
    let mut scheduler = world.scheduler().start().await;
    let mut worker = world.worker().slots(2).start().await;
    let jobs = (0..20).map(|n| job("echo", &json!(n))).collect();
    enqueue_all(world.client(), jobs).await;
    let add = ["schedule", "add", "beat", "--every", "1s", "--task", "echo"];
    let _ = world.cli(&add).await.success();
    scheduler
        .wait_for_metric("repull_scheduler_fires_total", "it has fired", |n| n > 0.0)
        .await;
    scheduler
        .wait_for_metric("repull_queue_workers", "it has seen the worker", |n| {
            n == 1.0
        })
        .await;

    // Told by the server when a pull ends without a job, half a minute later.
    let seldom = ["repull_worker_pull_statuses_total"];
    assert_same("repull-worker", &exported(&mut worker).await, &seldom);
    assert_same("repull-scheduler", &exported(&mut scheduler).await, &[]);
}

/// What a rule multiplies with, or takes the rate of, must be there before anything has happened.
#[tokio::test]
async fn a_worker_without_work_exports_its_pulls_and_that_it_is_connected() {
    let world = World::start().await;
    let mut worker = world.worker().start().await;

    let metrics = worker.metrics().await;

    let pulls = metrics.sum("repull_worker_pulls_total", &[("queue", "default")]);
    assert!(pulls.is_some());
    assert_eq!(metrics.value("repull_worker_connected"), 1.0);
    assert_eq!(metrics.value("repull_worker_draining"), 0.0);
}

/// Only the leader tells of queues, and goes on to when the last worker is gone.
#[tokio::test]
async fn the_numbers_of_a_queue_outlive_its_last_worker() {
    let world = World::start().await;
    let mut leader = world.scheduler().start().await;
    leader
        .wait_for_metric("repull_scheduler_leader", "it leads", |n| n == 1.0)
        .await;
    let mut standby = world.scheduler().start().await;
    let mut worker = world.worker().slots(3).start().await;
    enqueue_all(world.client(), vec![job("echo", &json!(1))]).await;
    all_settled(world.client(), DEADLINE).await;
    leader
        .wait_for_metric("repull_queue_worker_slots", "it sees the slots", |n| {
            n == 3.0
        })
        .await;
    worker.stop().await;
    let jobs = (0..7).map(|n| job("echo", &json!(n))).collect();
    enqueue_all(world.client(), jobs).await;

    let address = leader.http_address().await;
    eventually(
        DEADLINE,
        "the leader tells of a queue without workers",
        async || {
            let (_, text) = get(&address, "/metrics").await.ok()?;
            let metrics = Metrics::parse(&text);
            let of = |name: &str| metrics.sum(name, &[("queue", "default")]);
            let told = of("repull_queue_ready") == Some(7.0)
                && of("repull_queue_workers") == Some(0.0)
                && of("repull_queue_worker_slots") == Some(0.0)
                && of("repull_queue_waiting_pulls") == Some(0.0)
                && of("repull_queue_oldest_ready_age_seconds").is_some_and(|age| age > 0.0);
            told.then_some(())
        },
    )
    .await;
    let silent = standby.metrics().await;
    assert_eq!(silent.sum("repull_queue_ready", &[]), None, "told twice");
}
