//! Producers in other languages, which know nothing of Repull but `docs/WIRE.md`.
//!
//! The programs are those of `docs/guides/languages`, as they are. Each runs where its toolchain and
//! its NATS client are at hand or can be had; a machine without them, or without a network, says what
//! it left out and goes on.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use repull::wire::EventKind;
use repull_tests::{DEADLINE, World, outcome_at, repository};
use serde_json::{Value, json};
use tokio::process::Command;

/// How long a package manager may take before the machine counts as offline.
const INSTALL_TIME: Duration = Duration::from_secs(180);

/// Runs a command to its end; the error is what it said, or why it did not start.
async fn run(command: &mut Command, within: Duration) -> Result<String, String> {
    let shown = format!("{:?}", command.as_std());
    let output = tokio::time::timeout(within, command.kill_on_drop(true).output());
    match output.await {
        Err(_) => Err(format!("not within {within:?}: {shown} ends")),
        Ok(Err(error)) => Err(format!("cannot run {shown}: {error}")),
        Ok(Ok(output)) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{shown} ended with {}:\n{said}", output.status))
        }
    }
}

/// Where what is installed for these tests stays between runs.
fn installed(language: &str) -> PathBuf {
    let folder = repository().join("target/languages").join(language);
    std::fs::create_dir_all(&folder).expect("a folder for what is installed");
    folder
}

/// The folder of a language's guide.
fn guide(language: &str) -> PathBuf {
    repository().join("docs/guides/languages").join(language)
}

fn skipped(language: &str, why: &str) {
    eprintln!("skipped: the producer in {language}: {why}");
}

/// Lets a producer enqueue onto a worker and read the outcome; then a second one of the same id,
/// which is refused while the first one waits.
async fn produces(language: &str, producer: impl Fn() -> Command) {
    let world = World::start().await;
    let enqueue = async |id: &str| {
        let mut command = producer();
        command
            .arg(id)
            .env("NATS_URL", world.url())
            .env("REPULL_NAMESPACE", world.namespace());
        run(&mut command, 2 * DEADLINE).await
    };
    let waiting = format!("{}.jobs.default.echo.waiting", world.namespace());
    let there = world.jetstream().publish(waiting, "1".into()).await;
    there.unwrap().await.unwrap();
    let refused = enqueue("waiting")
        .await
        .expect_err("a job of this id is queued");
    assert!(refused.contains("queued or running already"), "{refused}");

    let _worker = world.worker().start().await;
    let output = enqueue("mine")
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let answer: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(
        answer,
        json!({"outcome": "succeeded", "attempt": 1, "value": {"from": language}})
    );
}

#[tokio::test]
async fn a_producer_in_python_enqueues_and_reads_the_outcome() {
    let folder = installed("python");
    let python = folder.join("bin/python");
    let has_client =
        async || run(Command::new(&python).args(["-c", "import nats"]), DEADLINE).await;
    if has_client().await.is_err() {
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv"]).arg(&folder);
        if let Err(why) = run(&mut venv, INSTALL_TIME).await {
            return skipped("Python", &why);
        }
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--requirement"])
            .arg(guide("python").join("requirements.txt"));
        if let Err(why) = run(&mut pip, INSTALL_TIME).await {
            return skipped("Python", &why);
        }
    }
    produces("python", || {
        let mut command = Command::new(&python);
        command.arg(guide("python").join("producer.py"));
        command
    })
    .await;
}

#[tokio::test]
async fn a_producer_in_go_enqueues_and_reads_the_outcome() {
    let program = installed("go").join("producer");
    let mut build = Command::new("go");
    build
        .args(["build", "-mod=readonly", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(guide("go"))
        .env("GOFLAGS", "")
        .env("GOTOOLCHAIN", "local");
    let mut download = Command::new("go");
    download
        .args(["mod", "download"])
        .current_dir(guide("go"))
        .env("GOTOOLCHAIN", "local");
    if let Err(why) = run(&mut download, INSTALL_TIME).await {
        return skipped("Go", &why);
    }
    // What was downloaded must build: this is no matter of the network any more.
    run(&mut build, INSTALL_TIME)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    produces("go", || Command::new(&program)).await;
}

#[tokio::test]
async fn a_producer_in_javascript_enqueues_and_reads_the_outcome() {
    // Node looks for packages beside the program, so both are copied out of the guide.
    let folder = installed("node");
    for name in ["package.json", "producer.js"] {
        std::fs::copy(guide("node").join(name), folder.join(name)).expect("the guide's file");
    }
    if let Err(why) = run(Command::new("node").arg("--version"), DEADLINE).await {
        return skipped("JavaScript", &why);
    }
    if !folder.join("node_modules/nats").is_dir() {
        let mut install = Command::new("npm");
        install
            .args(["install", "--no-audit", "--no-fund", "--no-package-lock"])
            .current_dir(&folder);
        if let Err(why) = run(&mut install, INSTALL_TIME).await {
            return skipped("JavaScript", &why);
        }
    }
    produces("node", || {
        let mut command = Command::new("node");
        command.arg("producer.js").current_dir(&folder);
        command
    })
    .await;
}

/// The `nats` CLI, on PATH or among the project's own tools.
async fn nats_cli() -> Option<PathBuf> {
    let own = repository().join(".tools/nats");
    for path in [own.as_path(), Path::new("nats")] {
        let version = run(Command::new(path).arg("--version"), DEADLINE).await;
        if version.is_ok() {
            return Some(path.to_owned());
        }
    }
    None
}

#[tokio::test]
async fn a_job_of_the_nats_cli_runs_and_its_reports_name_it() {
    let Some(program) = nats_cli().await else {
        return skipped("shell", "there is no `nats` on PATH or in .tools");
    };
    let world = World::start().await;
    let nats = async |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command
            .args(["--server", &world.url()])
            .args(arguments.iter().map(OsStr::new))
            .env("XDG_CONFIG_HOME", world.server().folder());
        let output = run(&mut command, DEADLINE).await;
        output.unwrap_or_else(|error| panic!("{error}"))
    };
    let subject = format!("{}.jobs.default.echo.hello-1", world.namespace());

    nats(&["pub", &subject, "{\"x\":1}"]).await;
    let subjects = nats(&["stream", "subjects", "REPULL_JOBS"]).await;
    assert!(subjects.contains(&subject), "{subjects}");
    let report = nats(&["stream", "report"]).await;
    assert!(report.contains("REPULL_JOBS"), "{report}");
    let buckets = nats(&["kv", "ls"]).await;
    assert!(buckets.contains("REPULL_SCHEDULES"), "{buckets}");

    let _scheduler = world.scheduler().start().await;
    let _worker = world.worker().start().await;
    let outcome = outcome_at(world.client(), &subject, DEADLINE).await;
    assert_eq!(
        (outcome.kind, outcome.value()),
        (EventKind::Succeeded, json!({"x": 1}))
    );
    let consumer = nats(&["consumer", "info", "REPULL_JOBS", "default"]).await;
    assert!(consumer.contains("workers of `default`"), "{consumer}");
}
