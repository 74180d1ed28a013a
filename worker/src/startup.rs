//! The time between a worker's first moment and its first pull.
//!
//! In a cluster everything is started at once, and what a worker needs may come minutes after it: the
//! server, the streams, the consumers that the scheduler makes. So the worker waits, says what it
//! waits for in its log and on `/readyz`, and ends with the reason when its patience is over. What
//! waiting cannot mend ends it at once.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry as MetricsRegistry;
use repull::client::Client;
use repull::connect::{ConnectError, Settings};
use repull::telemetry::{Health, HttpError};
use repull::topology::TopologyError;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use crate::config::WorkerConfig;
use crate::control;
use crate::crew::Queues;
use crate::error::{Error, chain};
use crate::lanes::Lanes;
use crate::metrics::{Metrics, SlotMonitor};
use crate::pulse::Pulse;

/// The pauses between two tries: doubled from the first to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);

/// What a worker shows over HTTP from its first moment on: metrics, health and readiness.
///
/// A worker that is run without has its own, from when it is connected; made before, they are there
/// while it waits for the server.
///
/// ```no_run
/// use repull::connect::Settings;
/// use repull_worker::{Pages, Shutdown, Worker, WorkerConfig};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let config = WorkerConfig::default();
/// let pages = Pages::serve(config.http).await?;
/// let settings = Settings::for_servers("nats://127.0.0.1:4222");
/// let client = pages.connect(&settings, &config).await?;
/// let worker = Worker::builder(client).config(config).pages(pages).builtins().build()?;
/// worker.run(Shutdown::on_signals()?).await?;
/// # Ok(())
/// # }
/// ```
pub struct Pages {
    pub(crate) monitor: SlotMonitor,
    pub(crate) metrics: Metrics,
    pub(crate) startup: Arc<Startup>,
    pub(crate) _stop: DropGuard,
}

impl Pages {
    /// Serves them at `address`, where there is one.
    ///
    /// # Errors
    /// The address can't be listened on.
    pub async fn serve(address: Option<SocketAddr>) -> Result<Self, HttpError> {
        Self::serve_with(address, SlotMonitor::default()).await
    }

    pub(crate) async fn serve_with(
        address: Option<SocketAddr>,
        monitor: SlotMonitor,
    ) -> Result<Self, HttpError> {
        let mut registry = MetricsRegistry::default();
        let metrics = Metrics::register(&mut registry, &monitor);
        let startup = Arc::new(Startup::default());
        let stop = CancellationToken::new();
        if let Some(address) = address {
            let health = startup.clone();
            repull::telemetry::serve(address, Arc::new(registry), health, stop.clone()).await?;
        }
        Ok(Self {
            monitor,
            metrics,
            startup,
            _stop: stop.drop_guard(),
        })
    }

    /// Connects for a worker of this config, and waits for the server for as long as it says.
    ///
    /// # Errors
    /// The options are wrong or the server is too old; or nobody answered, or the credentials were
    /// refused, until the time was over.
    pub async fn connect(
        &self,
        settings: &Settings,
        config: &WorkerConfig,
    ) -> Result<Client, Error> {
        let mut patience = Patience::new(config.start_timeout);
        let client = loop {
            match Client::connect_as(settings, config.id.as_str()).await {
                Ok(client) => break client,
                Err(
                    error @ (ConnectError::Unreachable { .. } | ConnectError::NoJetStream { .. }),
                ) => patience.spend(&self.startup, client_error(error)).await?,
                Err(error) => return Err(client_error(error)),
            }
        };
        self.startup.went_on(&patience);
        self.metrics.connected.set(1);
        Ok(client)
    }
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages")
            .field("startup", &self.startup)
            .finish_non_exhaustive()
    }
}

fn client_error(error: impl Into<repull::client::Error>) -> Error {
    Error::Client(error.into())
}

/// What the worker waits for; once it runs, its loop's pulse.
#[derive(Debug, Default)]
pub(crate) struct Startup {
    waiting_for: Mutex<Option<String>>,
    pulse: OnceLock<Pulse>,
}

impl Startup {
    /// Waits until all lanes of the worker can be bound to their consumers.
    pub(crate) async fn bind(&self, client: &Client, config: &WorkerConfig) -> Result<(), Error> {
        let mut patience = Patience::new(config.start_timeout);
        loop {
            let queues = Queues::default();
            let names = config.queues.iter().map(|queue| &queue.name);
            control::load_settings(client, &queues, names).await;
            match Lanes::bind(client, config, &queues).await {
                Ok(_) => break,
                Err(
                    error @ Error::Client(repull::client::Error::Topology(
                        TopologyError::Different(_),
                    )),
                ) => return Err(error),
                Err(error) => patience.spend(self, error).await?,
            }
        }
        self.went_on(&patience);
        Ok(())
    }

    /// The loop runs: from now on it is what is asked.
    pub(crate) fn is_over(&self, pulse: Pulse) {
        let _ = self.pulse.set(pulse);
    }

    fn went_on(&self, patience: &Patience) {
        if self.set_waiting_for(None).is_some() {
            info!(waited = ?patience.since.elapsed(), "what the worker waited for is there");
        }
    }

    fn set_waiting_for(&self, what: Option<String>) -> Option<String> {
        let mut waiting_for = self
            .waiting_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut waiting_for, what)
    }
}

/// How long something is waited for, and how often it is tried.
struct Patience {
    since: Instant,
    whole: Duration,
    pause: Duration,
}

impl Patience {
    fn new(whole: Duration) -> Self {
        Self {
            since: Instant::now(),
            whole,
            pause: PAUSE_FIRST,
        }
    }

    /// Tells why the last try failed and waits for the next; the error comes back when the time is
    /// over.
    async fn spend(&mut self, startup: &Startup, error: Error) -> Result<(), Error> {
        let waited = self.since.elapsed();
        if self.whole.is_zero() {
            return Err(error);
        }
        if waited >= self.whole {
            return Err(Error::NotStarted {
                waited,
                source: Box::new(error),
            });
        }
        let reason = chain(&error);
        startup.set_waiting_for(Some(reason.clone()));
        warn!(reason, ?waited, "the worker can't start yet; trying again");
        tokio::time::sleep(self.pause.min(self.whole - waited)).await;
        self.pause = (self.pause * 2).min(PAUSE_LONGEST);
        Ok(())
    }
}

impl Health for Startup {
    fn alive(&self) -> Result<(), String> {
        // To wait is to be alive: a restart would bring nothing nearer.
        self.pulse.get().map_or(Ok(()), Health::alive)
    }

    fn ready(&self) -> Result<(), String> {
        if let Some(pulse) = self.pulse.get() {
            return pulse.ready();
        }
        let waiting_for = self
            .waiting_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Err(match &*waiting_for {
            Some(reason) => format!("starting: {reason}"),
            None => "starting".to_owned(),
        })
    }
}
