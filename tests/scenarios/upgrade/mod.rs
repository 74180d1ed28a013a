//! An upgrade: what an older version has stored is worked off by this one, and what a newer one may
//! store does not stop it.
//!
//! `tests/data/stored-<version>.json` holds what a released version left on its server. It is never
//! changed; the next version adds its own, made by
//! `cargo test -p repull-tests --test scenarios upgrade::record -- --ignored`.

mod mixed;
mod recording;

use std::time::Duration;

use chrono::Utc;
use repull::client::{Client, Expect};
use repull::id::{Priority, QueueName};
use repull::job::{Job, Timeout};
use repull::schedule::Schedule;
use repull::wire::{EventKind, Place};
use repull_tests::{
    DEADLINE, World, all_settled, assert_outcomes, enqueue_all, events, eventually, job,
    job_with_id, messages_in, outcome,
};
use serde_json::{Value, json};

use recording::Recording;

/// The versions of which there is a recording.
const VERSIONS: [&str; 1] = ["0.1.0"];

/// Jobs of a recording that wait, for a worker or for a time.
const WAITING: [&str; 5] = ["bare-1", "full-1", "urgent-1", "later-1", "retry-1"];

fn mail() -> QueueName {
    QueueName::new("mail").expect("a queue")
}

/// A job with everything that can be said of one.
fn full() -> Job {
    let mut full = job_with_id("echo", &json!({"x": 1}), "full-1").on(mail());
    full.max_attempts = Some(7);
    full.backoff = Some("1s,2,6h".parse().expect("a backoff"));
    full.timeout = Some(Timeout::After(Duration::from_secs(90)));
    full.keep_result = Some(true);
    full.content_type = Some("application/json".to_owned());
    full.headers.insert(
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    );
    full.headers.insert("tenant", "a");
    full
}

fn schedules() -> Vec<(&'static str, Value)> {
    let job = json!({"task": "echo", "args": {"n": 1}});
    vec![
        (
            "often",
            json!({"trigger": {"every": {"interval": "5s"}}, "job": job, "coalesce": "latest"}),
        ),
        (
            "nightly",
            json!({"trigger": {"cron": {"expression": "30 2 * * *", "timezone": "Europe/Berlin"}},
            "job": {"task": "echo", "queue": "mail", "max_attempts": 3, "timeout": "10m"},
            "coalesce": "latest", "misfire_grace": "1h", "overlap": "skip", "jitter": "30s",
            "description": "a report", "metadata": {"owner": "me"}}),
        ),
        (
            "monthly",
            json!({"trigger": {"calendar": {"months": 1, "time": "09:00:00",
            "timezone": "Europe/Berlin", "from": "2026-01-31"}}, "job": job, "coalesce": "earliest"}),
        ),
        (
            "either",
            json!({"trigger": {"any": [{"at": "2027-01-01T00:00:00Z"},
            {"cron": {"expression": "0 0 1 1 *"}}], "exclude": ["2028-01-01"]}, "job": job, "coalesce": "latest"}),
        ),
    ]
}

