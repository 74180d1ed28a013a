//! Attempts with handlers that behave in every way a handler can.
//!
//! The client behind them is one that has not connected yet: what they publish waits in its buffer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use repull::client::Client;
use repull::clock;
use repull::connect::Connection;
use repull::id::Namespace;
use repull::job::{Job, Timeout};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{
    Attempt, Cancel, CancelReason, Context, Ending, ProgressCell, TaskError, TaskOptions, attempt,
};
use crate::builder::{Worker, WorkerBuilder};

/// Shorter than any test, longer than a slow machine needs to get to the next line.
const GRACE: Duration = Duration::from_millis(50);

pub(crate) async fn client() -> Client {
    let nats = async_nats::ConnectOptions::new()
        .retry_on_initial_connect()
        .connect("127.0.0.1:1")
        .await
        .unwrap();
    Client::new(Connection::over(nats), Namespace::default())
}

pub(crate) async fn builder() -> WorkerBuilder {
    Worker::builder(client().await).cancel_grace(GRACE)
}

pub(crate) fn attempt_of(job: Job) -> Attempt {
    Attempt {
        job: Arc::new(job),
        number: 1,
        max_attempts: 3,
        worker: "w-1".parse().unwrap(),
        started_at: clock::now(),
        cancel: Cancel::new(),
        progress: Arc::new(ProgressCell::new()),
    }
}

pub(crate) fn job(args: &Value) -> Job {
    Job::json("t", args).unwrap()
}

pub(crate) async fn run(worker: &Worker, job: Job) -> Ending {
    attempt(&worker.registry, &worker.client, attempt_of(job)).await
}

pub(crate) fn failed(ending: Ending) -> String {
    match ending {
        Ending::Failed { error } => error,
        other => panic!("expected a failure, found {other:?}"),
    }
}

pub(crate) fn permanent(ending: Ending) -> String {
    match ending {
        Ending::Permanent { error } => error,
        other => panic!("expected a permanent failure, found {other:?}"),
    }
}

#[derive(Deserialize)]
struct Mail {
    to: String,
    #[serde(default)]
    copies: Vec<u8>,
}

async fn mail_worker() -> Worker {
    let handler = |_: Context, mail: Mail| async move { Ok((mail.to, mail.copies.len())) };
    builder().await.task("t", handler).build().unwrap()
}

#[tokio::test]
async fn a_value_is_returned_as_json() {
    let ending = run(&mail_worker().await, job(&json!({"to": "ada"}))).await;
    let value = "[\"ada\",0]".into();
    let content_type = None;
    assert_eq!(
        ending,
        Ending::Succeeded {
            value,
            content_type
        }
    );
}

#[tokio::test]
async fn arguments_that_cannot_be_read_name_the_field_and_the_reason() {
    let worker = mail_worker().await;
    let error = permanent(run(&worker, job(&json!({}))).await);
    assert!(
        error.contains("task `t`") && error.contains("missing field `to`"),
        "{error}"
    );
    let error = permanent(run(&worker, job(&json!({"to": "a", "copies": [1, "x"]}))).await);
    assert!(
        error.contains("field `copies[1]`: invalid type: string \"x\""),
        "{error}"
    );
    let mut text = job(&json!({"to": "a"}));
    text.content_type = Some("text/plain".into());
    let error = permanent(run(&worker, text).await);
    assert!(error.contains("are `text/plain`, expected JSON"), "{error}");
}

#[tokio::test]
async fn no_arguments_at_all_are_none_or_defaults() {
    let handler = |_: Context, args: Option<u32>| async move { Ok(args) };
    let worker = builder().await.task("t", handler).build().unwrap();
    let mut bare = job(&json!(null));
    bare.args = bytes::Bytes::new();
    assert!(matches!(
        run(&worker, bare.clone()).await,
        Ending::Succeeded { .. }
    ));
    let error = permanent(run(&mail_worker().await, bare).await);
    assert!(error.contains("missing field `to`"), "{error}");
}

#[tokio::test]
async fn an_unknown_task_is_said_to_be_one() {
    let job = Job::json("other", &json!(1)).unwrap();
    assert_eq!(run(&mail_worker().await, job).await, Ending::UnknownTask);
}

