//! Connecting to NATS as its users know it, and saying why where it does not work.
//!
//! NATS reports a refused permission only as an asynchronous event, so that the caller sees a
//! timeout. [`Connection`] remembers those events and adds them to the error they explain.

mod args;
mod context;
mod proof;
mod version;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use tokio::sync::watch;
use tracing::{debug, info, warn};

pub use args::{ConnectArgs, SERVER_DEFAULT, Settings};
pub use context::ContextError;
pub use version::{SERVER_VERSION_MIN, ServerVersion};

/// How long the server has to answer when we connect.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the connection is probed. Two missed answers end it, so a dead peer is noticed within
/// about three times this.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);

/// How long a request to the server may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How many messages of one subscription may wait to be read; more are dropped. A server sends up to
/// 32 MB ahead to a reader of a stream, which is this many small ones.
pub const SUBSCRIPTION_CAPACITY: usize = 1 << 19;

/// What the subjects of the JetStream API begin with where no domain is named.
const API_PREFIX: &str = "$JS.API";

/// How many refusals are remembered.
const REFUSALS_KEPT: usize = 16;

/// For how long a refusal explains a timeout.
const REFUSAL_FRESH: Duration = Duration::from_secs(30);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The options contradict each other or name what is not there.
    #[error("{0}")]
    Options(String),
    /// The context of the `nats` CLI can't be used.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// A file of credentials can't be read.
    #[error("can't read {what} `{path}`")]
    File {
        /// What the file is for.
        what: &'static str,
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Nobody answered, or the server said no.
    #[error("no connection to NATS at {servers}: {reason}")]
    Unreachable {
        /// The servers that were tried, without secrets.
        servers: String,
        /// What happened.
        reason: String,
    },
    /// The server is older than we can work with.
    #[error("NATS server `{server}` is version {found}, expected at least {SERVER_VERSION_MIN}")]
    TooOld {
        /// The server's name.
        server: String,
        /// Its version.
        found: String,
    },
    /// JetStream is not there for this account.
    #[error("JetStream is not available on NATS at {servers}: {reason}")]
    NoJetStream {
        /// The servers.
        servers: String,
        /// What the server said.
        reason: String,
    },
}

/// A connection to NATS with JetStream.
#[derive(Clone)]
pub struct Connection {
    /// The core client.
    pub nats: async_nats::Client,
    /// The same with JetStream.
    pub jetstream: jetstream::Context,
    /// What the subjects of the JetStream API begin with.
    api_prefix: Arc<str>,
    refusals: Refusals,
    connects: watch::Receiver<u64>,
    /// How it was made; none where it is an application's own.
    settings: Option<Arc<Settings>>,
    /// Keeps `connects` open where no event tells of changes.
    _unchanged: Option<Arc<watch::Sender<u64>>>,
}

impl fmt::Debug for Connection {
    /// Without the settings, which hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("nats", &self.nats)
            .field("api_prefix", &self.api_prefix)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects, and checks that the server is new enough and has JetStream.
    pub async fn open(settings: &Settings, name: &str) -> Result<Self, ConnectError> {
        let refusals = Refusals::default();
        let (connected, connects) = watch::channel(0);
        let options = settings
            .options()
            .await?
            .name(name)
            .connection_timeout(CONNECT_TIMEOUT)
            .ping_interval(PING_INTERVAL)
            .request_timeout(Some(REQUEST_TIMEOUT))
            .subscription_capacity(SUBSCRIPTION_CAPACITY)
            // All our subjects are made of checked names.
            .skip_subject_validation(true)
            .reconnect_delay_callback(reconnect_delay)
            .event_callback({
                let refusals = refusals.clone();
                move |event| {
                    refusals.observe(&event);
                    if matches!(
                        event,
                        async_nats::Event::Connected | async_nats::Event::Disconnected
                    ) {
                        connected.send_modify(|count| *count += 1);
                    }
                    std::future::ready(())
                }
            });
        let unreachable = |reason: String| ConnectError::Unreachable {
            servers: settings.servers_redacted(),
            reason,
        };
        let nats = options
            .connect(settings.places()?)
            .await
            .map_err(|error| unreachable(explain_connect(&error)))?;
        let info = nats.server_info();
        if ServerVersion::parse(&info.version).is_none_or(|version| version < SERVER_VERSION_MIN) {
            return Err(ConnectError::TooOld {
                server: info.server_name,
                found: info.version,
            });
        }
        let jetstream = match &settings.jetstream_domain {
            Some(domain) => jetstream::with_domain(nats.clone(), domain),
            None => jetstream::new(nats.clone()),
        };
        let api_prefix = match &settings.jetstream_domain {
            Some(domain) => format!("$JS.{domain}.API").into(),
            None => API_PREFIX.into(),
        };
        let connection = Self {
            nats,
            jetstream,
            api_prefix,
            refusals,
            connects,
            settings: Some(Arc::new(settings.clone())),
            _unchanged: None,
        };
        connection
            .check_jetstream(&settings.servers_redacted())
            .await?;
        Ok(connection)
    }

