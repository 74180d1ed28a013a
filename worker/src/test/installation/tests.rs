//! An installation in memory does what a real one does, in the words of its scenarios.

use repull::id::JobId;
use repull::wire::EventKind;
use serde_json::{Value, json};

use super::*;
use crate::run::{Context, TaskError, TaskOptions};

fn worker(installation: &Installation) -> Worker {
    let options = TaskOptions::new()
        .max_attempts(3)
        .backoff("10s,2,1h".parse().unwrap());
    Worker::builder(installation.client())
        .queue("default")
        .queue("mail")
        .state(7u8)
        .task_with("fail", options, |_: Context, times: Value| async move {
            Err::<(), _>(TaskError::retry(format!("fails {times}")))
        })
        .task("echo", |_: Context, value: Value| async move { Ok(value) })
        .task("snooze", |context: Context, times: usize| async move {
            if times > 0 {
                let job = Job::json("echo", &times)?.with_id(JobId::new("once")?);
                context.client().enqueue(job).await?;
                return Err(TaskError::snooze(Duration::from_secs(60)));
            }
            Ok(context.state::<u8>().map(|state| usize::from(*state))?)
        })
        .task("slow", |context: Context, (): ()| async move {
            context.progress(0.5, "half way");
            context.log("waits");
            context.cancelled().await;
            Err::<(), _>(TaskError::retry("told to end"))
        })
        .build()
        .unwrap()
}

fn job(task: &str, args: &Value) -> Job {
    Job::json(task, args).unwrap()
}

#[tokio::test]
async fn a_failing_job_uses_its_attempts_at_their_times_and_lies_with_the_dead() {
    let installation = Installation::new().await;
    let worker = worker(&installation);
    let start = installation.now();
    let enqueued = installation.client().enqueue(job("fail", &json!(1))).await;
    let enqueued = enqueued.unwrap();

    assert_eq!(installation.drain(&worker).await.len(), 1);
    let later = installation.waiting("fail");
    assert_eq!(later[0].run_at, Some(start + Duration::from_secs(10)));
    let ran = installation.drain_all(&worker).await;

    let attempts: Vec<u32> = ran.iter().map(|ran| ran.attempt).collect();
    assert_eq!(attempts, [2, 3]);
    assert_eq!(installation.now(), start + Duration::from_secs(30));
    let dead = installation.dead();
    assert_eq!((dead.len(), dead[0].errors.len()), (1, 3));
    assert!(installation.waiting("fail").is_empty());
    let kinds: Vec<_> = installation
        .events(&enqueued)
        .iter()
        .map(|e| e.kind)
        .collect();
    let retrying = EventKind::Retrying;
    assert_eq!(kinds, [retrying, retrying, EventKind::Failed]);
}

#[tokio::test]
async fn lanes_and_queues_run_in_their_order_and_other_queues_stay() {
    let installation = Installation::new().await;
    let worker = worker(&installation);
    let client = installation.client();
    for (queue, priority, value) in [
        ("mail", Priority::Normal, 4),
        ("default", Priority::Low, 3),
        ("default", Priority::High, 1),
        ("default", Priority::Normal, 2),
        ("other", Priority::Normal, 5),
    ] {
        let job = job("echo", &json!(value)).on(queue.parse().unwrap());
        client.enqueue(job.with_priority(priority)).await.unwrap();
    }
    let values: Vec<u8> = installation
        .drain_all(&worker)
        .await
        .iter()
        .map(Ran::value)
        .collect();
    assert_eq!(values, [1, 2, 3, 4]);
    assert_eq!(installation.waiting("echo").len(), 1);
}

#[tokio::test]
async fn a_job_for_later_waits_an_expired_one_does_not_run_and_an_id_is_there_once() {
    let installation = Installation::new().await;
    let worker = worker(&installation);
    let client = installation.client();
    let minute = Duration::from_secs(60);
    let unique = |value| job("echo", &json!(value)).with_id(JobId::new("only").unwrap());
    let later = unique(1).not_before(installation.now() + minute);
    assert!(client.enqueue(later).await.unwrap().is_new);
    assert!(!client.enqueue(unique(2)).await.unwrap().is_new);
    let mut expiring = job("echo", &json!(3));
    expiring.expires = Some(installation.now() + minute / 2);
    expiring.queue = "mail".parse().unwrap();
    let expiring = client.enqueue(expiring).await.unwrap();

    installation.advance(minute);
    let ran = installation.drain(&worker).await;
    assert_eq!(ran.len(), 1);
    assert_eq!(ran[0].value::<u8>(), 1);
    let outcome = installation.outcome(&expiring).unwrap();
    assert_eq!(outcome.kind, EventKind::Expired);
    assert!(client.enqueue(unique(2)).await.unwrap().is_new);
}

#[tokio::test]
async fn one_attempt_runs_alone_as_any_attempt_and_tells_all_it_told() {
    let installation = Installation::new().await;
    let worker = worker(&installation);
    let cancel = Cancel::new();
    let slow = installation.attempt(&worker, job("slow", &json!(null)));
    let (ran, ()) = tokio::join!(slow.number(3).cancel(&cancel).run(), async {
        cancel.cancel(CancelReason::Requested("enough".into()));
    });
    assert_eq!((ran.attempt, ran.error()), (3, None));
    assert!(matches!(ran.ending, Ending::Cancelled { .. }), "{ran:?}");
    assert_eq!(ran.progress(), [(0.5, "half way".to_owned())]);
    assert_eq!(ran.log(), ["waits"]);
    assert!(
        installation.drain(&worker).await.is_empty(),
        "nothing follows"
    );
}

#[tokio::test]
async fn a_snooze_uses_no_attempt_and_state_is_found_by_its_type() {
    let installation = Installation::new().await;
    let worker = worker(&installation);
    let snoozing = installation
        .attempt(&worker, job("snooze", &json!(1)))
        .run()
        .await;
    let delay = Duration::from_secs(60);
    assert_eq!(snoozing.ending, Ending::Snoozed { delay });
    assert_eq!(
        installation.waiting("echo").len(),
        1,
        "what it enqueued is there"
    );
    let done = installation
        .attempt(&worker, job("snooze", &json!(0)))
        .run()
        .await;
    assert_eq!(done.value::<u8>(), 7);

    let client = installation.client();
    client.enqueue(job("snooze", &json!(1))).await.unwrap();
    let ran = installation.drain(&worker).await;
    let tasks: Vec<_> = ran.iter().map(|ran| ran.job.task.as_str()).collect();
    assert_eq!(
        tasks,
        ["echo", "snooze", "echo"],
        "what was there, and what it enqueued"
    );
    installation.advance(delay);
    assert_eq!(installation.drain(&worker).await[0].attempt, 1);
}

#[tokio::test]
async fn a_wait_ends_with_the_outcome_and_what_needs_a_server_says_so() {
    let installation = Installation::new().await;
    let worker = worker(&installation);
    let client = installation.client();
    let enqueued = client.enqueue(job("echo", &json!("x"))).await.unwrap();
    let (outcome, _) = tokio::join!(client.wait(&enqueued), installation.drain(&worker));
    assert_eq!(outcome.unwrap().value(), json!("x"));
    let refused = client.failed("list the workers", "timed out").to_string();
    assert!(refused.contains("no server"), "{refused}");
}
