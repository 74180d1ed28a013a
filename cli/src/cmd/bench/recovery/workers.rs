//! Faults that hit workers: one of them is killed, or the server of all.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::super::arena::Arena;
use super::super::part::{Heard, Micros, PartArgs, PartProcess};
use super::super::raw;
use super::super::work::Durations;
use super::record::Record;
use super::{Bench, Measured, Side};

/// How long after a fault there must still be jobs, besides what the fault itself takes.
const ENOUGH: Duration = Duration::from_secs(3);

/// How long after all leases the last job may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the queue is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Which of the jobs must have started before the fault: one in so many.
const UNDER_WAY: usize = 20;

/// The worker that is killed.
const KILLED: usize = 0;

/// A load under way on worker processes.
struct Load {
    jobs: usize,
    processes: Vec<PartProcess>,
    heard: mpsc::UnboundedReceiver<Heard>,
    record: Record,
}

impl Bench {
    /// A worker is killed among others.
    pub(super) async fn worker_killed(&mut self, side: Side) -> anyhow::Result<Measured> {
        let mut load = self.load(side, self.args.lease + ENOUGH).await?;
        load.is_under_way().await?;
        let at = Micros::now();
        load.processes.remove(KILLED).kill().await?;
        load.finish(self).await?;
        let record = &load.record;
        let again = record.started_again(at, KILLED);
        let seconds = |time: Option<&Duration>| time.map(Duration::as_secs_f64);
        let next = record.next_start(at, Some(KILLED));
        let mut measured = Measured::new();
        let times = [
            (
                "worker killed: next start elsewhere",
                "ms",
                next.map(|next| next.as_secs_f64() * 1e3),
            ),
            (
                "worker killed: its first job runs again",
                "s",
                seconds(again.first()),
            ),
            (
                "worker killed: its last job runs again",
                "s",
                seconds(again.last()),
            ),
        ];
        for (name, unit, value) in times {
            measured.extend(value.map(|value| (name, unit, value)));
        }
        measured.push((
            "worker killed: its jobs that ran again",
            "jobs",
            again.len() as f64,
        ));
        measured.push(("worker killed: lost", "jobs", load.lost()));
        measured.push((
            "worker killed: ran to its end twice",
            "jobs",
            record.doubled() as f64,
        ));
        Ok(measured)
    }

    /// The server is killed, and started again at once on the same store.
    pub(super) async fn server_killed(&mut self, side: Side) -> anyhow::Result<Measured> {
        let mut load = self
            .load(side, self.args.lease.min(ENOUGH) + ENOUGH)
            .await?;
        load.is_under_way().await?;
        let at = Micros::now();
        self.arena.restart_server().await?;
        let back = Micros::now();
        load.finish(self).await?;
        let mut measured = vec![(
            "server killed: back after",
            "s",
            back.since(at).as_secs_f64(),
        )];
        if let Some(pause) = load.record.longest_pause(at) {
            measured.push(("server killed: no start for", "s", pause.as_secs_f64()));
        }
        if let Some(next) = load.record.next_start(back, None) {
            let millis = next.as_secs_f64() * 1e3;
            measured.push(("server killed: next start after it is back", "ms", millis));
        }
        let doubled = load.record.doubled() as f64;
        measured.push(("server killed: lost", "jobs", load.lost()));
        measured.push(("server killed: ran to its end twice", "jobs", doubled));
        if let Some(unseen) = load.record.doubled_unseen() {
            let name = "server killed: twice as the same attempt";
            measured.push((name, "jobs", unseen as f64));
        }
        Ok(measured)
    }

    /// Starts the workers on a backlog that keeps all but one of them busy for that time.
    async fn load(&mut self, side: Side, time: Duration) -> anyhow::Result<Load> {
        let args = &self.args;
        let slots = f64::from(args.workers * args.slots);
        let jobs = slots * time.as_secs_f64() / args.work.as_secs_f64().max(0.001);
        let (jobs, durations) = (jobs as usize, Durations::all(args.work));
        let part = PartArgs {
            queue: String::new(),
            slots: args.slots,
            results: true,
            raw: side == Side::Raw,
            each: true,
        };
        let workers = args.workers as usize;
        let name = self.name("recovery");
        let queue = self.arena.queue(&name).await?;
        let part = PartArgs {
            queue: queue.to_string(),
            ..part
        };
        raw::publish(
            &self.arena.client,
            Arena::jobs(&queue, jobs, &durations, 0)?,
        )
        .await?;
        let (sender, heard) = mpsc::unbounded_channel();
        let mut processes = Vec::new();
        for number in 0..workers {
            let started = PartProcess::start(number, &part, &self.arena.settings, sender.clone());
            processes.push(started.await?);
        }
        for process in &mut processes {
            process.begin().await?;
        }
        Ok(Load {
            jobs,
            processes,
            heard,
            record: Record::default(),
        })
    }
}

impl Load {
    /// Waits until a good part of the jobs has started.
    async fn is_under_way(&mut self) -> anyhow::Result<()> {
        while self.record.jobs() < self.jobs / UNDER_WAY {
            let heard = tokio::time::timeout(PATIENCE, self.heard.recv()).await;
            let heard = heard.map_err(|_| anyhow::anyhow!("no job started within {PATIENCE:?}"))?;
            heard.into_iter().for_each(|heard| self.record.add(heard));
        }
        Ok(())
    }

    /// Waits until the queue is empty, or should have been for long, and ends the workers.
    async fn finish(&mut self, bench: &Bench) -> anyhow::Result<()> {
        let patience = bench.args.lease * 3 + PATIENCE;
        let started = Instant::now();
        loop {
            // A server that has just started may be late to answer.
            let waiting = bench.arena.queued().await;
            self.hear();
            if matches!(waiting, Ok(0)) || started.elapsed() > patience {
                break;
            }
            for process in &mut self.processes {
                process.check()?;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        for process in self.processes.drain(..) {
            process.stop().await?;
        }
        self.hear();
        Ok(())
    }

    fn hear(&mut self) {
        while let Ok(heard) = self.heard.try_recv() {
            self.record.add(heard);
        }
    }

    /// Jobs that never ran to their end.
    fn lost(&self) -> f64 {
        (self.jobs - self.record.ended()) as f64
    }
}
