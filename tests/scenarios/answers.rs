//! Bad input and bad surroundings: each is answered with what was wrong, at once, and nothing is lost.
//!
//! Through the real binaries. Wrong usage ends with 2, anything else that fails with 1; the reason is
//! on stderr behind `error:`, the next step behind `hint:` where one is known, and stdout stays empty
//! so that no program takes half an answer for data.

use std::time::{Duration, Instant};

use repull::wire::Place;
use repull_tests::{
    Binary, DEADLINE, FakeServer, NatsServer, Output, Process, Verdict, World, WorldBuilder,
    all_settled, eventually, messages_in, outcome_at,
};
use serde_json::json;

/// Longer than any answer may take that is not about waiting: two requests that time out.
const AT_ONCE: Duration = Duration::from_secs(20);

/// Asserts a failure that says all of `parts`, on stderr alone.
#[track_caller]
fn assert_failure(output: Output, code: i32, parts: &[&str]) {
    let output = output.code(code);
    assert_eq!(output.stdout, "", "data of a failure in {output}");
    let error = output
        .stderr
        .lines()
        .find(|line| line.starts_with("error: "));
    assert!(error.is_some(), "no `error:` line in {output}");
    for part in parts {
        assert!(output.stderr.contains(part), "no `{part}` in {output}");
    }
}

/// Runs `repull` against any address.
async fn cli_at(url: &str, arguments: &[&str]) -> Output {
    let process = Process::builder(Binary::Cli).env("NATS_URL", url);
    let started = Instant::now();
    let output = process.args(arguments).run(b"").await;
    assert!(started.elapsed() < AT_ONCE, "it took too long: {output}");
    output
}

/// Starts a worker and a scheduler at an address; both must end with that reason. The worker is told
/// not to wait for better times.
async fn both_end_with(url: &str, parts: &[&str]) {
    for binary in [Binary::Worker, Binary::Scheduler] {
        let process = Process::builder(binary).env("NATS_URL", url);
        let mut process = process.env("REPULL_START_TIMEOUT", "0s").spawn();
        let status = process.wait_exit(AT_ONCE).await;
        let log = process.stderr();
        assert_eq!(status.code(), Some(1), "{log}");
        for part in parts {
            assert!(
                log.contains(part),
                "no `{part}` in the log of {binary:?}:\n{log}"
            );
        }
    }
}

#[tokio::test]
async fn a_bad_trigger_is_refused_with_its_field_when_it_is_written() {
    let world = World::start().await;
    let add = async |trigger: &[&str]| {
        let arguments = [&["schedule", "add", "s", "--task", "echo"], trigger].concat();
        world.cli(&arguments).await
    };

    let bad_minute = add(&["--cron", "61 * * * *"]).await;
    assert_failure(
        bad_minute,
        2,
        &["cron.expression", "minute", "`61`", "expected 0 to 59"],
    );
    let never = add(&["--cron", "0 0 31 2 *"]).await;
    assert_failure(never, 2, &["`0 0 31 2 *`", "does not exist"]);
    let no_zone = add(&["--cron", "0 0 * * *", "--tz", "Mars/Olympus"]).await;
    assert_failure(no_zone, 2, &["timezone", "`Mars/Olympus`", "IANA"]);
    let no_time = add(&["--every", "0s"]).await;
    assert_failure(no_time, 2, &["every.interval", "`0s`"]);

    let listed = world.cli(&["schedule", "list", "--json"]).await.success();
    assert!(
        !listed.stdout.contains("\"s\""),
        "something was stored: {listed}"
    );
}

#[tokio::test]
async fn a_job_that_is_none_is_refused_before_anything_is_sent() {
    let world = World::start().await;
    let submit =
        async |arguments: &[&str]| world.cli(&[&["job", "submit"], arguments].concat()).await;

    assert_failure(
        submit(&["echo", "{\"x\":"]).await,
        2,
        &["not JSON", "line 1 column 5"],
    );
    assert_failure(
        submit(&["a..b", "1"]).await,
        2,
        &["task `a..b`", "expected 1 to 8 words"],
    );
    let id = submit(&["echo", "1", "--id", "a b"]).await;
    assert_failure(id, 2, &["job id `a b`", "expected 1 to 128 characters"]);
    let queue = submit(&["echo", "1", "--queue", "a.b"]).await;
    assert_failure(queue, 2, &["queue `a.b`", "expected 1 to 128 characters"]);
    let reserved = submit(&["echo", "1", "-H", "Repull-Attempt=3"]).await;
    assert_failure(reserved, 2, &["`Repull-Attempt=3`", "reserved"]);
    assert_eq!(messages_in(world.client(), Place::Jobs).await, 0);
}

