//! The streams, consumers and buckets of an installation: one table, and how it meets a server.
//!
//! What is absent is created; what is present is compared, and every difference that matters is
//! reported by name. Nothing that exists is changed behind the operator's back.

mod apply;
mod pin;
mod table;

pub use apply::{Difference, TopologyError};
pub use table::{
    ACK_WAIT_DEFAULT, Bucket, Layout, MAX_ACK_PENDING_DEFAULT, MAX_WAITING, RESULTS_PER_JOB,
    Topology,
};
