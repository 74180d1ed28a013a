//! The roles of `deploy/nats`: each may do all of its work, and nothing that is another's.
//!
//! The files are loaded as they are. That a role is wide enough is shown by the server's own log, in
//! which no violation may stand after all have worked; that it is tight enough, by trying.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::{ConnectOptions, Event};
use repull::client::Client;
use repull::connect::Settings;
use repull::wire::EventKind;
use repull_tests::{
    Binary, DEADLINE, NatsServer, Output, Process, ProcessBuilder, eventually, job, outcome,
    repository,
};
use serde_json::json;

const REFUSED_WITHIN: Duration = Duration::from_secs(15);

const ROLES: [&str; 5] = ["producer", "worker", "scheduler", "operator", "observer"];

fn password(user: &str) -> String {
    format!("{user}1secret")
}

/// The accounts of `deploy/nats` with passwords that are no secrets.
fn accounts() -> String {
    let read = |name: &str| {
        let path = repository().join("deploy/nats").join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let mut text = String::new();
    for user in ROLES.iter().chain(&["admin", "sys"]) {
        let variable = format!("REPULL_{}_PASSWORD", user.to_uppercase());
        text += &format!("{variable}: {}\n", password(user));
    }
    let include = "include \"permissions.conf\"";
    let accounts = read("accounts-password.conf");
    assert!(
        accounts.contains(include),
        "the accounts name no permissions"
    );
    text + &accounts.replace(include, &read("permissions.conf"))
}

/// A server with roles, and those who work there.
struct Fleet {
    server: NatsServer,
}

impl Fleet {
    async fn start() -> Self {
        let server = NatsServer::builder().config(&accounts()).start().await;
        Self { server }
    }

    fn process(&self, binary: Binary, role: &str) -> ProcessBuilder {
        let process = Process::builder(binary)
            .env("NATS_URL", self.server.url())
            .env("NATS_USER", role)
            .env("NATS_PASSWORD", password(role))
            .env("REPULL_INBOX_PREFIX", format!("_INBOX_{role}"));
        match binary {
            Binary::Cli | Binary::Example(_) => process,
            Binary::Worker | Binary::Scheduler => process.env("REPULL_HTTP", "127.0.0.1:0"),
        }
    }

    async fn cli(&self, role: &str, arguments: &[&str]) -> Output {
        self.cli_reading(role, arguments, b"").await
    }

    async fn cli_reading(&self, role: &str, arguments: &[&str], input: &[u8]) -> Output {
        let process = self.process(Binary::Cli, role);
        process.args(arguments).run(input).await
    }

    async fn client(&self, role: &str) -> Client {
        let settings = Settings {
            user: Some(role.to_owned()),
            password: Some(password(role)),
            inbox_prefix: Some(format!("_INBOX_{role}")),
            ..Settings::for_servers(self.server.url())
        };
        let client = Client::connect(&settings).await;
        client.unwrap_or_else(|error| panic!("cannot connect as {role}: {error}"))
    }

    /// Fails if the server refused anybody anything.
    #[track_caller]
    fn assert_nothing_was_refused(&self) {
        let mut lines = self.server.logs();
        lines.retain(|line| line.contains("Violation"));
        assert!(lines.is_empty(), "refused:\n{}", lines.join("\n"));
    }
}

#[tokio::test]
async fn with_its_role_each_does_all_of_its_work_and_is_refused_nothing() {
    let fleet = Fleet::start().await;
    let mut scheduler = fleet.process(Binary::Scheduler, "scheduler").start().await;
    let mut worker = fleet.process(Binary::Worker, "worker").start().await;
    let producer = fleet.client("producer").await;

    // A retry goes through the later stream and back, and the producer hears of the outcome.
    let mut failing = job("fail", &json!({"times": 1}));
    failing.backoff = Some("10ms,1,20ms".parse().unwrap());
    let enqueued = producer.enqueue(failing).await.unwrap();
    let ended = outcome(&producer, &enqueued, DEADLINE).await;
    assert_eq!((ended.kind, ended.attempt), (EventKind::Succeeded, 2));
    let delayed = job("echo", &json!(1))
        .not_before(chrono::Utc::now() + chrono::TimeDelta::milliseconds(300));
    let enqueued = producer.enqueue(delayed).await.unwrap();
    outcome(&producer, &enqueued, DEADLINE).await;
    // One that is given up, and one that takes the way of a unique id twice.
    let mut hopeless = job("fail", &json!({"times": 9}));
    hopeless.max_attempts = Some(1);
    let enqueued = producer.enqueue(hopeless).await.unwrap();
    outcome(&producer, &enqueued, DEADLINE).await;

    submit(&fleet).await;
    operate(&fleet).await;
    observe(&fleet).await;

    worker.terminate();
    assert!(worker.wait_exit(DEADLINE).await.success());
    scheduler.terminate();
    assert!(scheduler.wait_exit(DEADLINE).await.success());
    fleet.assert_nothing_was_refused();
}

/// To replace takes the rights of an operator. A producer that tries is told what became of its job.
#[tokio::test]
async fn a_producer_that_may_not_replace_is_told_what_became_of_its_job() {
    let fleet = Fleet::start().await;
    let _scheduler = fleet.process(Binary::Scheduler, "scheduler").start().await;
    let submit = ["job", "submit", "echo", "1", "--on-conflict", "replace"];
    for (more, said) in [
        (&["--id", "now"][..], "was not enqueued"),
        (&["--id", "later", "--in", "1h"][..], "was enqueued"),
    ] {
        let submit = [&submit[..], more].concat();
        let _ = fleet.cli("producer", &submit).await.success();
        let again = fleet.cli("producer", &submit).await;
        let again = again.code(1);
        assert!(again.stderr.contains(said), "no `{said}` in {again}");
        assert!(again.stderr.contains("Permissions"), "no reason in {again}");
    }
}

/// What a pipeline submits; doing the same lines again looks for each job, among the dead too.
async fn submit(fleet: &Fleet) {
    let one = [
        "job",
        "submit",
        "echo",
        "1",
        "--in",
        "1s",
        "--unique-key",
        "one",
        "--wait",
    ];
    let _ = fleet.cli("producer", &one).await.success();
    let many = ["job", "submit", "echo", "--lines", "-"];
    for known in ["0 there already", "2 there already"] {
        let submitted = fleet
            .cli_reading("producer", &many, b"1\n2\n")
            .await
            .success();
        assert!(
            submitted.stderr.contains(known),
            "no `{known}` in {submitted}"
        );
    }
}

/// What an operator does in a week.
async fn operate(fleet: &Fleet) {
    let operator = async |arguments: &[&str]| fleet.cli("operator", arguments).await.success();
    let pause = [
        "queue",
        "pause",
        "default",
        "--reason",
        "a look at the roles",
    ];
    let _ = operator(&pause).await;
    let waiting = [
        "job",
        "submit",
        "sleep",
        "{\"ms\": 3600000}",
        "--id",
        "long",
    ];
    let _ = operator(&waiting).await;
    let _ = operator(&["queue", "resume", "default"]).await;
    let running = async || {
        let shown = operator(&["job", "show", "long", "--json"]).await;
        shown.stdout.contains("running").then_some(())
    };
    eventually(DEADLINE, "the paused queue goes on", running).await;
    let _ = operator(&["job", "cancel", "long", "--reason", "enough"]).await;
    let cancelled = async || {
        let shown = operator(&["job", "show", "long", "--json"]).await;
        shown.stdout.contains("cancelled").then_some(())
    };
    eventually(DEADLINE, "the running job is cancelled", cancelled).await;

    let _ = operator(&["schedule", "add", "tick", "--every", "1s", "--task", "echo"]).await;
    let fired = async || {
        let jobs = operator(&["job", "list", "--state", "done", "--json"]).await;
        jobs.stdout.contains("tick-").then_some(())
    };
    eventually(DEADLINE, "the schedule fires", fired).await;
    for arguments in [
        &["schedule", "pause", "tick"][..],
        &["schedule", "list"],
        &["schedule", "delete", "tick"],
        &["job", "list"],
        &["queue", "show", "default"],
        &["worker", "list"],
        &["dead", "list"],
        &["topology", "check"],
        &["topology", "apply"],
    ] {
        let _ = operator(arguments).await;
    }
}

/// What a dashboard looks at.
async fn observe(fleet: &Fleet) {
    for arguments in [
        &["queue", "list"][..],
        &["worker", "list"],
        &["schedule", "list"],
        &["topology", "check"],
    ] {
        let _ = fleet.cli("observer", arguments).await.success();
    }
}

/// Connects as a role and tries each; the server must refuse them all, by their subjects.
async fn assert_refused(fleet: &Fleet, role: &str, publish: &[&str], subscribe: &[&str]) {
    let said = Arc::new(Mutex::new(Vec::new()));
    let options = ConnectOptions::with_user_and_password(role.to_owned(), password(role))
        .event_callback({
            let said = Arc::clone(&said);
            move |event| {
                if let Event::ServerError(error) = event {
                    said.lock().unwrap().push(error.to_string());
                }
                std::future::ready(())
            }
        });
    let client = options.connect(fleet.server.url()).await.unwrap();
    let mut subscriptions = Vec::new();
    for subject in subscribe {
        subscriptions.push(client.subscribe((*subject).to_owned()).await.unwrap());
    }
    for subject in publish {
        let subject = (*subject).to_owned();
        client.publish(subject, "{}".into()).await.unwrap();
    }
    let tried = publish
        .iter()
        .map(|subject| format!("Publish to \"{subject}\""));
    let tried = tried.chain(
        subscribe
            .iter()
            .map(|to| format!("Subscription to \"{to}\"")),
    );
    for violation in tried {
        let refused = async || {
            let said = said.lock().unwrap();
            said.iter()
                .any(|text| text.contains(&violation))
                .then_some(())
        };
        let what = format!("the role {role} is refused the {violation}");
        eventually(REFUSED_WITHIN, &what, refused).await;
    }
}

#[tokio::test]
async fn no_role_may_do_what_is_another_ones() {
    let fleet = Fleet::start().await;
    let _ = fleet
        .cli("scheduler", &["topology", "apply"])
        .await
        .success();
    let destroy = [
        "$JS.API.STREAM.DELETE.REPULL_JOBS",
        "$JS.API.STREAM.RESTORE.REPULL_JOBS",
    ];
    let change = [
        "$JS.API.STREAM.UPDATE.REPULL_JOBS",
        "$KV.REPULL_LEADER.shard-0",
    ];
    let steal = [
        "$JS.API.CONSUMER.CREATE.REPULL_JOBS.mine",
        "$JS.API.CONSUMER.DURABLE.CREATE.REPULL_JOBS.mine",
    ];
    let fetch = "$JS.API.CONSUMER.MSG.NEXT.REPULL_JOBS.default";
    let purge = "$JS.API.STREAM.PURGE.REPULL_JOBS";
    let settings = "$KV.REPULL_QUEUES.default";
    let schedule = "$KV.REPULL_SCHEDULES.nightly";
    let job = "repull.jobs.default.echo.one";

    let producer = [
        &destroy[..],
        &change,
        &steal,
        &[fetch, purge, settings, schedule],
    ]
    .concat();
    assert_refused(
        &fleet,
        "producer",
        &producer,
        &["_INBOX_worker.>", "repull.jobs.>"],
    )
    .await;
    let worker = [&destroy[..], &change, &steal, &[purge, settings, schedule]].concat();
    assert_refused(
        &fleet,
        "worker",
        &worker,
        &["_INBOX_producer.>", "repull.jobs.>"],
    )
    .await;
    let scheduler = [&destroy[..], &[change[0], fetch]].concat();
    assert_refused(&fleet, "scheduler", &scheduler, &["_INBOX_worker.>"]).await;
    assert_refused(
        &fleet,
        "operator",
        &destroy,
        &["_INBOX_worker.>", "_INBOX.>"],
    )
    .await;
    let read = "$JS.API.STREAM.MSG.GET.REPULL_JOBS";
    let observer = [
        &destroy[..],
        &change,
        &steal,
        &[fetch, purge, settings, schedule, job, read],
    ]
    .concat();
    assert_refused(&fleet, "observer", &observer, &["repull.>", "_INBOX.>"]).await;
}

/// Through the command line: the subject that is not allowed, and where the roles are explained.
#[tokio::test]
async fn a_command_beyond_its_role_says_what_is_not_allowed() {
    let fleet = Fleet::start().await;
    let _ = fleet
        .cli("scheduler", &["topology", "apply"])
        .await
        .success();
    for (role, arguments, subject) in [
        (
            "observer",
            &["job", "submit", "echo", "1"][..],
            "repull.jobs.default.echo.",
        ),
        ("producer", &["queue", "pause", "default"], "REPULL_QUEUES"),
        (
            "worker",
            &["schedule", "add", "s", "--every", "1s", "--task", "echo"],
            "REPULL_SCHEDULES",
        ),
    ] {
        let output = fleet.cli(role, arguments).await.code(1);
        for part in ["Permissions Violation", subject, "hint: the role"] {
            assert!(output.stderr.contains(part), "no `{part}` in {output}");
        }
    }
}

/// The easiest thing to forget with a role: the server's words alone name neither the option nor a cure.
#[tokio::test]
async fn a_command_without_the_inbox_of_its_role_is_told_of_the_option() {
    let fleet = Fleet::start().await;
    let command = fleet.process(Binary::Cli, "operator");
    let command = command.env("REPULL_INBOX_PREFIX", "_INBOX");
    let output = command.args(["queue", "list"]).run(b"").await.code(1);
    for part in ["Permissions Violation for Subscription", "--inbox-prefix"] {
        assert!(output.stderr.contains(part), "no `{part}` in {output}");
    }
    assert!(!output.stderr.contains("-js"), "{output}");
}

/// With its role a worker may make no consumer: it waits until the scheduler has.
#[tokio::test]
async fn a_worker_that_is_there_before_the_scheduler_waits_for_its_consumer() {
    let fleet = Fleet::start().await;
    let mut worker = fleet.process(Binary::Worker, "worker").spawn();
    worker.wait_for_line("can't start yet", DEADLINE).await;
    let (status, reason) = worker.http("/readyz").await;
    assert_eq!(status, 503);
    assert!(reason.contains("Permissions Violation"), "{reason}");
    assert_eq!(worker.http("/healthz").await.0, 200);

    let mut scheduler = fleet.process(Binary::Scheduler, "scheduler").start().await;

    worker.wait_until_ready().await;
    worker.stop().await;
    scheduler.stop().await;
}
