//! The guides' commands run as they are printed.

use std::time::Duration;

use repull_tests::{Binary, World, repository};
use tokio::process::Command;

/// The commands of a guide with the exit codes they are said to have.
fn commands(guide: &str) -> Vec<(String, i32)> {
    let path = repository().join("docs/guides").join(guide);
    let text = std::fs::read_to_string(&path).expect("the guide");
    let commands = text.lines().filter_map(|line| line.strip_prefix("$ "));
    commands
        .filter(|line| !line.starts_with("nats "))
        .map(|line| match line.rsplit_once("# exit code ") {
            Some((command, code)) => (command.to_owned(), code.trim().parse().expect("a code")),
            None => (line.to_owned(), 0),
        })
        .collect()
}

/// Runs all of a guide in one installation, one after the other.
async fn run(guide: &str, at_least: usize) {
    let world = World::start().await;
    let _scheduler = world.scheduler().start().await;
    let _worker = world.worker().start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let programs = Binary::Cli.path();
    let programs = programs.parent().expect("its folder").display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();

    let commands = commands(guide);
    assert!(commands.len() >= at_least, "{} in {guide}", commands.len());
    for (command, code) in commands {
        let running = Command::new("sh")
            .args(["-c", &command])
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .env("XDG_CONFIG_HOME", folder.path())
            .env("PATH", format!("{programs}:{path}"))
            .env("NATS_URL", world.url())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(60), running).await;
        let output = output.unwrap_or_else(|_| panic!("{guide}: `{command}` does not end"));
        let output = output.expect("a shell");
        assert_eq!(
            output.status.code(),
            Some(code),
            "{guide}: `{command}`\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[tokio::test]
async fn every_command_about_jobs_runs() {
    run("jobs.md", 20).await;
}

#[tokio::test]
async fn every_command_about_queues_runs() {
    run("queues.md", 8).await;
}

#[tokio::test]
async fn every_command_about_unique_jobs_runs() {
    run("unique-jobs.md", 2).await;
}
