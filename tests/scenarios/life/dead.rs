//! Dead letters: found by what is asked for, and alive again with other arguments.

use repull::wire::{EventKind, Place};
use repull_tests::{
    DEADLINE, World, enqueue_all, job, job_with_id, messages_in, outcome, outcome_at,
};
use serde_json::json;

#[tokio::test]
async fn the_dead_are_found_by_a_filter_shown_retried_with_other_arguments_and_deleted() {
    let world = World::start().await;
    let _worker = world.worker().start().await;
    let client = world.client();
    let fails = |id: &str| {
        let mut job = job_with_id("fail", &json!({"times": 100}), id);
        job.max_attempts = Some(1);
        job.headers.insert("tenant", "ada");
        job
    };
    let dying = vec![
        fails("a"),
        fails("b"),
        job("sleep", &json!({"ms": "no number"})),
    ];
    for dead in enqueue_all(client, dying).await {
        assert_eq!(
            outcome(client, &dead, DEADLINE).await.kind,
            EventKind::Failed
        );
    }

    let list = async |filter: &[&str]| {
        let line = [&["dead", "list", "--json"], filter].concat();
        world
            .cli(&line)
            .await
            .success()
            .json()
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(list(&[]).await, 3);
    assert_eq!(list(&["--task", "fail"]).await, 2);
    assert_eq!(list(&["--error", "INVALID TYPE"]).await, 1);
    assert_eq!(list(&["--queue", "other"]).await, 0);
    assert_eq!(list(&["--since", "1h", "--task", "sleep"]).await, 1);
    assert_eq!(list(&["--until", "1h"]).await, 0);
    let shown = world.cli(&["dead", "show", "a", "--json"]).await.success();
    for part in ["tenant", "ada", "times", "failed as it was told to"] {
        assert!(shown.stdout.contains(part), "{shown}");
    }

    let retry = ["dead", "retry", "a", "--args", "{\"times\": 0}", "--json"];
    let retried = world.cli(&retry).await.success();
    assert!(retried.stdout.contains("\"a\""), "{retried}");
    let subject = format!("{}.jobs.default.fail.a", world.namespace());
    let mut alive = outcome_at(client, &subject, DEADLINE).await;
    while alive.kind != EventKind::Succeeded {
        alive = outcome_at(client, &subject, DEADLINE).await;
    }
    assert_eq!(alive.attempt, 1, "attempts start over");
    assert_eq!(messages_in(client, Place::Dead).await, 2);

    let delete = ["dead", "delete", "--task", "sleep", "--yes", "--json"];
    let _deleted = world.cli(&delete).await.success();
    assert_eq!(list(&[]).await, 1);
}
