//! What is due when: pure, with every time as an argument.
//!
//! [`Planner`] holds the schedules of a shard and says which fires are due; [`misfire`] judges those
//! that are late; [`overlap`] says what to do about a fire whose previous run has not ended;
//! [`Later`] holds the times of jobs that wait. Nothing here is async, reads a clock or knows NATS,
//! so that any scheduler comes to the same fires, and so that tests can kill it at any instant.

mod fire;
mod intern;
mod later;
mod mark;
pub mod misfire;
pub mod overlap;
mod planner;
mod slot;

pub use fire::{Decision, Fire, Kind, Passed, Passing};
pub use later::Later;
pub use mark::Mark;
pub use planner::{Change, Planner};
