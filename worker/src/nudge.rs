//! Keeps the runtime's eyes open beside handlers that block their thread.
//!
//! A thread of the runtime that blocks in a handler may be the one whose turn it was to watch the
//! sockets and the timers, and a runtime wakes another one only when it has a second task at hand. Then
//! everything stands still: no keep-alive, no cancel, no answer to a health check. A plain thread that
//! hands the runtime an empty task now and then wakes another thread of it, which finds the watch free
//! and takes it.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tokio::runtime::Handle;

/// How long the runtime may be blind at most.
const INTERVAL: Duration = Duration::from_millis(100);

/// Nudges the runtime until it is dropped.
#[derive(Debug)]
pub(crate) struct Nudge {
    /// Its end is the sign to stop.
    _alive: Sender<()>,
}

impl Nudge {
    /// Starts to nudge the current runtime.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (alive, ended) = channel::<()>();
        let runtime = Handle::current();
        std::thread::Builder::new()
            .name("nudge".to_owned())
            .spawn(move || {
                while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                    drop(runtime.spawn(std::future::ready(())));
                }
            })?;
        Ok(Self { _alive: alive })
    }
}