/// Whoever reaches the stream past all clients leaves something that no handler can read.
#[tokio::test]
async fn undecodable_arguments_end_with_the_reason_and_stop_nothing() {
    let world = World::start().await;
    let _worker = world.worker().slots(1).start().await;
    let subject = |id: &str| format!("{}.jobs.default.sleep.{id}", world.namespace());
    for (id, body) in [("broken", "{\"ms\":"), ("good", "{\"ms\": 1}")] {
        let publish = world.jetstream().publish(subject(id), body.into()).await;
        publish.unwrap().await.unwrap();
    }

    let good = outcome_at(world.client(), &subject("good"), DEADLINE).await;
    assert!(good.kind.is_outcome());
    let show = async || {
        let shown = world.cli(&["dead", "list", "--json"]).await.success();
        shown.stdout.contains("broken").then_some(shown)
    };
    let dead = eventually(DEADLINE, "the broken job lies with the dead", show).await;
    assert!(dead.stdout.contains("line 1 column"), "no reason in {dead}");
    all_settled(world.client(), DEADLINE).await;
}

#[tokio::test]
async fn a_body_over_the_servers_limit_is_refused_with_both_sizes() {
    let world = World::builder()
        .server_config("max_payload: 8192")
        .start()
        .await;
    let large = json!("x".repeat(9_000)).to_string();

    let refused = world.cli(&["job", "submit", "echo", &large]).await;
    assert_failure(refused, 1, &["expected at most 8192", "max_payload"]);

    // The connection of a client that went too far is closed; ours never sends it.
    let fits = json!("x".repeat(4_000)).to_string();
    let _ = world.cli(&["job", "submit", "echo", &fits]).await.success();
    assert_eq!(messages_in(world.client(), Place::Jobs).await, 1);
}

#[tokio::test]
async fn no_server_is_named_with_the_address_that_was_tried() {
    let nobody = "nats://127.0.0.1:1";
    let submit = cli_at(nobody, &["job", "submit", "echo", "1"]).await;
    assert_failure(submit, 1, &[nobody, "refused", "hint: name a server"]);
    both_end_with(nobody, &["no connection to NATS", nobody]).await;
}

#[tokio::test]
async fn a_server_that_is_too_old_is_named_with_both_versions() {
    let old = FakeServer::builder()
        .version("2.9.0")
        .start(|_| Verdict::Pass);
    let submit = cli_at(&old.url(), &["job", "submit", "echo", "1"]).await;
    assert_failure(submit, 1, &["2.9.0", "at least 2.10.26", "hint: upgrade"]);
    both_end_with(&old.url(), &["2.9.0", "at least 2.10.26"]).await;
}

#[tokio::test]
async fn a_server_without_jetstream_is_told_from_one_that_is_away() {
    let server = NatsServer::builder().without_jetstream().start().await;
    let submit = cli_at(&server.url(), &["job", "submit", "echo", "1"]).await;
    assert_failure(
        submit,
        1,
        &[
            "JetStream is not available",
            "hint: start the server with `-js`",
        ],
    );
    both_end_with(&server.url(), &["JetStream is not available"]).await;
}

#[tokio::test]
async fn streams_that_are_not_there_are_missed_within_seconds() {
    let world = World::builder().without_topology().start().await;
    let submit = cli_at(&world.url(), &["job", "submit", "echo", "1"]).await;
    assert_failure(
        submit,
        1,
        &["`REPULL_JOBS` does not exist", "hint:", "topology apply"],
    );
}

#[tokio::test]
async fn a_stream_with_other_settings_is_left_alone_and_every_difference_is_named() {
    use async_nats::jetstream::stream::{Config, RetentionPolicy};
    let world = World::builder().without_topology().start().await;
    let client = world.connect().await;
    let theirs = Config {
        name: "REPULL_JOBS".into(),
        subjects: vec!["repull.jobs.>".into()],
        retention: RetentionPolicy::Limits,
        allow_direct: false,
        max_age: Duration::from_secs(60),
        ..Config::default()
    };
    client.jetstream().create_stream(theirs).await.unwrap();
    let settings = ["retention", "discard", "max_age", "allow_direct"];

    let apply = world.cli(&["topology", "apply"]).await;
    assert_failure(apply, 1, &settings);
    let check = world.cli(&["topology", "check", "--json"]).await.code(1);
    for setting in settings {
        assert!(check.stdout.contains(setting), "no `{setting}` in {check}");
    }
    let mut scheduler = world.scheduler().spawn();
    assert_eq!(scheduler.wait_exit(AT_ONCE).await.code(), Some(1));
    for setting in settings {
        let log = scheduler.stderr();
        assert!(log.contains(setting), "no `{setting}` in:\n{log}");
    }
    let now = client.jetstream().get_stream("REPULL_JOBS").await.unwrap();
    assert_eq!(now.cached_info().config.retention, RetentionPolicy::Limits);
}

