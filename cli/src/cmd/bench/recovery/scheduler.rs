//! The scheduler that leads is killed while a schedule fires; another one stands by.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use repull::wire::Place;
use serde_json::json;

use super::super::schedules::process::SchedulerProcess;
use super::super::schedules::store::{self, Stored};
use super::{Bench, Measured};

/// The schedule's interval.
const EVERY: Duration = Duration::from_millis(50);

/// How long after it was stored the schedule begins, and fires before the fault.
const LEAD: Duration = Duration::from_secs(1);

/// How long after the lease fires may still be missing.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the queue is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Bench {
    pub(super) async fn scheduler_killed(&mut self) -> anyhow::Result<Measured> {
        let (program, lease) = (self.args.scheduler.clone(), self.args.scheduler_lease);
        let settings = &self.arena.settings;
        let leader = SchedulerProcess::start(program.clone(), settings, lease).await?;
        let successor = SchedulerProcess::start_beside(program, settings, lease).await?;
        anyhow::ensure!(
            leader.leads().await,
            "the scheduler that led has lost its lease before the fault"
        );
        let queue = self.name("recovery");
        let first = repull::clock::now().trunc_subsecs(0) + TimeDelta::seconds(1);
        let first = first + TimeDelta::from_std(LEAD)?;
        // Long enough to outlast the lease, wherever in it the leader dies.
        let span = LEAD + lease + LEAD;
        let fires = span.as_millis() / EVERY.as_millis();
        let end = first + TimeDelta::from_std(EVERY)? * i32::try_from(fires - 1)?;
        let trigger = json!({
            "every": {"interval": "50ms", "anchor": first},
            "start": first,
            "end": end,
        });
        let schedule = store::schedule(&queue, &queue, trigger, 0, first - TimeDelta::seconds(1));
        store::put(&self.arena.client, std::iter::once(schedule)).await?;
        let fault = first + TimeDelta::from_std(LEAD)?;
        let wait = (fault - repull::clock::now()).to_std();
        tokio::time::sleep(wait.unwrap_or_default()).await;
        let at = repull::clock::now();
        // SIGKILL, and it is gone.
        drop(leader);
        self.fired(usize::try_from(fires)?, end + TimeDelta::from_std(lease)?)
            .await?;
        let stored = store::read(&self.arena.client, &queue).await?;
        self.arena.clear(Place::Jobs).await?;
        successor.stop().await?;
        Ok(measured(&stored, usize::try_from(fires)?, at))
    }

    /// Waits until all fires are stored, or should have been for long.
    async fn fired(&self, fires: usize, by: DateTime<Utc>) -> anyhow::Result<()> {
        let patience = (by - repull::clock::now()).to_std().unwrap_or_default() + PATIENCE;
        let started = Instant::now();
        while self.arena.queued().await? < fires as u64 && started.elapsed() < patience {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

fn measured(stored: &[Stored], fires: usize, at: DateTime<Utc>) -> Measured {
    let distinct: HashSet<i64> = stored.iter().map(|job| job.suffix).collect();
    let mut measured = Measured::new();
    // What the leader had on its way when it was killed is stored right after that, so the next fire
    // is the one after the longest silence.
    let after: Vec<DateTime<Utc>> = std::iter::once(at)
        .chain(
            stored
                .iter()
                .map(|job| job.at)
                .filter(|stored| *stored > at),
        )
        .collect();
    let pause = after
        .windows(2)
        .filter_map(|pair| match pair {
            [before, after] => Some((*after - *before, *after)),
            _ => None,
        })
        .max();
    if let Some((_, next)) = pause {
        let next = (next - at).as_seconds_f64();
        measured.push(("scheduler killed: next fire", "s", next));
    }
    let lost = fires.saturating_sub(distinct.len()) as f64;
    let doubled = (stored.len() - distinct.len()) as f64;
    measured.push(("scheduler killed: fires lost", "fires", lost));
    measured.push(("scheduler killed: fires twice", "fires", doubled));
    measured
}
