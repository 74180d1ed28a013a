//! What a scheduler says when asked how it is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use repull::client::Client;
use repull::telemetry::Health;

use crate::sharding::Board;
use crate::started::Start;

/// After how long without a round of its loop a scheduler counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// A scheduler's health. A standby is as ready as a leader.
#[derive(Debug)]
pub struct SchedulerHealth {
    client: Client,
    board: OnceLock<Arc<Board>>,
    start: OnceLock<Start>,
    stopping: AtomicBool,
}

impl SchedulerHealth {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            board: OnceLock::new(),
            start: OnceLock::new(),
            stopping: AtomicBool::new(false),
        }
    }

    pub(crate) fn watch(&self, board: Arc<Board>) {
        let _ = self.board.set(board);
    }

    pub(crate) fn wait_for(&self, start: Start) {
        let _ = self.start.set(start);
    }

    pub(crate) fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

impl Health for SchedulerHealth {
    fn alive(&self) -> Result<(), String> {
        let Some(board) = self.board.get() else {
            return Ok(());
        };
        let silent = board.silent_for();
        if silent > STUCK_AFTER {
            return Err(format!(
                "the loop has not gone round for {}s",
                silent.as_secs()
            ));
        }
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err("stopping".to_owned());
        }
        if !self.start.get().is_some_and(Start::is_done) {
            return Err("reading schedules and later jobs".to_owned());
        }
        let state = self.client.nats().connection_state();
        if state != async_nats::connection::State::Connected {
            return Err(format!("not connected to NATS ({state})"));
        }
        Ok(())
    }
}
