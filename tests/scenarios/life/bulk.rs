//! Many jobs from a file, interrupted in the middle and begun again.

use repull::wire::{EventKind, Place};
use repull_tests::{
    Binary, DEADLINE, World, all_settled, assert_outcomes, events, eventually, messages_in,
};

const LINES: usize = 20_000;

#[tokio::test]
async fn a_submit_that_is_killed_and_begun_again_makes_no_job_twice() {
    let world = World::start().await;
    let text: String = (0..LINES).map(|number| format!("{number}\n")).collect();
    let file = world.write_file("numbers.jsonl", &text);
    let submit = [
        "job",
        "submit",
        "echo",
        "--lines",
        file.to_str().unwrap(),
        "--json",
    ];

    let mut killed = world.process(Binary::Cli).args(submit).spawn();
    eventually(DEADLINE, "some jobs are there", async || {
        (messages_in(world.client(), Place::Jobs).await > 100).then_some(())
    })
    .await;
    killed.kill().await;
    let there = messages_in(world.client(), Place::Jobs).await;
    assert!(there < LINES as u64, "it was killed in the middle");
    // Some have ended by then, some not.
    let mut worker = world.worker().start().await;
    eventually(DEADLINE, "some have ended", async || {
        (messages_in(world.client(), Place::Results).await > 100).then_some(())
    })
    .await;
    worker.kill().await;

    let again = world.cli(&submit).await.success();
    let _worker = world.worker().start().await;
    all_settled(world.client(), DEADLINE).await;

    let events = events(world.client()).await;
    assert_eq!(events.len(), LINES, "{again}");
    let ids: Vec<String> = events.keys().cloned().collect();
    assert_outcomes(&events, &ids, EventKind::Succeeded);
}
