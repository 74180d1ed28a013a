//! The programs of two versions at once: an upgrade, and the way back, process by process under load.
//!
//! The older programs come from the folder that `REPULL_OLD_BINARIES` names, the newer ones from the
//! sources as they are. Every job notes each of its runs in a file, so that a job that ran twice
//! shows also where the broker kept a single outcome.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use chrono::Utc;
use repull::wire::{EventKind, Place};
use repull_tests::{
    Binary, DEADLINE, Output, Process, World, all_settled, assert_outcomes, events, eventually,
    messages_in,
};
use serde_json::{Value, json};
use tokio::join;

/// Processes of each kind.
const SCHEDULERS: usize = 2;
const WORKERS: usize = 3;

/// How often the load adds jobs, and how often it does between two replacements at least.
const PACE: Duration = Duration::from_millis(400);
const TICKS_BETWEEN: usize = 3;

/// What is submitted together, and by which schedules.
const AT_ONCE: usize = 10;
const SCHEDULES: [(&str, [&str; 2], u64); 2] = [
    ("beat", ["--every", "500ms"], 500),
    ("clock", ["--cron", "* * * * * *"], 1_000),
];

/// One of the two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Build {
    Old,
    New,
}

impl Build {
    /// The folder of its programs, where they are not those of the sources.
    fn folder(self) -> Option<PathBuf> {
        let named = || {
            std::env::var_os("REPULL_OLD_BINARIES").expect(
                "REPULL_OLD_BINARIES names no folder with an older repull, repull-worker and \
                 repull-scheduler",
            )
        };
        let folder = (self == Self::Old).then(named)?;
        let found = std::fs::canonicalize(&folder);
        Some(found.unwrap_or_else(|error| panic!("no folder {}: {error}", folder.display())))
    }

    async fn scheduler(self, world: &World) -> Process {
        let mut scheduler = world.scheduler().arg("--lease").arg("2s");
        if let Some(folder) = self.folder() {
            scheduler = scheduler.built_in(&folder);
        }
        scheduler.start().await
    }

    async fn worker(self, world: &World, tasks: &str) -> Process {
        let mut worker = world.worker().slots(8).config(tasks);
        if let Some(folder) = self.folder() {
            worker = worker.built_in(&folder);
        }
        worker.start().await
    }

    async fn cli(self, world: &World, arguments: &[&str], input: &str) -> Output {
        let mut process = world.process(Binary::Cli).args(arguments);
        if let Some(folder) = self.folder() {
            process = process.built_in(folder);
        }
        process.run(input.as_bytes()).await.success()
    }
}

/// What each of the jobs that were submitted must have come to.
#[derive(Default)]
struct Expected {
    /// How often a job that succeeds runs until then.
    runs: BTreeMap<String, usize>,
    cancelled: Vec<String>,
}

/// An installation that moves from one build to the other, and its load.
struct Move {
    world: World,
    tasks: String,
    runs: PathBuf,
    submitters: [Cell<Build>; 2],
    ticks: Cell<usize>,
    over: Cell<bool>,
}

impl Move {
    async fn start(from: Build) -> (Self, Vec<Process>, Vec<Process>) {
        let world = World::builder().without_topology().start().await;
        let runs = world.write_file("runs", "");
        let note = format!(
            "echo $REPULL_JOB_ID $REPULL_ATTEMPT >> '{}'",
            runs.display()
        );
        let tasks = format!(
            "[tasks.count]\nexec = [\"sh\", \"-c\", {:?}]\n\
             [tasks.flaky]\nexec = [\"sh\", \"-c\", {:?}]\nbackoff = \"200ms,1,200ms\"\n\
             [tasks.endless]\nexec = [\"sleep\", \"600\"]\n",
            note,
            format!("{note}; sleep 0.1; test $REPULL_ATTEMPT -gt 1"),
        );
        let (mut schedulers, mut workers) = (Vec::new(), Vec::new());
        for _ in 0..SCHEDULERS {
            schedulers.push(from.scheduler(&world).await);
        }
        for _ in 0..WORKERS {
            workers.push(from.worker(&world, &tasks).await);
        }
        for (id, trigger, _) in SCHEDULES {
            let line = ["schedule", "add", id, "--task", "count"];
            from.cli(&world, &[&line[..], &trigger].concat(), "").await;
        }
        let moving = Self {
            world,
            tasks,
            runs,
            submitters: [Cell::new(from), Cell::new(from)],
            ticks: Cell::new(0),
            over: Cell::new(false),
        };
        (moving, schedulers, workers)
    }

