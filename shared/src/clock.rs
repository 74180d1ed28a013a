//! The one place that reads the wall clock.
//!
//! Everything that decides takes the time as an argument; only the shells ask here.

use chrono::{DateTime, SubsecRound, Utc};

/// The wall clock's time now, cut to microseconds, which is what the wire carries.
pub fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}
