//! Running a worker: metrics and health first, then the loop.

use std::sync::Arc;

use prometheus_client::registry::Registry as MetricsRegistry;
use tokio_util::sync::CancellationToken;

use crate::builder::Worker;
use crate::driver::{self, Parts};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::nudge::Nudge;
use crate::pulse::Pulse;
use crate::shutdown::Shutdown;

impl Worker {
    /// Serves jobs until `shutdown` fires and what runs has ended, or until it can't go on.
    ///
    /// # Errors
    /// The streams or consumers are not as they must be, the connection is dead for good, or the
    /// watchdog found a stall that nothing cured.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), Error> {
        self.config.validate()?;
        let monitor = self.monitor.clone();
        let mut metrics_registry = MetricsRegistry::default();
        let metrics = Metrics::register(&mut metrics_registry, &monitor);
        let pulse = Pulse::new();
        let _nudge = Nudge::start().map_err(|error| {
            Error::Engine(format!("the system gives no thread to the worker: {error}"))
        })?;
        let stop_http = CancellationToken::new();
        let _stop_http = stop_http.clone().drop_guard();
        if let Some(address) = self.config.http {
            repull::telemetry::serve(
                address,
                Arc::new(metrics_registry),
                Arc::new(pulse.clone()),
                stop_http,
            )
            .await?;
        }
        let Self {
            client,
            config,
            registry,
            ..
        } = self;
        let parts = Parts {
            client,
            config,
            registry,
            monitor,
            metrics,
            pulse,
            shutdown,
        };
        // On a thread of the runtime: its wake-ups are cheaper there than on the thread that waits.
        match tokio::spawn(driver::run(parts)).await {
            Ok(result) => result,
            Err(panic) => Err(Error::Engine(format!("the worker's loop broke: {panic}"))),
        }
    }
}
