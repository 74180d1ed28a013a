//! Unique jobs: by a key of chosen fields, over a period, and what becomes of a submit that finds one.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::join_all;
use repull::client::{Client, Enqueued};
use repull::job::Job;
use repull::unique::{Key, OnConflict};
use repull::wire::{EventKind, JobEvent, Place};
use repull_tests::{
    DEADLINE, World, all_settled, enqueue_all, events, eventually, job, messages_in, outcome,
};
use serde_json::json;

/// No test runs from one of these into the next, but for one moment in ten years.
const DECADE: Duration = Duration::from_secs(10 * 365 * 86_400);

fn invoice(customer: u32, submit: u32) -> Job {
    let args = json!({"customer": {"id": customer}, "submit": submit});
    let key = Key::fields(["customer.id"]);
    job("echo", &args).unique_by(&key).unwrap()
}

/// Several producers, each with a connection of its own, submit the same keys at the same time.
async fn submit_from_all(
    world: &World,
    producers: u32,
    submits: impl Fn(u32) -> Vec<Job>,
) -> Vec<Enqueued> {
    let clients: Vec<Client> = join_all((0..producers).map(|_| world.connect())).await;
    let each = clients.iter().zip(0..);
    let stored = each.map(|(client, number)| enqueue_all(client, submits(number)));
    join_all(stored).await.into_iter().flatten().collect()
}

fn outcomes(events: &HashMap<String, Vec<JobEvent>>) -> Vec<EventKind> {
    let events = events.values().flatten().map(|event| event.kind);
    events.filter(|kind| kind.is_outcome()).collect()
}

#[tokio::test]
async fn producers_that_submit_the_same_keys_at_once_make_one_job_of_each() {
    let world = World::start().await;
    let submits = |producer| (0..40).map(|key| invoice(key, producer)).collect();

    let enqueued = submit_from_all(&world, 8, submits).await;

    assert_eq!(enqueued.iter().filter(|each| each.is_new).count(), 40);
    assert_eq!(messages_in(world.client(), Place::Jobs).await, 40);
    // The answer names the job that is there, so that whoever asked can wait for it.
    let _worker = world.worker().start().await;
    join_all(
        enqueued
            .iter()
            .map(|each| outcome(world.client(), each, DEADLINE)),
    )
    .await;
    assert_eq!(outcomes(&events(world.client()).await).len(), 40);
}

/// The jobs run while the producers go on submitting, so most submits find one that has ended.
#[tokio::test]
async fn a_period_has_one_job_of_a_key_also_when_it_has_ended() {
    let world = World::start().await;
    let _worker = world.worker().start().await;
    let submits = |producer| {
        let jobs = (0..200).map(|number| invoice(number % 10, producer));
        jobs.map(|job| job.unique_for(DECADE).unwrap()).collect()
    };

    let enqueued = submit_from_all(&world, 4, submits).await;

    assert_eq!(enqueued.iter().filter(|each| each.is_new).count(), 10);
    all_settled(world.client(), DEADLINE).await;
    let events = events(world.client()).await;
    assert_eq!((events.len(), outcomes(&events).len()), (10, 10));
    let mut late = invoice(3, 99).unique_for(DECADE).unwrap();
    late.run_at = Some(repull::clock::now() + Duration::from_secs(3600));
    let late = world.client().enqueue(late).await.unwrap();
    assert!(!late.is_new && late.place == Place::Results, "{late:?}");
    // The same key without a period is free as soon as its job has ended.
    assert!(world.client().enqueue(invoice(3, 99)).await.unwrap().is_new);
}

