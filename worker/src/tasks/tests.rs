//! Tasks of a file against real programs and a real HTTP server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use repull::job::{Job, Timeout};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::TaskFile;
use crate::builder::Worker;
use crate::run::tests::{attempt_of, client};
use crate::run::{Attempt, CancelReason, Ending, attempt};

/// What a condition may take before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(10);

/// A worker with one task `t`, by the lines of its table.
async fn worker(task: &str) -> Worker {
    let file = TaskFile::parse(&format!("[tasks.t]\n{task}")).unwrap();
    Worker::builder(client().await)
        .cancel_grace(Duration::from_secs(2))
        .task_file(file)
        .build()
        .unwrap()
}

/// A worker whose task `t` is a shell script.
async fn script(text: &str) -> Worker {
    worker(&format!("exec = [\"/bin/sh\", \"-c\", '''{text}''']")).await
}

fn job(args: &Value) -> Job {
    Job::json("t", args).unwrap()
}

async fn run(worker: &Worker, job: Job) -> Ending {
    run_attempt(worker, attempt_of(job)).await
}

async fn run_attempt(worker: &Worker, attempt_now: Attempt) -> Ending {
    attempt(&worker.registry, &worker.client, attempt_now).await
}

fn succeeded(ending: Ending) -> (String, Option<String>) {
    match ending {
        Ending::Succeeded {
            value,
            content_type,
        } => (String::from_utf8_lossy(&value).into_owned(), content_type),
        other => panic!("expected a success, found {other:?}"),
    }
}

