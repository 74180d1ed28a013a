//! For the tests of those who write handlers and of those who enqueue: behind the feature `test`.
//!
//! An [`Installation`] is queues, later jobs, dead ones and outcomes in memory, with a clock that
//! moves when the test says so. It has no server and no scheduler; what runs a job is the worker's
//! own code: reading its arguments, layers, limits in time, panics, and what follows from how the
//! attempt ended (a retry and when, a dead letter, an outcome). So a test sees what production does.
//!
//! ```toml
//! [dev-dependencies]
//! repull-worker = { version = "0.1", features = ["test"] }
//! ```
//!
//! ```
//! use std::time::Duration;
//!
//! use repull::client::Client;
//! use repull::job::Job;
//! use repull::wire::EventKind;
//! use repull_worker::test::Installation;
//! use repull_worker::{Context, TaskError, TaskOptions, Worker};
//!
//! // What is tested: a worker as the service builds it, for whatever client it is given.
//! fn worker(client: Client) -> Worker {
//!     let options = TaskOptions::new().backoff("10s,2,1h".parse().unwrap());
//!     Worker::builder(client)
//!         .queue("default")
//!         .task_with("order.pack", options, |context: Context, item: String| async move {
//!             if context.attempt() == 1 {
//!                 return Err(TaskError::retry("no box at hand"));
//!             }
//!             let label = Job::json("label.print", &item)?;
//!             context.client().enqueue(label).await?;
//!             Ok(format!("{item} packed"))
//!         })
//!         .task("label.print", |_, item: String| async move { Ok(item) })
//!         .build()
//!         .unwrap()
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let installation = Installation::new().await;
//! let worker = worker(installation.client());
//! let job = Job::json("order.pack", "tea").unwrap();
//! let order = installation.client().enqueue(job).await.unwrap();
//!
//! // Run all that is due: the first attempt, which fails.
//! let ran = installation.drain(&worker).await;
//! assert_eq!(ran[0].error(), Some("no box at hand"));
//! assert_eq!(installation.waiting("order.pack").len(), 1);
//!
//! // Nothing is due until its time has come. Waits are the longest that the backoff allows.
//! installation.advance(Duration::from_secs(9));
//! assert!(installation.drain(&worker).await.is_empty());
//! installation.advance(Duration::from_secs(1));
//! let ran = installation.drain(&worker).await;
//! assert_eq!(ran[0].value::<String>(), "tea packed");
//! assert_eq!(ran[1].job.task.as_str(), "label.print");
//!
//! let outcome = installation.outcome(&order).unwrap();
//! assert_eq!((outcome.kind, outcome.attempt), (EventKind::Succeeded, 2));
//! # }
//! ```
//!
//! One attempt alone, as any attempt and cancelled at will: [`Installation::attempt`].
//!
//! Time limits and sleeps inside of a handler are tokio's, not the installation's:
//! `#[tokio::test(start_paused = true)]` lets those pass at once.
//!
//! What it does not show: several workers at once, lost leases, a server's limits. A handler that
//! waits for another job's outcome waits for ever here, for jobs run one after the other.

mod installation;
mod ran;

pub use crate::run::{Cancel, CancelReason, Ending};
pub use installation::{Installation, OneAttempt};
pub use ran::Ran;