#[tokio::test]
async fn a_submit_replaces_what_waits_and_the_replaced_job_ends_cancelled() {
    let world = World::start().await;
    let client = world.client();
    let replace = |submit| invoice(1, submit).on_conflict(OnConflict::Replace);
    let hour = repull::clock::now() + Duration::from_secs(3600);

    // Later by later, later by queued, queued by queued.
    let first = client.enqueue(replace(1).not_before(hour)).await.unwrap();
    let second = client.enqueue(replace(2).not_before(hour)).await.unwrap();
    assert!(second.is_new && second.replaced && second.nonce != first.nonce);
    let third = client.enqueue(replace(3)).await.unwrap();
    assert!(third.is_new && third.replaced && third.place == Place::Jobs);
    let fourth = client.enqueue(replace(4)).await.unwrap();
    assert!(fourth.is_new && fourth.replaced);
    assert_eq!(messages_in(client, Place::Jobs).await, 1);
    assert_eq!(messages_in(client, Place::Later).await, 0);
    for replaced in [&first, &second, &third] {
        let outcome = outcome(client, replaced, DEADLINE).await;
        assert_eq!(outcome.kind, EventKind::Cancelled);
        assert!(outcome.text().contains("replaced"), "{}", outcome.text());
    }

    let _worker = world.worker().start().await;
    let outcome = outcome(client, &fourth, DEADLINE).await;
    assert_eq!(outcome.value()["submit"], 4);
}

#[tokio::test]
async fn a_job_that_runs_is_not_replaced_and_a_refused_submit_fails() {
    let world = World::start().await;
    let mut worker = world.worker().start().await;
    let client = world.client();
    let sleep = |on_conflict| {
        let sleep = job("sleep", &json!({"ms": 600_000}));
        let unique = sleep.unique_by(&Key::Text("only".into())).unwrap();
        unique.on_conflict(on_conflict)
    };
    let running = client.enqueue(sleep(OnConflict::Keep)).await.unwrap();
    worker
        .wait_for_metric("repull_worker_slots_running", "it runs", |busy| busy == 1.0)
        .await;

    let kept = client.enqueue(sleep(OnConflict::Replace)).await.unwrap();
    assert!(!kept.is_new && kept.nonce == running.nonce, "{kept:?}");
    let refused = client.enqueue(sleep(OnConflict::Refuse)).await.unwrap_err();
    assert!(
        refused.to_string().contains("holds a job already"),
        "{refused}"
    );
    client.cancel(&running.address.id, "the end").await.unwrap();
}

/// Whatever they take from each other: each job that was stored ends, as cancelled or done, and the
/// last word is one job's.
#[tokio::test]
async fn producers_that_replace_each_other_at_once_lose_nothing_in_silence() {
    let world = World::start().await;
    let submits = |producer| {
        let jobs = (0..4).map(|number| invoice(7, producer * 100 + number));
        jobs.map(|job| job.on_conflict(OnConflict::Replace))
            .collect()
    };

    let enqueued = submit_from_all(&world, 4, submits).await;
    let waiting = messages_in(world.client(), Place::Jobs).await;
    let _worker = world.worker().start().await;

    let stored = enqueued.iter().filter(|each| each.is_new);
    let ends = join_all(stored.map(|each| outcome(world.client(), each, DEADLINE))).await;
    assert_eq!(waiting, 1, "they leave one");
    let done = ends.iter().filter(|end| end.kind == EventKind::Succeeded);
    assert_eq!(done.count(), 1);
}

#[tokio::test]
async fn the_command_line_says_what_it_found() {
    let world = World::start().await;
    let submit = async |more: &[&str]| {
        let unique = ["--unique-fields", "customer", "--unique-for", "3650d"];
        let line = [
            &["job", "submit", "echo", "{\"customer\": 7}", "--json"],
            &unique[..],
            more,
        ];
        world.cli(&line.concat()).await
    };
    let first = submit(&[]).await.success().json();
    assert_eq!(
        (&first["is_new"], &first["state"]),
        (&json!(true), &json!("queued"))
    );
    let second = submit(&[]).await.success();
    assert_eq!(second.json()["is_new"], false);
    assert!(second.stderr.contains("is there already"), "{second}");
    let replaced = submit(&["--on-conflict", "replace"]).await.success().json();
    assert_eq!(
        (&replaced["replaced"], &replaced["id"]),
        (&json!(true), &first["id"])
    );
    let refused = submit(&["--on-conflict", "refuse"]).await.code(1);
    assert!(refused.stderr.contains("holds a job already"), "{refused}");

    let _worker = world.worker().start().await;
    all_settled(world.client(), DEADLINE).await;
    let done = eventually(DEADLINE, "the job has ended", async || {
        let found = submit(&[]).await.success();
        (found.json()["state"] == "done").then_some(found)
    })
    .await;
    assert!(done.stderr.contains("ended in this period"), "{done}");
}
