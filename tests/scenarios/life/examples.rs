//! The examples of `worker/examples`, each run as its own documentation says, and what it leaves behind.

use repull::wire::{EventKind, Place};
use repull_tests::{Binary, Output, World, events, messages_in, repository};

async fn run(world: &World, example: &'static str, arguments: &[&str]) -> Output {
    let process = world.process(Binary::Example(example)).args(arguments);
    process.run(b"").await.success()
}

/// How many jobs of a task ended so.
async fn ended(world: &World, task: &str, kind: EventKind) -> usize {
    let subject = format!("{}.results.*.{task}.>", world.namespace());
    let stream = Place::Results.stream(world.client().namespace());
    let stream = world.jetstream().get_stream(stream).await.unwrap();
    let mut info = stream.info_with_subjects(subject).await.unwrap();
    let mut ids = Vec::new();
    while let Some(subject) = futures_util::StreamExt::next(&mut info).await {
        let (subject, _) = subject.unwrap();
        ids.extend(subject.rsplit('.').next().map(str::to_owned));
    }
    let events = events(world.client()).await;
    let last = ids.iter().filter_map(|id| events[id].last());
    last.filter(|event| event.kind == kind).count()
}

#[tokio::test]
async fn the_mailer_tries_again_what_can_succeed_and_gives_up_what_cannot() {
    let world = World::start().await;
    let _scheduler = world.scheduler().start().await;

    let output = run(&world, "mailer", &[]).await;

    let busy = "busy@example.org: succeeded at attempt 3";
    assert!(output.stdout.contains(busy), "{output}");
    assert_eq!(ended(&world, "mail.send", EventKind::Succeeded).await, 2);
    assert_eq!(ended(&world, "mail.send", EventKind::Failed).await, 1);
    assert_eq!(messages_in(world.client(), Place::Dead).await, 1);
}

#[tokio::test]
async fn the_pipeline_makes_a_job_of_each_file() {
    let world = World::start().await;
    let folder = repository().join("worker/examples");
    let files = std::fs::read_dir(&folder).unwrap().count();

    let output = run(&world, "pipeline", &[folder.to_str().unwrap()]).await;

    assert!(
        output.stdout.contains(&format!("{files} files")),
        "{output}"
    );
    let counted = ended(&world, "text.count", EventKind::Succeeded).await;
    assert_eq!(counted, files);
    assert_eq!(messages_in(world.client(), Place::Jobs).await, 0);
}

#[tokio::test]
async fn the_long_job_stops_at_a_drain_and_goes_on_elsewhere_as_the_same_attempt() {
    let world = World::start().await;

    let output = run(&world, "long_job", &[]).await;

    let (before, after) = output
        .stdout
        .split_once("the first worker is gone")
        .unwrap();
    assert!(before.contains(" %, "), "it told its progress: {output}");
    assert!(after.contains("succeeded at attempt 1: 148933"), "{output}");
    assert_eq!(ended(&world, "primes.count", EventKind::Succeeded).await, 1);
}

#[tokio::test]
async fn the_producer_answers_over_http_when_the_job_is_stored_and_with_its_outcome() {
    let world = World::start().await;

    let output = run(&world, "producer", &["--once", "--listen", "127.0.0.1:0"]).await;

    assert!(output.stdout.contains("2 tea packed"), "{output}");
    assert_eq!(ended(&world, "order.pack", EventKind::Succeeded).await, 1);
}