#[tokio::test]
async fn every_word_of_a_handler_is_understood() {
    let handler = |_: Context, word: String| async move {
        Err::<(), _>(match word.as_str() {
            "retry" => TaskError::retry("no luck"),
            "retry_in" => TaskError::retry_in(Duration::from_secs(7), "busy"),
            "permanent" => TaskError::permanent(std::io::Error::other("gone")),
            "snooze" => TaskError::snooze(Duration::from_secs(9)),
            "cancelled" => TaskError::cancelled("not needed"),
            _ => return Err(word.parse::<u8>().unwrap_err().into()),
        })
    };
    let worker = builder().await.task("t", handler).build().unwrap();
    let ending = async |word: &str| run(&worker, job(&json!(word))).await;
    assert_eq!(
        ending("retry").await,
        Ending::Failed {
            error: "no luck".into()
        }
    );
    let (error, delay) = ("busy".into(), Duration::from_secs(7));
    assert_eq!(ending("retry_in").await, Ending::RetryIn { error, delay });
    assert_eq!(
        ending("permanent").await,
        Ending::Permanent {
            error: "gone".into()
        }
    );
    let delay = Duration::from_secs(9);
    assert_eq!(ending("snooze").await, Ending::Snoozed { delay });
    let reason = CancelReason::Requested("not needed".into());
    assert_eq!(ending("cancelled").await, Ending::Cancelled { reason });
    assert_eq!(failed(ending("x").await), "invalid digit found in string");
}

#[tokio::test]
async fn a_panic_is_a_failure_wherever_it_happens() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in the drop");
        }
    }
    let worker = builder()
        .await
        .task("before", |_, _: ()| {
            assert!(!std::hint::black_box(true), "before the first await");
            async { Ok(()) }
        })
        .task("after", |_, _: ()| async {
            tokio::task::yield_now().await;
            assert!(!std::hint::black_box(true), "after an await");
            Ok(())
        })
        .task_with(
            "dropped",
            TaskOptions::new().timeout(Duration::from_millis(1)),
            |_, _: ()| async {
                let _bomb = Bomb;
                std::future::pending::<Result<(), TaskError>>().await
            },
        )
        .task("odd", |_, _: ()| async {
            std::panic::panic_any(Bomb);
            #[expect(unreachable_code, reason = "the handler's type is read from it")]
            Ok(())
        })
        .build()
        .unwrap();
    for (task, text) in [
        ("before", "the handler panicked: before the first await"),
        ("after", "the handler panicked: after an await"),
        (
            "dropped",
            "timed out after 1ms: the handler did not end within 50ms of its cancellation",
        ),
        ("odd", "the handler panicked: a value that is no text"),
    ] {
        let error = failed(run(&worker, Job::json(task, &()).unwrap()).await);
        assert_eq!(error, text);
    }
}

/// A worker whose task `t` waits for its cancellation, then does as its argument says.
async fn waiting_worker() -> Worker {
    let handler = |context: Context, then: String| async move {
        context.cancelled().await;
        match then.as_str() {
            "succeed" => Ok(context.cancel_reason().map(|reason| reason.to_string())),
            "fail" => Err(TaskError::retry("interrupted")),
            _ => std::future::pending().await,
        }
    };
    builder().await.task("t", handler).build().unwrap()
}

#[tokio::test]
async fn a_timeout_cancels_and_then_drops_the_handler() {
    let worker = waiting_worker().await;
    for (then, expected) in [
        ("fail", "timed out after 20ms: interrupted"),
        (
            "ignore",
            "timed out after 20ms: the handler did not end within 50ms of its cancellation",
        ),
    ] {
        let mut job = job(&json!(then));
        job.timeout = Some(Timeout::After(Duration::from_millis(20)));
        assert_eq!(failed(run(&worker, job).await), expected);
    }
    let mut job = job(&json!("succeed"));
    job.timeout = Some(Timeout::After(Duration::from_millis(20)));
    assert!(
        matches!(run(&worker, job).await, Ending::Succeeded { .. }),
        "done is done"
    );
}

#[tokio::test]
async fn a_deadline_that_passes_fails_the_job_for_good() {
    let worker = waiting_worker().await;
    let mut late = job(&json!("fail"));
    late.deadline = Some(clock::now() + TimeDelta::milliseconds(20));
    let error = permanent(run(&worker, late).await);
    assert_eq!(error, "the job's deadline has passed: interrupted");
    let mut too_late = job(&json!("fail"));
    too_late.deadline = Some(clock::now() - TimeDelta::milliseconds(1));
    let error = permanent(run(&worker, too_late).await);
    assert!(error.contains("before the attempt started"), "{error}");
}

#[tokio::test]
async fn a_cancelled_handler_ends_as_the_reason_says_even_if_it_ignores_it() {
    let worker = waiting_worker().await;
    for then in ["succeed", "fail", "ignore"] {
        for reason in [
            CancelReason::Requested("by ada".into()),
            CancelReason::Drain,
            CancelReason::LeaseLost,
            CancelReason::Stop,
        ] {
            let attempt_now = attempt_of(job(&json!(then)));
            let cancel = attempt_now.cancel.clone();
            let running = attempt(&worker.registry, &worker.client, attempt_now);
            let (ending, ()) = tokio::join!(running, async { cancel.cancel(reason.clone()) });
            let done =
                then == "succeed" && matches!(reason, CancelReason::Drain | CancelReason::Stop);
            match ending {
                Ending::Succeeded { .. } if done => {}
                ending => assert_eq!(ending, Ending::Cancelled { reason }, "{then}"),
            }
        }
    }
}

