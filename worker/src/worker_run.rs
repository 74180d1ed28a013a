//! Running a worker: metrics and health first, then the loop.

use crate::builder::Worker;
use crate::driver::{self, Parts};
use crate::error::Error;
use crate::nudge::Nudge;
use crate::pulse::Pulse;
use crate::shutdown::Shutdown;
use crate::startup::Pages;

impl Worker {
    /// Serves jobs until `shutdown` fires and what runs has ended, or until it can't go on.
    ///
    /// # Errors
    /// The streams or consumers are not as they must be or were not there in time, the connection is
    /// dead for good, or the watchdog found a stall that nothing cured.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), Error> {
        self.config.validate()?;
        let _nudge = Nudge::start().map_err(|error| {
            Error::Engine(format!("the system gives no thread to the worker: {error}"))
        })?;
        let Self {
            client,
            config,
            registry,
            monitor,
            pages,
        } = self;
        let pages = match pages {
            Some(pages) => pages,
            None => Pages::serve_with(config.http, monitor.clone()).await?,
        };
        tokio::select! {
            bound = pages.startup.bind(&client, &config) => bound?,
            () = shutdown.drain.cancelled() => return Ok(()),
        }
        // The loop tells of changes; this is where it starts from.
        pages.metrics.connected.set(1);
        let pulse = Pulse::new();
        pages.startup.is_over(pulse.clone());
        let Pages {
            metrics,
            _stop: _stop_http,
            ..
        } = pages;
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
