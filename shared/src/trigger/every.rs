//! Fixed intervals of elapsed time, counted from an anchor.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// Fires have a millisecond in their id, so a shorter interval would give two fires one id.
pub(super) const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// Fires at the anchor and at every multiple of the interval after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Every {
    pub(super) interval: Duration,
    /// Without one, the Unix epoch.
    pub(super) anchor: Option<DateTime<Utc>>,
}

impl Every {
    pub(super) fn anchor(&self) -> DateTime<Utc> {
        self.anchor.unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// The first fire strictly after `after`, exact to the nanosecond at any distance.
    pub(super) fn next(&self, after: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
        let anchor = self.anchor();
        let Some(after) = after.filter(|after| *after >= anchor) else {
            return Some(anchor);
        };
        let interval = i128::try_from(self.interval.as_nanos()).ok()?;
        let passed = nanoseconds(after - anchor);
        let ahead = (passed / interval + 1).checked_mul(interval)?;
        anchor.checked_add_signed(time_delta(ahead)?)
    }
}

fn nanoseconds(delta: TimeDelta) -> i128 {
    i128::from(delta.num_seconds()) * 1_000_000_000 + i128::from(delta.subsec_nanos())
}

fn time_delta(nanoseconds: i128) -> Option<TimeDelta> {
    let seconds = i64::try_from(nanoseconds / 1_000_000_000).ok()?;
    TimeDelta::new(seconds, u32::try_from(nanoseconds % 1_000_000_000).ok()?)
}
