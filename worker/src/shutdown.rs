//! The two ways to end a worker: drain, and stop now.

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Tells a worker to end. Cloning shares the tokens.
///
/// `drain` lets running jobs finish within the drain time; `stop` hands everything back at once. A
/// stop implies a drain, so a worker needs no order between the two.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Fires when the worker shall take no more jobs and let those that run finish.
    pub drain: CancellationToken,
    /// Fires when the worker shall end now.
    pub stop: CancellationToken,
}

impl Shutdown {
    /// One that fires when its tokens are cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that drains on the first SIGTERM or SIGINT and stops on the second.
    ///
    /// # Errors
    /// The system refused a signal handler.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::new();
        let mut signals = Signals::new()?;
        tokio::spawn({
            let shutdown = shutdown.clone();
            async move {
                let name = signals.next().await;
                info!(signal = name, "draining; a second signal stops at once");
                shutdown.drain();
                let name = signals.next().await;
                warn!(signal = name, "stopping now");
                shutdown.stop();
            }
        });
        Ok(shutdown)
    }

    /// Starts the drain.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Ends the worker now.
    pub fn stop(&self) {
        self.drain.cancel();
        self.stop.cancel();
    }
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