#[tokio::test]
async fn a_stop_drops_the_handler_without_grace() {
    let worker = Worker::builder(client().await)
        .cancel_grace(Duration::from_secs(3600))
        .task("t", |_, _: ()| {
            std::future::pending::<Result<(), TaskError>>()
        })
        .build()
        .unwrap();
    let attempt_now = attempt_of(job(&json!(null)));
    let cancel = attempt_now.cancel.clone();
    let running = attempt(&worker.registry, &worker.client, attempt_now);
    let (ending, ()) = tokio::join!(running, async {
        cancel.cancel(CancelReason::Drain);
        tokio::task::yield_now().await;
        cancel.cancel(CancelReason::Stop);
    });
    let reason = CancelReason::Stop;
    assert_eq!(ending, Ending::Cancelled { reason });
}

#[tokio::test]
async fn a_job_cancelled_before_its_start_is_not_started() {
    let started = Arc::new(AtomicBool::new(false));
    let worker = builder()
        .await
        .state(started.clone())
        .task("t", |context: Context, _: ()| async move {
            context
                .state::<Arc<AtomicBool>>()?
                .store(true, Ordering::SeqCst);
            Ok(())
        })
        .build()
        .unwrap();
    let attempt_now = attempt_of(job(&json!(null)));
    attempt_now.cancel.cancel(CancelReason::Drain);
    let ending = attempt(&worker.registry, &worker.client, attempt_now).await;
    let reason = CancelReason::Drain;
    assert_eq!(ending, Ending::Cancelled { reason });
    assert!(!started.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_handler_that_blocks_its_thread_ends_when_it_comes_back() {
    let worker = builder()
        .await
        .task("t", |_, _: ()| async {
            std::thread::sleep(Duration::from_millis(30));
            tokio::task::yield_now().await;
            std::future::pending::<Result<(), TaskError>>().await
        })
        .build()
        .unwrap();
    let mut job = job(&json!(null));
    job.timeout = Some(Timeout::After(Duration::from_millis(5)));
    let started = Instant::now();
    assert!(failed(run(&worker, job).await).starts_with("timed out after 5ms"));
    assert!(started.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn a_missing_state_is_an_error_and_no_panic() {
    let worker = builder()
        .await
        .task("t", |context: Context, _: ()| async move {
            Ok(*context.state::<u64>()?)
        })
        .build()
        .unwrap();
    let error = failed(run(&worker, job(&json!(null))).await);
    assert_eq!(
        error,
        "the worker has no state of type `u64`, expected `.state(…)` where it is built"
    );
}

#[tokio::test]
async fn progress_is_kept_for_the_beacon_and_what_comes_after_the_end_goes_nowhere() {
    let released = Arc::new(Notify::new());
    let told = Arc::new(Notify::new());
    let worker = builder()
        .await
        .state((released.clone(), told.clone()))
        .task("t", |context: Context, _: ()| async move {
            context.progress(f64::NAN, "");
            context.progress(0.25, "a quarter");
            context.log("a line");
            let later = context.clone();
            tokio::spawn(async move {
                if let Ok((released, told)) = later.state::<(Arc<Notify>, Arc<Notify>)>() {
                    released.notified().await;
                    later.log("too late");
                    told.notify_one();
                }
            });
            Ok(())
        })
        .build()
        .unwrap();
    let attempt_now = attempt_of(job(&json!(null)));
    let progress = attempt_now.progress.clone();
    assert_eq!(progress.fraction(), None);
    let ending = attempt(&worker.registry, &worker.client, attempt_now).await;
    assert!(matches!(ending, Ending::Succeeded { .. }));
    assert_eq!(progress.fraction(), Some(0.25));
    released.notify_one();
    told.notified().await;
}

#[tokio::test]
async fn all_that_is_wrong_with_a_worker_is_said_at_once() {
    let problems = builder()
        .await
        .slots(0)
        .queue("a b")
        .state(1u8)
        .state(2u8)
        .task("bad name", |_, _: ()| async { Ok(()) })
        .task("t", |_, _: ()| async { Ok(()) })
        .task("t", |_, _: ()| async { Ok(()) })
        .task_with("u", TaskOptions::new().max_attempts(0), |_, _: ()| async {
            Ok(())
        })
        .build()
        .unwrap_err();
    assert_eq!(problems.iter().count(), 6, "{problems}");
    let problems = builder().await.build().unwrap_err().to_string();
    assert_eq!(problems, "the worker has no task, expected at least one");
}
