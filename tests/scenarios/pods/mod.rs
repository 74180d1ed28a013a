//! Processes that come and go as Kubernetes would have it: started, SIGTERM, a grace period, SIGKILL.
//!
//! The numbers are the manifests' rules at a smaller size: a grace period is the drain, plus what
//! cancelled handlers get, plus a margin for handing back, which is what `tools/check-deploy` asks
//! of every rendering.

mod keda;
mod rollout;
mod scaling;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use repull::client::Enqueued;
use repull::wire::{EventKind, JobEvent};
use repull_tests::{DEADLINE, Process, World, assert_outcomes};

/// How long running jobs may go on after SIGTERM.
const DRAIN: Duration = Duration::from_secs(3);

/// How long a cancelled handler may take to end.
const CANCEL_GRACE: Duration = Duration::from_secs(1);

/// For handing back and the last acks; the same as in `deploy/checks/house.py`.
const MARGIN: Duration = Duration::from_secs(3);

/// `terminationGracePeriodSeconds`.
const GRACE: Duration = DRAIN.saturating_add(CANCEL_GRACE).saturating_add(MARGIN);

/// A process under the care of a kubelet.
struct Pod {
    process: Process,
    grace: Duration,
}

/// How a pod ended.
#[derive(Debug)]
struct Ended {
    /// Whether the grace period was over first.
    killed: bool,
    /// Whether it ended by itself and said that all was well.
    clean: bool,
    /// From SIGTERM to its end.
    took: Duration,
    /// Attempts that it started, where it is a worker that lived to say so.
    started: Option<usize>,
}

impl Pod {
    /// Starts a worker and waits until its readiness probe succeeds.
    async fn worker(world: &World, slots: u32) -> Self {
        let cancel_grace = format!("{}ms", CANCEL_GRACE.as_millis());
        let worker = world.worker().slots(slots).drain(DRAIN);
        let process = worker.arg("--cancel-grace").arg(&cancel_grace);
        Self::of(process.start().await)
    }

    /// Starts a scheduler and waits until its readiness probe succeeds.
    async fn scheduler(world: &World) -> Self {
        Self::of(world.scheduler().start().await)
    }

    fn of(process: Process) -> Self {
        Self {
            process,
            grace: GRACE,
        }
    }

    /// Another grace period than the manifests would give it.
    fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Ends it as a kubelet does: SIGTERM, then SIGKILL when the grace period is over.
    async fn delete(mut self) -> Ended {
        let asked = Instant::now();
        self.process.terminate();
        while self.process.is_running() && asked.elapsed() < self.grace {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let killed = self.process.is_running();
        if killed {
            self.process.kill().await;
        }
        let took = asked.elapsed();
        let status = self.process.wait_exit(DEADLINE).await;
        Ended {
            killed,
            clean: status.success(),
            took,
            started: started_in(&self.process.stderr()),
        }
    }
}

/// How many attempts a worker says at its end that it started.
fn started_in(log: &str) -> Option<usize> {
    let line = log.lines().find(|line| line.contains("worker stopped"))?;
    let number = line.split_once("started=")?.1;
    number.split_whitespace().next()?.parse().ok()
}

/// Asserts that a pod drained by itself within its grace period.
fn assert_drained(ended: &Ended) {
    assert!(!ended.killed, "outlasted its grace period of {GRACE:?}");
    assert!(ended.clean, "a drain ends with success, and this {ended:?}");
}

/// Asserts that each of these jobs succeeded, once.
fn assert_all_succeeded(events: &HashMap<String, Vec<JobEvent>>, jobs: &[Enqueued]) {
    let ids: Vec<String> = jobs.iter().map(|job| job.address.id.to_string()).collect();
    assert_outcomes(events, &ids, EventKind::Succeeded);
}

/// How many jobs took more than one attempt.
fn run_again(events: &HashMap<String, Vec<JobEvent>>) -> usize {
    let events = events.values().flatten();
    events.filter(|event| event.attempt > 1).count()
}