    /// Uses an application's own connection, which need not be up yet.
    ///
    /// Nothing is checked here, and what the server refuses is not remembered: that is told to the
    /// callback that the connection was made with. Prefer [`Connection::open`].
    pub fn over(nats: async_nats::Client) -> Self {
        let (unchanged, connects) = watch::channel(0);
        Self {
            jetstream: jetstream::new(nats.clone()),
            api_prefix: API_PREFIX.into(),
            nats,
            refusals: Refusals::default(),
            connects,
            settings: None,
            _unchanged: Some(Arc::new(unchanged)),
        }
    }

    /// Opens another one to the same servers; an application's own is shared instead.
    pub async fn another(&self, name: &str) -> Result<Self, ConnectError> {
        match &self.settings {
            Some(settings) => Self::open(settings, name).await,
            None => Ok(self.clone()),
        }
    }

    /// What the subjects of the JetStream API begin with, for requests that are made without
    /// [`Connection::jetstream`]. It names the domain where there is one.
    pub fn api_prefix(&self) -> &str {
        &self.api_prefix
    }

    async fn check_jetstream(&self, servers: &str) -> Result<(), ConnectError> {
        let Err(error) = self.jetstream.query_account().await else {
            return Ok(());
        };
        let refusal = self.refusals.latest();
        // A role without the right to ask is told so by a refusal, and may have all it needs.
        if refusal
            .as_deref()
            .is_some_and(|text| text.contains("$JS.API.INFO"))
        {
            debug!("not allowed to ask for JetStream's account info; going on");
            return Ok(());
        }
        let reason = match refusal {
            Some(refusal) if refusal.contains("for Subscription to") => format!(
                "{refusal}; these credentials may not hear answers there, name the prefix of their role with `--inbox-prefix` or `REPULL_INBOX_PREFIX`"
            ),
            Some(refusal) => refusal,
            None if ["503", "no responders", "resource does not exist"]
                .iter()
                .any(|sign| error.to_string().contains(sign)) =>
            {
                "it is not enabled on the server or for this account (start nats-server with `-js`)"
                    .to_owned()
            }
            None => error.to_string(),
        };
        Err(ConnectError::NoJetStream {
            servers: servers.to_owned(),
            reason,
        })
    }

    /// Changes whenever the connection is lost or comes back. A hint that saves waiting: events can
    /// be lost under load, so what must not be missed is read from the client's statistics.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.connects.clone()
    }

    /// The newest refusal by the server (a permission violation, a slow consumer), where there was
    /// one in the last half minute. It is the likely reason of a timeout.
    pub fn refusal(&self) -> Option<String> {
        self.refusals.latest()
    }

    /// For how long the server has refused our credentials at each attempt to connect again; none
    /// where it has not, or not lately. The client itself goes on trying for ever.
    pub fn refused_for(&self) -> Option<Duration> {
        self.refusals.credentials_refused_for()
    }
}

