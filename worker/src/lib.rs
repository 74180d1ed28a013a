//! Repull's worker, in the order in which a job meets it.
//!
//! `inbox` brings what pulls are answered; [`engine`] (pure) decides who gets a slot; `job_task`
//! carries one job through [`run`], and `settle` tells the broker how it ended; `driver` is the loop
//! around them: slots that come free in a turn are promised to a new pull at the end of that turn.
//!
//! [`Worker::builder`] is where users start. With the feature `test`, `test::Installation` runs their
//! handlers in their tests, without a server.

mod beacon;
mod builder;
pub mod config;
mod control;
mod crew;
mod delivery;
mod driver;
#[doc(hidden)]
pub mod engine;
mod error;
mod inbox;
mod job_task;
mod lanes;
mod metrics;
mod nudge;
mod pulse;
pub mod run;
mod settle;
mod shutdown;
mod startup;
mod status;
pub mod tasks;
#[cfg(feature = "test")]
pub mod test;
mod worker_run;

pub use builder::{Worker, WorkerBuilder};
pub use config::WorkerConfig;
pub use error::{Error, chain};
pub use metrics::{SlotMonitor, SlotStats};
pub use run::{BoxError, Context, Next, Output, TaskError, TaskOptions, TaskService};
pub use shutdown::Shutdown;
pub use startup::Pages;
