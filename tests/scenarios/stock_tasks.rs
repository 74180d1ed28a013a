//! Programs and URLs as handlers, through the whole stack: scheduler, queue, stock worker, outcome.

use std::path::Path;
use std::process::Command;

use repull::client::Enqueued;
use repull::wire::{EventKind, JobEvent};
use repull_tests::{DEADLINE, World, all_settled, events, eventually, job, job_with_id, outcome};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn events_of(world: &World, enqueued: &Enqueued) -> Vec<JobEvent> {
    let mut events = events(world.client()).await;
    let id = enqueued.address.id.as_str();
    events.remove(id).unwrap_or_default()
}

fn kinds(events: &[JobEvent]) -> Vec<EventKind> {
    events.iter().map(|event| event.kind).collect()
}

const REPORT: &str = r#"
[tasks.report]
exec = ["/bin/sh", "-c", '''
args=$(cat)
echo "working on $REPULL_JOB_ID" >&2
printf '{"args": %s, "job": "%s/%s/%s", "attempt": %s}' \
    "$args" "$REPULL_QUEUE" "$REPULL_TASK" "$REPULL_JOB_ID" "$REPULL_ATTEMPT"
''']
"#;

#[tokio::test]
async fn a_program_reads_its_arguments_and_its_output_is_the_value() {
    let world = World::start().await;
    let _scheduler = world.scheduler().start().await;
    let _worker = world.worker().config(REPORT).start().await;

    let submit = [
        "job",
        "submit",
        "report",
        "{\"n\": 7}",
        "--id",
        "r-1",
        "--wait",
    ];
    let output = world.cli(&submit).await.success();

    let expected = json!({"args": {"n": 7}, "job": "default/report/r-1", "attempt": 1});
    assert_eq!(output.json(), expected);
    all_settled(world.client(), DEADLINE).await;
}

#[tokio::test]
async fn what_a_program_logs_comes_before_its_outcome() {
    let world = World::start().await;
    let _worker = world.worker().config(REPORT).start().await;

    let submit = job_with_id("report", &json!(1), "r-2");
    let enqueued = world.client().enqueue(submit).await.unwrap();
    outcome(world.client(), &enqueued, DEADLINE).await;
    all_settled(world.client(), DEADLINE).await;

    let events = events_of(&world, &enqueued).await;
    assert_eq!(kinds(&events), [EventKind::Log, EventKind::Succeeded]);
    let log = events[0].text();
    assert!(log.contains("working on r-2"), "{log}");
}

#[tokio::test]
async fn a_program_that_fails_is_tried_again_and_its_last_line_is_kept() {
    let world = World::start().await;
    let _scheduler = world.scheduler().start().await;
    let config = r#"
[tasks.flaky]
exec = ["/bin/sh", "-c", 'if [ "$REPULL_ATTEMPT" = 1 ]; then echo "no luck" >&2; exit 75; fi; echo done']
backoff = "10ms,1,20ms"
"#;
    let _worker = world.worker().config(config).start().await;

    let enqueued = world
        .client()
        .enqueue(job("flaky", &json!(1)))
        .await
        .unwrap();
    let ended = outcome(world.client(), &enqueued, DEADLINE).await;

    assert_eq!((ended.kind, ended.attempt), (EventKind::Succeeded, 2));
    assert_eq!(ended.value(), json!("done"));
    let events = events_of(&world, &enqueued).await;
    let retrying = events
        .iter()
        .find(|event| event.kind == EventKind::Retrying);
    let why = retrying.expect("an event about the retry").text();
    assert!(why.contains("75") && why.contains("no luck"), "{why}");
}

/// Whether a process runs; one that has ended and was not yet collected does not.
fn runs(pid: &str) -> bool {
    let shown = Command::new("ps").args(["-o", "stat=", "-p", pid]).output();
    let shown = shown.expect("`ps` runs").stdout;
    let state = String::from_utf8_lossy(&shown);
    !state.trim().is_empty() && !state.trim().starts_with('Z')
}

/// The process ids that a program has left in a file: its own and its child's.
async fn pids_in(path: &Path) -> Vec<String> {
    let read = async || {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let pids: Vec<_> = text.lines().map(str::to_owned).collect();
        (pids.len() == 2).then_some(pids)
    };
    eventually(DEADLINE, "the program and its child have started", read).await
}

