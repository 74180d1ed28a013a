//! Repull's shared words, in the order in which a job meets them.
//!
//! A [`schedule`] fires by its [`trigger`]; a fire becomes a [`job`]; [`wire`] says how it crosses
//! NATS; [`unique`] says which jobs are the same; [`topology`] is the table of streams, consumers and buckets it passes; [`client`] submits
//! and inspects it; [`retry`] says when it is tried again.

pub mod beacon;
pub mod client;
pub mod clock;
pub mod connect;
pub mod id;
pub mod job;
pub mod queue;
pub mod retry;
pub mod schedule;
pub mod telemetry;
pub mod topology;
pub mod trigger;
pub mod unique;
pub mod wire;
