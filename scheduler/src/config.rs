//! What a scheduler is told.

use std::num::NonZeroU16;
use std::time::Duration;

use repull::id::{QueueName, WorkerId};
use repull::topology::Layout;

/// The shortest lease: the server's timers for the bucket's max age are coarse.
pub const LEASE_MIN: Duration = Duration::from_secs(2);

/// Most shards.
pub const SHARDS_MAX: u16 = 256;

/// A scheduler's options. The defaults are right for a single server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its id, shown in the lease and in the ledger.
    pub id: WorkerId,
    /// How the streams are made where they are absent; `lease` is among it.
    pub layout: Layout,
    /// Queues whose consumers are made at the start.
    pub queues: Vec<QueueName>,
    /// Into how many shards schedules are split, where that is not written down yet.
    pub shards: NonZeroU16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            id: WorkerId::generate(),
            layout: Layout::default(),
            queues: vec![QueueName::default()],
            shards: NonZeroU16::MIN,
        }
    }
}

impl Config {
    /// Checks what the types can't, and says all that is wrong.
    ///
    /// # Errors
    /// Names each option, its value and what was expected.
    pub fn check(&self) -> Result<(), String> {
        let mut problems = Vec::new();
        if self.layout.lease < LEASE_MIN {
            problems.push(format!(
                "lease is {}, expected at least {}",
                humantime::format_duration(self.layout.lease),
                humantime::format_duration(LEASE_MIN)
            ));
        }
        if !matches!(self.layout.replicas, 1..=5) {
            problems.push(format!(
                "replicas is {}, expected 1 to 5",
                self.layout.replicas
            ));
        }
        if self.shards.get() > SHARDS_MAX {
            problems.push(format!(
                "shards is {}, expected 1 to {SHARDS_MAX}",
                self.shards
            ));
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(problems.join("; ")),
        }
    }
}