    /// Submits and cancels until it is over.
    async fn load(&self) -> Expected {
        let mut expected = Expected::default();
        let mut endless: Vec<String> = Vec::new();
        let mut pace = tokio::time::interval(PACE);
        while !self.over.get() {
            let tick = self.ticks.get();
            let lines = [0, 1].map(|who| lines(tick, who, &mut expected));
            join!(self.submit(0, &lines[0]), self.submit(1, &lines[1]));
            // Each cancels what the other one submitted: jobs that wait for a time, and jobs that run.
            let doomed = [0, 1].map(|who| format!("doomed-{tick}-{who}"));
            let running = if tick.is_multiple_of(3) {
                std::mem::replace(&mut endless, vec![format!("endless-{tick}")])
            } else {
                Vec::new()
            };
            let others = [&doomed[1..], &running[..]].concat();
            join!(self.cancel(1, &doomed[..1]), self.cancel(0, &others));
            expected.cancelled.extend(doomed.into_iter().chain(running));
            self.ticks.set(tick + 1);
            pace.tick().await;
        }
        self.cancel(0, &endless).await;
        expected.cancelled.extend(endless);
        expected
    }

    async fn submit(&self, who: usize, lines: &str) {
        let command = ["job", "submit", "--lines", "-", "--fresh", "--quiet"];
        let build = self.submitters[who].get();
        build.cli(&self.world, &command, lines).await;
    }

    async fn cancel(&self, who: usize, ids: &[String]) {
        let mut command = vec!["job", "cancel", "--yes"];
        command.extend(ids.iter().map(String::as_str));
        self.submitters[who]
            .get()
            .cli(&self.world, &command, "")
            .await;
    }

    /// Waits until the load has gone on for a while in the state that now is.
    async fn goes_on(&self) {
        let goal = self.ticks.get() + TICKS_BETWEEN;
        eventually(DEADLINE, "the load goes on", async || {
            (self.ticks.get() >= goal).then_some(())
        })
        .await;
    }

    /// Puts `new` in the place of a process, which ends as by a rollout.
    async fn replace(&self, old: &mut Process, new: Process, logs: &mut Vec<String>) {
        let mut old = std::mem::replace(old, new);
        old.stop().await;
        logs.push(old.stderr());
        self.goes_on().await;
    }

    /// Replaces all schedulers.
    async fn schedulers(&self, all: &mut [Process], to: Build, logs: &mut Vec<String>) {
        for old in all {
            let new = to.scheduler(&self.world).await;
            self.replace(old, new, logs).await;
        }
    }

    /// Replaces all workers. Halfway, both builds must see the same fleet and find it in health.
    async fn workers(&self, all: &mut [Process], to: Build, logs: &mut Vec<String>) {
        for (number, old) in all.iter_mut().enumerate() {
            let new = to.worker(&self.world, &self.tasks).await;
            self.replace(old, new, logs).await;
            if number == 0 {
                for build in [Build::Old, Build::New] {
                    let list = ["worker", "list", "--json"];
                    let list = build.cli(&self.world, &list, "").await.json();
                    let seen = list.as_array().map(Vec::len);
                    assert_eq!(seen, Some(WORKERS), "{build:?} lists {list}");
                    let doctor = ["doctor", "--interval", "1s"];
                    build.cli(&self.world, &doctor, "").await;
                }
            }
        }
    }

    /// Replaces all submitters.
    async fn submitters(&self, to: Build) {
        for submitter in &self.submitters {
            submitter.set(to);
            self.goes_on().await;
        }
    }

    /// Stops the schedules and waits for the rest, then holds what ran against what should have.
    async fn check(&self, to: Build, expected: &Expected) {
        for (id, ..) in SCHEDULES {
            to.cli(&self.world, &["schedule", "pause", id], "").await;
        }
        let client = self.world.connect().await;
        all_settled(&client, DEADLINE).await;
        let events = events(&client).await;
        let ids: Vec<String> = expected.runs.keys().cloned().collect();
        assert_outcomes(&events, &ids, EventKind::Succeeded);
        assert_outcomes(&events, &expected.cancelled, EventKind::Cancelled);
        assert_eq!(messages_in(&client, Place::Dead).await, 0, "dead jobs");

        let mut ran: BTreeMap<String, usize> = BTreeMap::new();
        for line in std::fs::read_to_string(&self.runs).expect("runs").lines() {
            let id = line.split(' ').next().unwrap_or_default();
            *ran.entry(id.to_owned()).or_default() += 1;
        }
        let mut fires = 0;
        for (id, _, step) in SCHEDULES {
            fires += assert_fires(id, step, &mut ran);
        }
        let wrong: Vec<_> = ran
            .iter()
            .filter(|(id, runs)| expected.runs.get(*id) != Some(runs))
            .collect();
        assert!(wrong.is_empty(), "ran more or less often: {wrong:?}");
        assert_eq!(ran.len(), expected.runs.len(), "jobs that ran");
        println!(
            "{} jobs in {} runs, {} cancelled, {fires} fires: none lost, none run twice, no gap",
            ran.len(),
            ran.values().sum::<usize>(),
            expected.cancelled.len(),
        );
    }
}