/// Doubles from 10 ms to 4 s with jitter: a fleet does not come back in step after an outage.
fn reconnect_delay(attempts: usize) -> Duration {
    let exponent = u32::try_from(attempts.saturating_sub(1))
        .unwrap_or(u32::MAX)
        .min(9);
    let ceiling = Duration::from_millis(10)
        .saturating_mul(2u32.saturating_pow(exponent))
        .min(Duration::from_secs(4));
    // A time-ordered UUID's last bytes are random; a fraction of them is all the jitter needs.
    let random = f64::from(uuid::Uuid::now_v7().as_bytes()[15]) / 255.0;
    ceiling.mul_f64(0.5 + random / 2.0)
}

fn explain_connect(error: &async_nats::ConnectError) -> String {
    let text = error.to_string();
    match error.kind() {
        async_nats::ConnectErrorKind::AuthorizationViolation
        | async_nats::ConnectErrorKind::Authentication => {
            format!("the server refused the credentials ({text})")
        }
        async_nats::ConnectErrorKind::TimedOut => format!("no answer within {CONNECT_TIMEOUT:?}"),
        _ => text,
    }
}

/// The server's latest refusals, which it sends as events and not as answers.
#[derive(Clone, Debug, Default)]
struct Refusals {
    latest: Arc<Mutex<VecDeque<(Instant, String)>>>,
    /// When the credentials were first and last refused, in an unbroken row.
    credentials: Arc<Mutex<Option<(Instant, Instant)>>>,
}

impl Refusals {
    fn observe(&self, event: &async_nats::Event) {
        match event {
            async_nats::Event::ClientError(error) if is_about_credentials(error) => {
                warn!(%error, "the NATS server refused our credentials");
                self.credentials_refused();
            }
            async_nats::Event::ServerError(error) => {
                let text = error.to_string();
                warn!(error = %text, "the NATS server refused something");
                self.push(text);
            }
            async_nats::Event::ClientError(error) => warn!(%error, "NATS client error"),
            async_nats::Event::SlowConsumer(_) => {
                warn!("the NATS client dropped messages: a subscription was not read fast enough");
            }
            async_nats::Event::Disconnected => warn!("disconnected from NATS"),
            async_nats::Event::Connected => {
                info!("connected to NATS");
                *self.lock_credentials() = None;
            }
            other => debug!(event = %other, "NATS connection"),
        }
    }

    fn push(&self, text: String) {
        let mut refusals = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.len() == REFUSALS_KEPT {
            refusals.pop_front();
        }
        refusals.push_back((Instant::now(), text));
    }

    fn latest(&self) -> Option<String> {
        let refusals = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        refusals
            .back()
            .filter(|(at, _)| at.elapsed() < REFUSAL_FRESH)
            .map(|(_, text)| text.clone())
    }

    fn lock_credentials(&self) -> MutexGuard<'_, Option<(Instant, Instant)>> {
        self.credentials
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn credentials_refused(&self) {
        let now = Instant::now();
        let mut credentials = self.lock_credentials();
        let first = match *credentials {
            Some((first, last)) if now.duration_since(last) < REFUSAL_FRESH => first,
            _ => now,
        };
        *credentials = Some((first, now));
    }

    fn credentials_refused_for(&self) -> Option<Duration> {
        let (first, last) = (*self.lock_credentials())?;
        (last.elapsed() < REFUSAL_FRESH).then(|| first.elapsed())
    }
}

/// Whether an attempt to connect failed because of who we are. The client reports the kind of its
/// error as text.
fn is_about_credentials(error: &async_nats::ClientError) -> bool {
    let async_nats::ClientError::Other(text) = error else {
        return false;
    };
    [
        async_nats::ConnectErrorKind::AuthorizationViolation,
        async_nats::ConnectErrorKind::Authentication,
    ]
    .iter()
    .any(|kind| *text == kind.to_string())
}