/// Waits until a file that a script writes has content.
async fn content_of(path: &Path) -> String {
    let started = Instant::now();
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text,
            _ if started.elapsed() > PATIENCE => panic!("nothing in {} yet", path.display()),
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Waits until there is no process of this id, or only its remains.
async fn gone(pid: &str) {
    let started = Instant::now();
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim()));
        match status {
            Err(_) => return,
            Ok(status) if status.contains("State:\tZ") && !is_our_child(&status) => return,
            Ok(status) if started.elapsed() > PATIENCE => panic!("{pid} is still there: {status}"),
            Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

fn is_our_child(status: &str) -> bool {
    status.contains(&format!("PPid:\t{}\n", std::process::id()))
}

fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("repull-worker-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[tokio::test]
async fn a_program_gets_the_arguments_and_gives_the_value() {
    let echo = script("cat").await;
    let args = json!({"x": [1, 2]});
    assert_eq!(
        succeeded(run(&echo, job(&args)).await),
        (args.to_string(), None)
    );
    let text = script("echo hello").await;
    let (value, content_type) = succeeded(run(&text, job(&json!(1))).await);
    assert_eq!((value.as_str(), content_type.is_some()), ("hello", true));
    let ignores_its_input = script("exit 0").await;
    let large = job(&json!("x".repeat(1_000_000)));
    assert_eq!(succeeded(run(&ignores_its_input, large).await).0, "");
}

#[tokio::test]
async fn a_program_is_told_of_its_job_and_not_of_our_secrets() {
    let worker = worker(
        r#"
        exec = ["/bin/sh", "-c", "echo $REPULL_JOB_ID $REPULL_TASK $REPULL_QUEUE $REPULL_ATTEMPT $REPULL_MAX_ATTEMPTS $REPULL_SCHEDULE $LEVEL $REPULL_DEADLINE; pwd; env | grep -q '^PATH=' && echo inherited; env | cut -d= -f1 | grep NATS_"]
        success_codes = [0, 1]
        env = { LEVEL = "9" }
        cwd = "/"
        "#,
    )
    .await;
    let mut job = job(&json!(1)).with_id("j-1".parse().unwrap());
    job.schedule = Some("nightly".parse().unwrap());
    let (value, _) = succeeded(run(&worker, job).await);
    let lines: Vec<&str> = value.lines().collect();
    assert!(
        lines[0].starts_with("j-1 t default 1 3 nightly 9 20"),
        "{value}"
    );
    assert_eq!(&lines[1..], ["/", "inherited"]);
}

#[test]
fn our_own_variables_are_not_handed_on() {
    for name in ["NATS_PASSWORD", "NATS_URL", "REPULL_NAMESPACE"] {
        assert!(super::exec::is_ours(&name.into()), "{name}");
    }
    assert!(!super::exec::is_ours(&"PATH".into()));
}

#[tokio::test]
async fn exit_codes_decide() {
    let worker = worker(
        "exec = [\"/bin/sh\", \"-c\", 'read code; echo why >&2; exit $code']\nsuccess_codes = [0, 3]",
    )
    .await;
    for code in [0, 3] {
        assert!(matches!(
            run(&worker, job(&json!(code))).await,
            Ending::Succeeded { .. }
        ));
    }
    for code in [1, 75, 255] {
        let error = format!("`/bin/sh` ended with exit code {code}: why");
        assert_eq!(
            run(&worker, job(&json!(code))).await,
            Ending::Failed { error }
        );
    }
    for code in [64, 65] {
        let error = format!("`/bin/sh` ended with exit code {code}: why");
        assert_eq!(
            run(&worker, job(&json!(code))).await,
            Ending::Permanent { error }
        );
    }
    let killed = script("kill -9 $$").await;
    let error = "`/bin/sh` was killed by signal 9".to_owned();
    assert_eq!(run(&killed, job(&json!(1))).await, Ending::Failed { error });
}

#[tokio::test]
async fn a_flood_on_both_pipes_neither_blocks_nor_grows() {
    let worker = script(
        "head -c 3000000 /dev/zero | tr '\\0' x; head -c 3000000 /dev/zero | tr '\\0' y >&2",
    )
    .await;
    let (value, content_type) = succeeded(run(&worker, job(&json!(1))).await);
    assert_eq!(value.len(), worker.config.value_bytes_max);
    assert!(content_type.unwrap().starts_with("text/plain"));
}

#[tokio::test]
async fn a_timeout_ends_the_whole_group_and_leaves_no_zombie() {
    let folder = scratch("group");
    let pids = folder.join("pids");
    let text = format!(
        "trap '' TERM; sleep 1000 & child=$!; echo $$ $child > {}; wait; wait",
        pids.display()
    );
    let worker = script(&text).await;
    let mut job = job(&json!(1));
    job.timeout = Some(Timeout::After(Duration::from_millis(300)));
    let Ending::Failed { error } = run(&worker, job).await else {
        panic!("expected a failure");
    };
    assert!(
        error.starts_with("timed out after 300ms: `/bin/sh` "),
        "{error}"
    );
    for pid in content_of(&pids).await.split_whitespace() {
        gone(pid).await;
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_program_that_heeds_its_signal_ends_by_itself() {
    let folder = scratch("heeds");
    let ready = folder.join("ready");
    let text = format!(
        "trap 'echo saving >&2; exit 7' TERM; echo x > {}; while :; do sleep 0.01; done",
        ready.display()
    );
    let worker = script(&text).await;
    let attempt_now = attempt_of(job(&json!(1)));
    let cancel = attempt_now.cancel.clone();
    let started = Instant::now();
    let (ending, ()) = tokio::join!(run_attempt(&worker, attempt_now), async {
        content_of(&ready).await;
        cancel.cancel(CancelReason::Drain);
    });
    let reason = CancelReason::Drain;
    assert_eq!(ending, Ending::Cancelled { reason });
    assert!(
        started.elapsed() < worker.config.cancel_grace,
        "it needed no SIGKILL"
    );
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_dropped_attempt_takes_its_processes_along() {
    let folder = scratch("dropped");
    let pids = folder.join("pids");
    let text = format!("sleep 1000 & echo $$ $! > {}; wait", pids.display());
    let worker = Arc::new(script(&text).await);
    let running = tokio::spawn({
        let worker = worker.clone();
        async move { run(&worker, job(&json!(1))).await }
    });
    let pids = content_of(&pids).await;
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    for pid in pids.split_whitespace() {
        gone(pid).await;
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn what_a_program_leaves_behind_ends_with_it() {
    let worker = script("sleep 1000 & echo $!").await;
    let started = Instant::now();
    let (pid, _) = succeeded(run(&worker, job(&json!(1))).await);
    assert!(started.elapsed() < PATIENCE);
    gone(&pid).await;
}

#[tokio::test]
async fn a_program_that_vanished_is_tried_again() {
    let folder = scratch("vanished");
    let program = folder.join("program");
    std::fs::copy("/bin/sh", &program).unwrap();
    let worker = worker(&format!("exec = [\"{}\"]", program.display())).await;
    std::fs::remove_dir_all(folder).unwrap();
    let Ending::Failed { error } = run(&worker, job(&json!(1))).await else {
        panic!("expected a failure");
    };
    assert!(
        error.starts_with("can't start") && error.contains("No such file"),
        "{error}"
    );
}

/// Serves answers by path, and returns the address.
async fn server() -> String {
    let answer = |headers: HeaderMap, body: String| async move {
        let header = |name: &str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or("-").to_owned()
        };
        let seen = [
            header("repull-job-id"),
            header("repull-attempt"),
            header("content-type"),
            header("x-key"),
        ];
        serde_json::to_string(&(seen, body)).unwrap()
    };
    let status = |code: u16| {
        let status = StatusCode::from_u16(code).unwrap();
        post(move || async move { (status, "because") })
    };
    let app = Router::new()
        .route("/ok", post(answer))
        .route("/empty", post(|| async { StatusCode::NO_CONTENT }))
        .route("/text", post(|| async { "hello" }))
        .route("/large", post(|| async { "x".repeat(1_000_000) }))
        .route(
            "/busy",
            post(|| async {
                (
                    StatusCode::TOO_MANY_REQUESTS,
                    [("retry-after", "7")],
                    "busy",
                )
            }),
        )
        .route(
            "/moved",
            post(|| async { (StatusCode::FOUND, [("location", "/ok")]) }),
        )
        .route("/hang", post(std::future::pending::<StatusCode>))
        .route("/400", status(400))
        .route("/404", status(404))
        .route("/408", status(408))
        .route("/500", status(500))
        .route("/503", status(503));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

async fn call(server: &str, path: &str) -> Ending {
    let worker = worker(&format!(
        "http = \"{server}{path}\"\nheaders = {{ X-Key = \"k\" }}"
    ))
    .await;
    let mut job = job(&json!({"x": 1})).with_id("j-1".parse().unwrap());
    job.timeout = Some(Timeout::After(Duration::from_millis(if path == "/hang" {
        50
    } else {
        20_000
    })));
    run(&worker, job).await
}

#[tokio::test]
async fn an_answer_is_the_value() {
    let server = server().await;
    let (value, content_type) = succeeded(call(&server, "/ok").await);
    let expected = json!([["j-1", "1", "application/json", "k"], "{\"x\":1}"]).to_string();
    assert_eq!((value, content_type), (expected, None));
    assert_eq!(
        succeeded(call(&server, "/empty").await),
        (String::new(), None)
    );
    let text = Some("text/plain; charset=utf-8".to_owned());
    assert_eq!(
        succeeded(call(&server, "/text").await),
        ("hello".into(), text.clone())
    );
    let (value, content_type) = succeeded(call(&server, "/large").await);
    assert_eq!(
        (value.len(), content_type),
        (crate::config::VALUE_BYTES_MAX_DEFAULT, text)
    );
}

#[tokio::test]
async fn a_status_decides_whether_another_attempt_is_worth_it() {
    let server = server().await;
    for path in ["/408", "/500", "/503"] {
        let ending = call(&server, path).await;
        let Ending::Failed { error } = ending else {
            panic!("expected a failure for {path}, found {ending:?}");
        };
        assert!(
            error.contains(&path[1..]) && error.ends_with(": because"),
            "{error}"
        );
    }
    for path in ["/400", "/404", "/moved"] {
        let ending = call(&server, path).await;
        assert!(
            matches!(ending, Ending::Permanent { .. }),
            "{path}: {ending:?}"
        );
    }
    let Ending::RetryIn { delay, .. } = call(&server, "/busy").await else {
        panic!("expected a delay");
    };
    assert_eq!(delay, Duration::from_secs(7));
}

#[tokio::test]
async fn no_answer_is_tried_again() {
    let server = server().await;
    let Ending::Failed { error } = call(&server, "/hang").await else {
        panic!("expected a failure");
    };
    assert!(
        error.starts_with("timed out after 50ms: `POST http://127.0.0.1:"),
        "{error}"
    );
    let Ending::Failed { error } = call("http://127.0.0.1:1", "/x").await else {
        panic!("expected a failure");
    };
    assert!(
        error.contains("got no answer") && error.contains("refused"),
        "{error}"
    );
}

#[tokio::test]
async fn builtins_do_what_they_say() {
    let worker = Worker::builder(client().await).builtins().build().unwrap();
    let ending = async |task: &str, args: Value, number: u32| {
        let mut attempt_now = attempt_of(Job::json(task, &args).unwrap());
        attempt_now.number = number;
        run_attempt(&worker, attempt_now).await
    };
    assert_eq!(
        succeeded(ending("echo", json!({"x": 1}), 1).await).0,
        "{\"x\":1}"
    );
    assert!(matches!(
        ending("sleep", json!({"ms": 1}), 1).await,
        Ending::Succeeded { .. }
    ));
    assert!(matches!(
        ending("fail", json!({"times": 2}), 2).await,
        Ending::Failed { .. }
    ));
    assert!(matches!(
        ending("fail", json!({"times": 2}), 3).await,
        Ending::Succeeded { .. }
    ));
    assert!(matches!(
        ending("sleep", json!({"s": 1}), 1).await,
        Ending::Permanent { .. }
    ));
}
