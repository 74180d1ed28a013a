//! A worker that runs inside this process: started, watched, drained.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use repull_worker::{Shutdown, SlotMonitor, Worker, chain};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long a worker that was told to stop now may take; it has nothing to wait for but the server.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The same for a worker that may have lost the server.
const ABANDON_TIMEOUT: Duration = Duration::from_secs(1);

/// A running worker.
#[derive(Debug)]
pub(super) struct Hand {
    monitor: SlotMonitor,
    shutdown: Shutdown,
    /// None once its end has been told.
    task: Option<JoinHandle<Result<(), repull_worker::Error>>>,
}

impl Hand {
    /// Starts a worker.
    pub(super) fn start(worker: Worker) -> Self {
        let (monitor, shutdown) = (worker.monitor(), Shutdown::new());
        let task = tokio::spawn(worker.run(shutdown.clone()));
        Self {
            monitor,
            shutdown,
            task: Some(task),
        }
    }

    /// Its slots.
    pub(super) fn monitor(&self) -> &SlotMonitor {
        &self.monitor
    }

    /// Whether it runs no more.
    pub(super) fn has_ended(&self) -> bool {
        self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Starts its drain without waiting for the end of it.
    pub(super) fn drain(&self) {
        self.shutdown.drain();
    }

    /// Waits until it ends. How it ended is told once.
    pub(super) async fn ended(&mut self) -> anyhow::Result<()> {
        let Some(task) = &mut self.task else {
            return Ok(());
        };
        let ended = task.await;
        self.task = None;
        match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(anyhow!(chain(&error)).context("the worker failed")),
            Err(panic) => Err(panic).context("the worker broke"),
        }
    }

    /// Ends it at once, whether it can hand its jobs back or not: they are delivered again in time.
    pub(super) async fn abandon(&mut self) {
        self.shutdown.stop();
        if timeout(ABANDON_TIMEOUT, self.ended()).await.is_err() {
            self.abort();
        }
    }

    /// Drains it and waits for the end of that, or stops it as soon as `hurry` fires.
    pub(super) async fn finish(&mut self, hurry: &Shutdown) -> anyhow::Result<()> {
        self.drain();
        tokio::select! {
            ended = self.ended() => return ended,
            () = hurry.stop.cancelled() => self.shutdown.stop(),
        }
        let Ok(ended) = timeout(STOP_TIMEOUT, self.ended()).await else {
            self.abort();
            bail!("the worker did not stop within {STOP_TIMEOUT:?}");
        };
        ended
    }

    fn abort(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}
