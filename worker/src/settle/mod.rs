//! Settling: how an ended attempt is told to the broker, so that nothing is lost and nothing runs
//! twice that need not.
//!
//! [`plan`] decides, purely, what is to be published before the job's message may go, and
//! [`Settling`] carries a plan through: publish, see all of it confirmed, then ack, and see that
//! confirmed too. A plan can be repeated from the start at any time: every publish has a message id
//! of its own, and acks may be sent again.

mod book;
mod plan;

pub(crate) use book::{Book, Settled, Step};
pub(crate) use plan::{Close, Plan, Policy, Subject, dead_on_arrival, given_up, hand_back, plan};
