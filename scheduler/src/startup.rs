//! The time between the process's first moment and its connection.
//!
//! In a cluster everything is started at once, and the server may come minutes later. A scheduler
//! waits for it, says so in its log and on `/readyz`, and ends with the reason when its patience is
//! over. What waiting cannot mend ends it at once.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use repull::client::Client;
use repull::connect::{ConnectError, Settings};
use repull::telemetry::Health;
use repull_scheduler::SchedulerHealth;
use tracing::{info, warn};

/// The pauses between two tries: doubled from the first to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);

/// What the process waits for; once it is connected, its scheduler's health.
#[derive(Debug, Default)]
pub(crate) struct Startup {
    waiting_for: Mutex<String>,
    scheduler: OnceLock<Arc<SchedulerHealth>>,
}

impl Startup {
    /// Connects, and waits for the server for at most `patience`.
    pub(crate) async fn connect(
        &self,
        settings: &Settings,
        name: &str,
        patience: Duration,
    ) -> anyhow::Result<Client> {
        let since = Instant::now();
        let mut pause = PAUSE_FIRST;
        loop {
            let error = match Client::connect_as(settings, name).await {
                Ok(client) => {
                    if pause > PAUSE_FIRST {
                        info!(waited = ?since.elapsed(), "what the scheduler waited for is there");
                    }
                    return Ok(client);
                }
                Err(
                    error @ (ConnectError::Unreachable { .. } | ConnectError::NoJetStream { .. }),
                ) if !patience.is_zero() => error,
                Err(error) => return Err(error.into()),
            };
            let waited = since.elapsed();
            if waited >= patience {
                return Err(error)
                    .with_context(|| format!("could not start within {} s", waited.as_secs()));
            }
            let reason = error.to_string();
            warn!(
                reason,
                ?waited,
                "the scheduler can't start yet; trying again"
            );
            *self.waiting_for() = reason;
            tokio::time::sleep(pause.min(patience - waited)).await;
            pause = (pause * 2).min(PAUSE_LONGEST);
        }
    }

    /// It is connected: from now on its scheduler is asked.
    pub(crate) fn is_over(&self, scheduler: Arc<SchedulerHealth>) {
        let _ = self.scheduler.set(scheduler);
    }

    fn waiting_for(&self) -> std::sync::MutexGuard<'_, String> {
        self.waiting_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Health for Startup {
    fn alive(&self) -> Result<(), String> {
        // To wait is to be alive: a restart would bring nothing nearer.
        self.scheduler.get().map_or(Ok(()), |health| health.alive())
    }

    fn ready(&self) -> Result<(), String> {
        if let Some(health) = self.scheduler.get() {
            return health.ready();
        }
        let reason = self.waiting_for();
        Err(match reason.as_str() {
            "" => "starting".to_owned(),
            reason => format!("starting: {reason}"),
        })
    }
}
