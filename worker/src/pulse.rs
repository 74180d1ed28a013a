//! The loop's signs of life, as `/healthz` and `/readyz` show them.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// Shows that the loop turns, and whether the worker may be sent work.
#[derive(Clone, Debug)]
pub(crate) struct Pulse(Arc<std::sync::Mutex<PulseState>>);

#[derive(Debug)]
struct PulseState {
    turned_at: Instant,
    bound: bool,
    draining: bool,
    connected: bool,
}

/// After how long without a turn the loop counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(20);

impl Pulse {
    /// Of a loop that has not started yet.
    pub(crate) fn new() -> Self {
        let state = PulseState {
            turned_at: Instant::now(),
            bound: false,
            draining: false,
            connected: true,
        };
        Self(Arc::new(std::sync::Mutex::new(state)))
    }

    /// The loop has just turned.
    pub(crate) fn turned(&self) {
        self.with(|state| state.turned_at = Instant::now());
    }

    /// All consumers are there, or one of them is not.
    pub(crate) fn bound(&self, bound: bool) {
        self.with(|state| state.bound = bound);
    }

    /// The worker stops.
    pub(crate) fn draining(&self) {
        self.with(|state| state.draining = true);
    }

    /// The connection is there, or is not.
    pub(crate) fn connected(&self, connected: bool) {
        self.with(|state| state.connected = connected);
    }

    fn with<T>(&self, f: impl FnOnce(&mut PulseState) -> T) -> T {
        f(&mut self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl repull::telemetry::Health for Pulse {
    fn alive(&self) -> Result<(), String> {
        let silent = self.with(|state| state.turned_at.elapsed());
        if silent < STUCK_AFTER {
            Ok(())
        } else {
            Err(format!("the worker's loop has not turned for {silent:?}"))
        }
    }

    fn ready(&self) -> Result<(), String> {
        self.alive()?;
        self.with(|state| match state {
            PulseState { draining: true, .. } => Err("draining".to_owned()),
            PulseState {
                connected: false, ..
            } => Err("not connected to NATS".to_owned()),
            PulseState { bound: false, .. } => Err("not bound to its consumers yet".to_owned()),
            _ => Ok(()),
        })
    }
}
