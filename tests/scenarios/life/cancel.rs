//! Cancelling by a filter, wherever a job is.

use std::time::Duration;

use repull::wire::EventKind;
use repull_tests::{DEADLINE, World, all_settled, job, job_on, outcome};
use serde_json::json;

use crate::faults::wait_running;

#[tokio::test]
async fn all_jobs_of_a_task_are_cancelled_running_queued_and_later_and_no_others() {
    let world = World::start().await;
    let _scheduler = world.scheduler().start().await;
    let mut worker = world.worker().slots(1).start().await;
    let client = world.client();
    let hour = repull::clock::now() + Duration::from_secs(3600);
    let sleep = || job("sleep", &json!({"ms": 600_000}));
    let running = client.enqueue(sleep()).await.unwrap();
    wait_running(&mut worker, 1).await;
    let queued = client.enqueue(sleep()).await.unwrap();
    let later = client.enqueue(sleep().not_before(hour)).await.unwrap();
    let elsewhere = job_on("other", "sleep", &json!({"ms": 1}));
    let elsewhere = client.enqueue(elsewhere).await.unwrap();
    let other = client.enqueue(job("echo", &json!(1))).await.unwrap();

    let filter = ["--task", "sleep", "--queue", "default"];
    let line = [
        &["job", "cancel", "--yes", "--json", "--reason", "enough"],
        &filter[..],
    ];
    let cancelled = world.cli(&line.concat()).await.success().json();

    let cancelled = cancelled.as_array().unwrap();
    let with = |what: &str| cancelled.iter().filter(|each| each[what] == true).count();
    assert_eq!((cancelled.len(), with("queued"), with("later")), (3, 2, 1));
    assert_eq!(
        cancelled
            .iter()
            .filter(|each| each["worker"].is_string())
            .count(),
        1
    );
    for each in [&running, &queued, &later] {
        let outcome = outcome(client, each, DEADLINE).await;
        assert_eq!(
            (outcome.kind, outcome.text()),
            (EventKind::Cancelled, "enough".into())
        );
    }
    let kept = outcome(client, &other, DEADLINE).await;
    assert_eq!(kept.kind, EventKind::Succeeded, "its slot is free again");
    let _other = world.worker().queue("other").start().await;
    let kept = outcome(client, &elsewhere, DEADLINE).await;
    assert_eq!(kept.kind, EventKind::Succeeded);
    all_settled(client, DEADLINE).await;
}
