//! Repull's scheduler: publishes due fires and later jobs to the work queue.
//!
//! The way of a fire, by module: `schedules` watches the bucket, [`due`] says what is due, `lease`
//! who may publish it, `shard` publishes it and settles what the stream's answer left open, and
//! `watermark` records how far that has gone. `later` and `shard::promote` do the same for jobs that
//! wait for a time.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use repull::client::Client;
//! use repull::connect::Settings;
//! use repull_scheduler::Scheduler;
//! use tokio_util::sync::CancellationToken;
//!
//! let client = Client::connect(&Settings::for_servers("nats://127.0.0.1:4222")).await?;
//! let shutdown = CancellationToken::new();
//! Scheduler::builder(client).build()?.run(shutdown).await?;
//! # Ok(())
//! # }
//! ```

mod buckets;
pub mod config;
mod delayed;
pub mod due;
mod error;
mod failures;
mod follow;
mod health;
mod housekeeping;
mod later;
mod lease;
mod ledger;
pub mod metrics;
mod observe;
mod queues;
mod random;
mod scheduler;
mod schedules;
mod server_clock;
mod shard;
mod sharding;
mod shards;
mod started;
mod sweep;
mod unreadable;
mod watermark;

pub use error::Error;
pub use health::SchedulerHealth;
pub use scheduler::{Scheduler, SchedulerBuilder};
