//! The harness of the scenarios: real NATS servers, the real binaries, and faults between them.
//!
//! A test usually starts with a [`World`]: a server of its own, with its own port, store and
//! namespace, in which it starts workers and schedulers as processes and runs the `repull` command.
//! Everything a world started ends with it, also when the test panics, and what the processes wrote
//! is printed then.
//!
//! Faults come from four places. [`NatsServer`] and [`Process`] can be killed, paused and started
//! again; a [`Cluster`] of three loses nodes and leaders; a [`Proxy`] cuts, stalls, delays and
//! throttles a connection; an [`Interceptor`] swallows or forges single protocol messages between a
//! client and a real server. A [`FakeServer`] does the same with no server behind it. A [`Clock`] sets
//! the wall clock of one process forward and back.
//!
//! Nothing here waits for a length of time: tests wait for a line, a status or a condition
//! ([`eventually`]) with a deadline that says what was missing.
//!
//! The functions panic with the reason instead of returning errors: a test that cannot set its
//! scene has failed, and the panic's text is its report.

mod binaries;
mod child;
mod clock;
mod cluster;
mod fake;
mod http;
mod interceptor;
mod jobs;
mod limit;
mod metrics;
mod output;
mod port;
mod process;
mod protocol;
mod proxy;
mod reaper;
mod roles;
mod runtime;
mod server;
mod sessions;
mod wait;
mod world;

pub use crate::binaries::{Binary, nats_server, repository};
pub use crate::clock::Clock;
pub use crate::cluster::Cluster;
pub use crate::fake::{FakeServer, FakeServerBuilder};
pub use crate::http::get;
pub use crate::interceptor::Interceptor;
pub use crate::jobs::{
    all_settled, assert_outcomes, enqueue_all, events, job, job_on, job_with_id, messages_in,
    outcome, outcome_at,
};
pub use crate::metrics::Metrics;
pub use crate::output::Output;
pub use crate::process::{Process, ProcessBuilder};
pub use crate::protocol::{Message, matches};
pub use crate::proxy::Proxy;
pub use crate::roles::{SchedulerBuilder, WorkerBuilder};
pub use crate::server::{NatsServer, NatsServerBuilder};
pub use crate::sessions::{Toward, Verdict};
pub use crate::wait::{DEADLINE, eventually};
pub use crate::world::{World, WorldBuilder};
