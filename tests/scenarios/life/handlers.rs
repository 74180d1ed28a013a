//! Handlers in other languages: the programs of `docs/guides/languages/workers`, as they are.

use std::process::Stdio;

use repull::wire::EventKind;
use repull_tests::{DEADLINE, World, eventually, job, outcome, repository};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

fn is_there(program: &str) -> bool {
    let found = std::process::Command::new(program)
        .arg("--version")
        .output();
    let is_there = found.is_ok_and(|output| output.status.success());
    if !is_there {
        eprintln!("skipped: {program} is not installed");
    }
    is_there
}

#[tokio::test]
async fn a_program_in_python_and_a_service_in_javascript_handle_jobs() {
    if !is_there("python3") || !is_there("node") {
        return;
    }
    let folder = repository().join("docs/guides/languages/workers");
    let mut service = Command::new("node")
        .arg(folder.join("hook.js"))
        .arg("0")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node starts");
    let mut said = BufReader::new(service.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(DEADLINE, said.next_line()).await;
    let line = line.expect("the service listens").unwrap().unwrap();
    let port = line.strip_prefix("listening on ").unwrap().to_owned();

    let world = World::start().await;
    let _scheduler = world.scheduler().start().await;
    let mut config = std::fs::read_to_string(folder.join("tasks.toml")).unwrap();
    let program = folder.join("thumbnail.py");
    config = config.replace("thumbnail.py", program.to_str().unwrap());
    let worker = world.worker().config(&config).env("HOOK_PORT", &port);
    let _worker = worker.start().await;

    let client = world.client();
    let image = job("thumbnail", &json!({"width": 1600, "height": 800}));
    let image = client.enqueue(image).await.unwrap();
    let none = client.enqueue(job("thumbnail", &json!({}))).await.unwrap();
    let order = job("order.hook", &json!({"item": "tea"}));
    let order = client.enqueue(order).await.unwrap();

    let done = outcome(client, &image, DEADLINE).await;
    assert_eq!(done.value(), json!({"width": 200, "height": 100}));
    let log = eventually(DEADLINE, "its log is kept", async || {
        let events = client.events(&image.address).await.ok()?;
        let mut events = events.into_iter().map(|(_, event)| event);
        events.find(|event| event.kind == EventKind::Log)
    })
    .await;
    assert!(log.text().starts_with("attempt 1 of job"), "{}", log.text());
    let failed = outcome(client, &none, DEADLINE).await;
    assert_eq!((failed.kind, failed.attempt), (EventKind::Failed, 1));
    let accepted = outcome(client, &order, DEADLINE).await;
    assert_eq!(accepted.value(), json!({"accepted": "tea", "attempt": 2}));
}