/// Makes the recording of this version: an installation in the middle of its work.
#[tokio::test]
#[ignore = "writes tests/data; run by hand before a release"]
async fn record() {
    let world = World::start().await;
    let client = world.client();
    client.limit_queue(&mail(), Some(50)).await.unwrap();
    let held = QueueName::new("held").expect("a queue");
    client.pause_queue(&held, "ops", "a look").await.unwrap();
    client
        .change_queue(&mail(), |settings| settings.lanes = true)
        .await
        .unwrap();
    let mut scheduler = world
        .scheduler()
        .arg("--queue")
        .arg("default,mail")
        .start()
        .await;
    let mut worker = world.worker().queue("default").queue("mail").start().await;
    for (id, text) in schedules() {
        let mut text = text;
        text["id"] = json!(id);
        let schedule = Schedule::from_json(id, text.to_string().as_bytes()).unwrap();
        client
            .put_schedule(schedule, Expect::Nothing)
            .await
            .unwrap();
    }
    let mut given_up = job_with_id("fail", &json!({"times": 9}), "dead-1");
    given_up.max_attempts = Some(1);
    let ended = vec![
        job_with_id("echo", &json!({"done": true}), "ok-1"),
        given_up,
    ];
    for enqueued in enqueue_all(client, ended).await {
        outcome(client, &enqueued, DEADLINE).await;
    }
    scheduler
        .wait_for_metric(
            "repull_scheduler_watermark_timestamp_seconds",
            "it is stored",
            |at| at > 0.0,
        )
        .await;
    scheduler.stop().await;
    let mut retry = job_with_id("fail", &json!({"times": 1}), "retry-1");
    retry.backoff = Some("1s,1,1s".parse().expect("a backoff"));
    client.enqueue(retry).await.unwrap();
    eventually(DEADLINE, "the retry waits", async || {
        (messages_in(client, Place::Later).await == 1).then_some(())
    })
    .await;
    worker.stop().await;
    let nats = world.nats();
    nats.publish("repull.jobs.default.echo.bare-1", r#"{"x":1}"#.into())
        .await
        .unwrap();
    let urgent = job_with_id("echo", &json!(1), "urgent-1")
        .on(mail())
        .with_priority(Priority::High);
    let later =
        job_with_id("echo", &json!(1), "later-1").not_before(Utc::now() + Duration::from_secs(2));
    enqueue_all(client, vec![full(), urgent, later]).await;

    Recording::read(client)
        .await
        .keep(env!("CARGO_PKG_VERSION"));
}

/// Puts a recording on a fresh server and lets this version go on with it; answers what the scheduler
/// logged.
async fn goes_on_with(recording: &Recording) -> String {
    let world = World::builder().without_topology().start().await;
    let client = world.connect().await;
    recording.replay(&client).await;
    let _ = world.cli(&["topology", "check"]).await.success();

    let mut scheduler = world
        .scheduler()
        .arg("--queue")
        .arg("default,mail")
        .start()
        .await;
    let mut worker = world.worker().queue("default").queue("mail").start().await;
    let today = enqueue_all(&client, vec![job("echo", &json!(1))]).await;
    outcome(&client, &today[0], DEADLINE).await;
    let before = fires_that_ran(&client).await;
    eventually(DEADLINE, "the schedule goes on", async || {
        (fires_that_ran(&client).await > before).then_some(())
    })
    .await;
    let often = "often".parse().expect("an id");
    client
        .pause_schedule(&often, "test", "enough")
        .await
        .unwrap();
    all_settled(&client, DEADLINE).await;

    let waiting: Vec<String> = WAITING.iter().map(|id| (*id).to_owned()).collect();
    let events = events(&client).await;
    assert_outcomes(&events, &waiting, EventKind::Succeeded);
    assert_outcomes(&events, &["ok-1".to_owned()], EventKind::Succeeded);
    assert_eq!(events["retry-1"].last().map(|event| event.attempt), Some(2));
    let dead = world.cli(&["dead", "list", "--json"]).await.success();
    assert!(dead.stdout.contains("dead-1"), "{dead}");
    let _ = world
        .cli(&["dead", "retry", "dead-1", "--yes"])
        .await
        .success();
    let held = world
        .cli(&["queue", "show", "held", "--json"])
        .await
        .success();
    assert!(held.stdout.contains("a look"), "{held}");
    for (id, _) in schedules() {
        let shown = world
            .cli(&["schedule", "show", id, "--json"])
            .await
            .success();
        assert!(shown.stdout.contains(id), "{shown}");
    }
    eventually(DEADLINE, "it is given up again", async || {
        (messages_in(&client, Place::Dead).await == 1).then_some(())
    })
    .await;
    worker.stop().await;
    scheduler.stop().await;
    scheduler.stderr()
}

/// How many fires of the schedule `often` have run.
async fn fires_that_ran(client: &Client) -> usize {
    let ids = events(client).await.into_keys();
    ids.filter(|id| id.starts_with("often-")).count()
}

#[tokio::test]
async fn what_older_versions_stored_is_worked_off() {
    for version in VERSIONS {
        goes_on_with(&Recording::of(version)).await;
    }
}

/// Fields that came with a version have a default: what was stored without them is as good.
#[tokio::test]
async fn what_was_stored_without_the_fields_of_today_is_worked_off() {
    let mut recording = Recording::of(VERSIONS[0]);
    let young = ["Repull-Enqueued-At", "Repull-Nonce", "Repull-Sequence"];
    for place in ["_JOBS", "_LATER", "_DEAD", "_RESULTS"] {
        for message in recording.messages_mut(place) {
            message
                .headers
                .retain(|(name, _)| !young.contains(&name.as_str()));
        }
    }
    for message in recording.messages_mut("_SCHEDULES") {
        let mut schedule: Value = serde_json::from_str(&message.body).expect("JSON");
        let fields = schedule.as_object_mut().expect("an object");
        fields.retain(|name, _| !["description", "metadata", "jitter"].contains(&name.as_str()));
        message.body = schedule.to_string();
    }
    goes_on_with(&recording).await;
}

/// Old beside new: what a newer version adds to headers, settings and streams is passed over. Only a
/// schedule says what shall happen, so one with a word that is not known is left alone, by name.
#[tokio::test]
async fn what_a_newer_version_would_add_stops_nothing() {
    let mut recording = Recording::of(VERSIONS[0]);
    for stream in &mut recording.streams {
        let new = ("repull.from-the-future".to_owned(), "1".to_owned());
        stream.config.metadata.extend([new]);
    }
    for place in ["_JOBS", "_LATER", "_DEAD", "_RESULTS"] {
        for message in recording.messages_mut(place) {
            let header = ("Repull-From-The-Future".to_owned(), "{\"a\":1}".to_owned());
            message.headers.push(header);
        }
    }
    for bucket in ["_QUEUES", "_WATERMARK"] {
        for message in recording.messages_mut(bucket) {
            let mut value: Value = serde_json::from_str(&message.body).expect("JSON");
            value["from_the_future"] = json!({"a": 1});
            message.body = value.to_string();
        }
    }
    let schedules = recording.streams.iter_mut();
    let mut schedules = schedules.filter(|stream| stream.config.name.ends_with("_SCHEDULES"));
    let schedules = schedules.next().expect("the schedules");
    let mut strange = schedules.messages[0].clone();
    strange.subject = strange.subject.replace("often", "strange");
    let mut text: Value = serde_json::from_str(&strange.body).expect("JSON");
    (text["id"], text["from_the_future"]) = (json!("strange"), json!(1));
    strange.body = text.to_string();
    schedules.messages.push(strange);
    let log = goes_on_with(&recording).await;
    for part in ["strange", "from_the_future"] {
        assert!(log.contains(part), "no `{part}` in\n{log}");
    }
}