#[tokio::test]
async fn a_cancelled_program_ends_with_its_whole_group() {
    let world = World::start().await;
    let pids = world.write_file("pids", "");
    let config = r#"
[tasks.endless]
exec = ["/bin/sh", "-c", 'trap "" TERM; echo $$ > "$PIDS"; sleep 3600 & echo $! >> "$PIDS"; wait; wait']
env = { PIDS = "FILE" }
"#;
    let config = config.replace("FILE", &pids.display().to_string());
    let worker = world
        .worker()
        .config(&config)
        .arg("--cancel-grace")
        .arg("1s");
    let _worker = worker.start().await;
    let submit = job_with_id("endless", &json!(1), "endless");
    let enqueued = world.client().enqueue(submit).await.unwrap();
    let pids = pids_in(&pids).await;
    assert!(pids.iter().all(|pid| runs(pid)), "{pids:?} run");

    let cancel = ["job", "cancel", "endless", "--reason", "enough"];
    let _ = world.cli(&cancel).await.success();

    let ended = outcome(world.client(), &enqueued, DEADLINE).await;
    assert_eq!(ended.kind, EventKind::Cancelled);
    let gone = async || (!pids.iter().any(|pid| runs(pid))).then_some(());
    eventually(DEADLINE, "the program and its child are gone", gone).await;
    all_settled(world.client(), DEADLINE).await;
}

/// Reads one request; answers its head and body.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length = length.map_or(0, |length| length.parse().expect("a length"));
            if body.len() >= length {
                return text;
            }
        }
        let read = stream.read_buf(&mut request).await.expect("a request");
        assert!(read > 0, "the request ended early: {text}");
    }
}

/// Answers one request after the other, and hands back what was asked.
async fn serve(listener: TcpListener, answers: &[(&str, &str)]) -> Vec<String> {
    let mut requests = Vec::new();
    for (status, body) in answers {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        requests.push(read_request(&mut stream).await);
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
             connection: close\r\n\r\n{body}"
        );
        stream
            .write_all(answer.as_bytes())
            .await
            .expect("an answer");
        stream.shutdown().await.expect("an answer that is whole");
    }
    requests
}

#[tokio::test]
async fn a_url_that_is_busy_is_asked_again_and_its_answer_is_the_value() {
    let world = World::start().await;
    let _scheduler = world.scheduler().start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answers = [
        ("503 Service Unavailable", "{\"error\": \"busy\"}"),
        ("200 OK", "{\"sent\": true}"),
    ];
    let serving = tokio::spawn(async move { serve(listener, &answers).await });
    let config = format!(
        "[tasks.hook]\nhttp = \"http://{address}/hook\"\nbackoff = \"10ms,1,20ms\"\ntimeout = \"30s\"\n"
    );
    let _worker = world.worker().config(&config).start().await;

    let submit = job_with_id("hook", &json!({"to": "ada"}), "h-1");
    let enqueued = world.client().enqueue(submit).await.unwrap();
    let ended = outcome(world.client(), &enqueued, DEADLINE).await;

    assert_eq!((ended.kind, ended.attempt), (EventKind::Succeeded, 2));
    assert_eq!(ended.value(), json!({"sent": true}));
    let requests = serving.await.unwrap();
    let attempts: Vec<_> = requests
        .iter()
        .map(|request| {
            request.contains("repull-job-id: h-1") && request.contains("{\"to\":\"ada\"}")
        })
        .collect();
    assert_eq!(attempts, [true, true], "{requests:?}");
    assert!(requests[0].contains("repull-attempt: 1") && requests[1].contains("repull-attempt: 2"));
    let key = |request: &String| {
        let line = request
            .lines()
            .find(|line| line.starts_with("idempotency-key"));
        line.map(str::to_owned)
    };
    assert!(
        key(&requests[0]).is_some(),
        "no idempotency key: {requests:?}"
    );
    assert_eq!(
        key(&requests[0]),
        key(&requests[1]),
        "one key for all attempts"
    );
    let events = events_of(&world, &enqueued).await;
    assert_eq!(kinds(&events), [EventKind::Retrying, EventKind::Succeeded]);
}