/// Asserts that each fire of a schedule ran once and none is missing; takes them out and counts them.
fn assert_fires(schedule: &str, step: u64, ran: &mut BTreeMap<String, usize>) -> u64 {
    let prefix = format!("{schedule}-");
    let of = |id: &String| id.strip_prefix(&prefix)?.parse::<u64>().ok();
    let twice: Vec<_> = ran
        .iter()
        .filter(|(id, runs)| of(id).is_some() && **runs > 1)
        .collect();
    assert!(twice.is_empty(), "fires that ran twice: {twice:?}");
    let fires: BTreeSet<u64> = ran.keys().filter_map(of).collect();
    ran.retain(|id, _| of(id).is_none());
    let (first, last) = (fires.first().expect("a fire"), fires.last().expect("one"));
    let expected = (last - first) / step + 1;
    assert_eq!(fires.len() as u64, expected, "fires are missing: {fires:?}");
    expected
}

/// What one submitter submits at once, as JSON lines.
fn lines(tick: usize, who: usize, expected: &mut Expected) -> String {
    let at = |ahead: u64| (Utc::now() + Duration::from_secs(ahead)).to_rfc3339();
    let mut lines: Vec<Value> = Vec::new();
    let mut add = |line: Value, runs: Option<usize>| {
        if let (Some(runs), Some(id)) = (runs, line["id"].as_str()) {
            expected.runs.insert(id.to_owned(), runs);
        }
        lines.push(line);
    };
    for number in 0..AT_ONCE {
        let id = format!("count-{tick}-{who}-{number}");
        add(json!({"task": "count", "id": id}), Some(1));
    }
    let id = format!("flaky-{tick}-{who}");
    add(json!({"task": "flaky", "id": id}), Some(2));
    let id = format!("later-{tick}-{who}");
    add(json!({"task": "count", "id": id, "run_at": at(1)}), Some(1));
    let id = format!("doomed-{tick}-{who}");
    add(json!({"task": "count", "id": id, "run_at": at(3600)}), None);
    // One job, whoever of the two comes first.
    let id = format!("only-{tick}");
    add(json!({"task": "count", "id": id, "run_at": at(5)}), Some(1));
    if who == 0 && tick.is_multiple_of(3) {
        add(
            json!({"task": "endless", "id": format!("endless-{tick}")}),
            None,
        );
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Moves an installation under load; `back` in the order of a rollback.
async fn goes_over(from: Build, to: Build, back: bool) {
    let (moving, mut schedulers, mut workers) = Move::start(from).await;
    let mut logs = Vec::new();
    let rolling = async {
        moving.goes_on().await;
        if back {
            moving.submitters(to).await;
            moving.workers(&mut workers, to, &mut logs).await;
            moving.schedulers(&mut schedulers, to, &mut logs).await;
        } else {
            moving.schedulers(&mut schedulers, to, &mut logs).await;
            moving.workers(&mut workers, to, &mut logs).await;
            moving.submitters(to).await;
        }
        moving.over.set(true);
    };
    let (expected, ()) = join!(moving.load(), rolling);
    moving.check(to, &expected).await;
    for build in [Build::Old, Build::New] {
        let check = ["topology", "check"];
        build.cli(&moving.world, &check, "").await;
    }
    for process in schedulers.iter_mut().chain(&mut workers) {
        process.stop().await;
        logs.push(process.stderr());
    }
    let troubles = logs.iter().flat_map(|log| log.lines());
    let troubles = troubles.filter(|line| line.contains("ERROR") || line.contains("panicked"));
    let troubles: Vec<_> = troubles.collect();
    assert!(troubles.is_empty(), "{troubles:#?}");
}

#[tokio::test]
#[ignore = "needs the programs of an older version, in the folder REPULL_OLD_BINARIES"]
async fn an_upgrade_process_by_process_under_load_loses_and_doubles_nothing() {
    Box::pin(goes_over(Build::Old, Build::New, false)).await;
}

#[tokio::test]
#[ignore = "needs the programs of an older version, in the folder REPULL_OLD_BINARIES"]
async fn a_rollback_process_by_process_under_load_loses_and_doubles_nothing() {
    Box::pin(goes_over(Build::New, Build::Old, true)).await;
}
