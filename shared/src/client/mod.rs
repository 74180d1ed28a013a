//! The client: submits jobs, waits for their outcomes, and looks at and steers what is there.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use repull::client::Client;
//! use repull::connect::Settings;
//! use repull::job::Job;
//!
//! let client = Client::connect(&Settings::for_servers("nats://127.0.0.1:4222")).await?;
//! let job = Job::json("mail.send", &serde_json::json!({ "to": "ada@example.org" }))?;
//! let enqueued = client.enqueue(job).await?;
//! let outcome = client.wait(&enqueued).await?;
//! println!("{} {}", outcome.kind, outcome.value());
//! # Ok(())
//! # }
//! ```

mod bulk;
mod cancel;
mod covered;
mod dead;
mod enqueue;
mod entries;
mod history;
mod inflight;
mod jobs;
mod list;
#[cfg(feature = "test")]
mod memory;
mod outcome;
mod pipeline;
mod publish;
mod queues;
mod requests;
mod scan;
mod schedules;
mod stored;
mod submit;
mod superseded;
mod survey;
mod view;
mod workers;

use std::fmt::Display;
use std::sync::Arc;

pub use cancel::{CLIENT, Cancelled};
pub use covered::Covered;
pub use dead::{DeadFilter, DeadJob, DeadListing, Edit};
pub use enqueue::{EnqueueError, Enqueued, PIPELINE_WINDOW};
pub use history::HistoryEntry;
pub use list::{JobFilter, LATER_SCANNED_MAX, Listing};
#[cfg(feature = "test")]
pub use memory::Memory;
pub use pipeline::Pipeline;
pub use publish::{Answer, Expect, Message, PATIENCE, PublishError, Published, read_answer};
pub use queues::{ConsumerView, LaneView, QueueView};
pub use requests::{Reply, Requests};
pub use schedules::{ScheduleListing, StoredSchedule, UnusableSchedule};
pub use stored::{Stored, StoredAnswer};
pub use survey::Leases;
pub use view::{EventView, JobState, JobSummary, JobView, MessageView};

use chrono::{DateTime, Utc};

use crate::clock;
use crate::connect::{ConnectError, Connection, Settings};
use crate::id::{InvalidName, Namespace};
use crate::topology::{Layout, Topology, TopologyError};

/// Why something could not be looked up or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The streams are not as they must be.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The server could not be asked.
    #[error("can't {what}: {reason}")]
    Request {
        /// What was tried.
        what: String,
        /// What the server or the client said.
        reason: String,
    },
    /// There is none of that name.
    #[error("no {what} `{name}`")]
    NotFound {
        /// A kind of thing, such as `job`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Somebody else changed it at the same time.
    #[error("{what} `{name}` was changed by somebody else meanwhile; look again and repeat")]
    Conflict {
        /// A kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// What was given is not valid.
    #[error("{0}")]
    Invalid(String),
    /// A name that was given is not valid.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A publish was not stored.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A job was not enqueued.
    #[error(transparent)]
    Enqueue(#[from] EnqueueError),
}

/// A connection to one installation. Cloning is a reference count.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    connection: Connection,
    namespace: Namespace,
    /// What stands for the streams, in a test without a server.
    #[cfg(feature = "test")]
    memory: Option<Memory>,
}

impl Client {
    /// Connects. The streams are made by the scheduler, or by [`Client::ensure_topology`].
    pub async fn connect(settings: &Settings) -> Result<Self, ConnectError> {
        Self::connect_as(settings, "repull").await
    }

    /// Connects under a name that the server shows for the connection.
    pub async fn connect_as(settings: &Settings, name: &str) -> Result<Self, ConnectError> {
        let connection = Connection::open(settings, name).await?;
        Ok(Self::new(connection, settings.namespace.clone()))
    }

    /// A client over a connection that is there already.
    pub fn new(connection: Connection, namespace: Namespace) -> Self {
        Self {
            inner: Arc::new(Inner {
                connection,
                namespace,
                #[cfg(feature = "test")]
                memory: None,
            }),
        }
    }

    /// The same over a connection of its own, for what must not disturb this one.
    pub async fn another(&self, name: &str) -> Result<Self, ConnectError> {
        let connection = self.connection().another(name).await?;
        Ok(Self::new(connection, self.namespace().clone()))
    }

    /// The installation.
    pub fn namespace(&self) -> &Namespace {
        &self.inner.namespace
    }

    /// The connection.
    pub fn connection(&self) -> &Connection {
        &self.inner.connection
    }

    /// The core NATS client.
    pub fn nats(&self) -> &async_nats::Client {
        &self.inner.connection.nats
    }

    /// The JetStream context.
    pub fn jetstream(&self) -> &async_nats::jetstream::Context {
        &self.inner.connection.jetstream
    }

    /// Creates the streams and buckets that are absent; fails where something else is there.
    pub async fn ensure_topology(&self, layout: &Layout) -> Result<Topology, TopologyError> {
        let topology = Topology::new(self.namespace().clone(), layout.clone());
        topology.ensure(self.connection()).await?;
        Ok(topology)
    }

    /// The time by which it enqueues.
    fn now(&self) -> DateTime<Utc> {
        #[cfg(feature = "test")]
        if let Some(memory) = self.memory() {
            return memory.now();
        }
        clock::now()
    }

    /// An error with the server's refusal in place of the timeout that it caused.
    pub fn failed(&self, what: impl Into<String>, error: impl Display) -> Error {
        let reason = self
            .connection()
            .refusal()
            .unwrap_or_else(|| error.to_string());
        #[cfg(feature = "test")]
        let reason = match self.memory() {
            Some(_) => memory::NO_SERVER.to_owned(),
            None => reason,
        };
        Error::Request {
            what: what.into(),
            reason,
        }
    }
}