/// Enqueues jobs of 60 KB until one is refused; answers how many were taken, and the refusal.
async fn fill(world: &World) -> (u64, Output) {
    let large = json!("x".repeat(60_000)).to_string();
    for taken in 0..100 {
        let output = world.cli(&["job", "submit", "echo", &large]).await;
        if output.status != 0 {
            return (taken, output);
        }
    }
    panic!("a hundred jobs of 60 KB fit under the limit");
}

/// Nothing of what was confirmed is lost, and once there is room again, jobs are taken again.
async fn full_and_emptied(builder: WorldBuilder, limit: impl AsyncFnOnce(&World), reason: &str) {
    let world = builder.start().await;
    limit(&world).await;

    let (taken, refused) = fill(&world).await;
    assert!(taken > 0, "not one fit: {refused}");
    assert_failure(refused, 1, &["is full", reason, "hint:"]);
    assert_eq!(messages_in(world.client(), Place::Jobs).await, taken);

    let _worker = world.worker().arg("--no-results").start().await;
    all_settled(world.client(), DEADLINE).await;
    let _ = world.cli(&["job", "submit", "echo", "1"]).await.success();
    all_settled(world.client(), DEADLINE).await;
}

#[tokio::test]
async fn a_stream_at_its_limit_refuses_and_forgets_nothing() {
    let limit = async |world: &World| {
        let stream = world.jetstream().get_stream("REPULL_JOBS").await.unwrap();
        let mut config = stream.cached_info().config.clone();
        config.max_bytes = 300_000;
        world.jetstream().update_stream(config).await.unwrap();
    };
    full_and_emptied(World::builder(), limit, "maximum bytes exceeded").await;
}

#[tokio::test]
async fn a_disk_quota_that_is_used_up_refuses_and_forgets_nothing() {
    let builder = World::builder().jetstream("max_file_store: 500KB\n");
    full_and_emptied(
        builder,
        async |_| (),
        "the storage of the server or the account",
    )
    .await;
}

const USERS: &str = r#"authorization { users = [
    { user: boss, password: "p@ss/word" }
    { user: reader, password: secret, permissions: {
        publish: { allow: ["$JS.API.INFO", "$JS.API.STREAM.INFO.*"] }, subscribe: { allow: ["_INBOX.>"] } } }
] }"#;

#[tokio::test]
async fn wrong_credentials_are_told_without_repeating_them() {
    let server = NatsServer::builder().config(USERS).start().await;
    let url = server.url_as("boss", "not-this-one");

    let submit = cli_at(&url, &["job", "submit", "echo", "1"]).await;
    assert!(
        !submit.stderr.contains("not-this-one"),
        "a secret is shown: {submit}"
    );
    assert_failure(submit, 1, &["refused the credentials", "hint:", "--creds"]);
    both_end_with(&url, &["refused the credentials"]).await;

    let right = server.url_as("boss", "p%40ss%2Fword");
    let _ = cli_at(&right, &["topology", "apply"]).await.success();
}

/// NATS answers a publish that is not allowed with silence, and the reason on another way.
#[tokio::test]
async fn a_missing_permission_is_told_by_its_subject_and_not_as_a_timeout() {
    let server = NatsServer::builder().config(USERS).start().await;
    let boss = server.url_as("boss", "p%40ss%2Fword");
    let _ = cli_at(&boss, &["topology", "apply"]).await.success();
    let reader = server.url_as("reader", "secret");

    let submit = cli_at(&reader, &["job", "submit", "echo", "1", "--id", "one"]).await;
    let violation = "Permissions Violation for Publish to";
    assert_failure(
        submit,
        1,
        &[violation, "repull.jobs.default.echo.one", "hint: the role"],
    );
    let pause = cli_at(&reader, &["queue", "pause", "default"]).await;
    assert_failure(pause, 1, &[violation, "hint: the role"]);

    let mut worker = Process::builder(Binary::Worker)
        .env("NATS_URL", &reader)
        .spawn();
    let line = worker.wait_for_line(violation, AT_ONCE).await;
    assert!(line.contains("REPULL"), "{line}");
}
