//! When a failed job is tried again: exponential backoff with full jitter and a cap.
//!
//! Pure: the random number is an argument, so the same inputs give the same delay.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Attempts a job gets when neither it, its task nor its queue says otherwise.
///
/// With the default backoff they spread over about a day.
pub const MAX_ATTEMPTS_DEFAULT: u32 = 20;

/// How long to wait before the next attempt: a random time between zero and
/// `first * factor^(attempt - 1)`, at most `cap`.
///
/// "Full jitter" as in Marc Brooker, *Exponential Backoff And Jitter* (AWS Architecture Blog, 2015):
/// a burst of jobs that failed together does not come back together.
///
/// Written as `<first>,<factor>,<cap>`, for example `1s,2,6h`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The longest wait after the first attempt.
    pub first: Duration,
    /// What each further attempt multiplies the wait by; at least 1.
    pub factor: f64,
    /// The longest wait after any attempt.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            factor: 2.0,
            cap: Duration::from_secs(6 * 3600),
        }
    }
}

impl Backoff {
    /// The delay after `attempts_used` attempts (1 or more), for `unit` in `0.0..=1.0`.
    ///
    /// Never shorter than 10 ms, so that a job that fails at once does not spin.
    pub fn delay(&self, attempts_used: u32, unit: f64) -> Duration {
        let exponent = i32::try_from(attempts_used.saturating_sub(1)).unwrap_or(i32::MAX);
        let ceiling =
            (self.first.as_secs_f64() * self.factor.powi(exponent)).min(self.cap.as_secs_f64());
        let seconds = (ceiling * unit.clamp(0.0, 1.0)).max(0.010);
        Duration::try_from_secs_f64(seconds).unwrap_or(self.cap)
    }
}

/// A backoff that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "backoff `{value}` is not valid, expected `<first>,<factor>,<cap>` such as `1s,2,6h` with a factor from 1 to 100"
)]
pub struct InvalidBackoff {
    /// The text that was refused.
    pub value: String,
}

impl fmt::Display for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = humantime::format_duration(self.first)
            .to_string()
            .replace(' ', "");
        let cap = humantime::format_duration(self.cap)
            .to_string()
            .replace(' ', "");
        write!(f, "{first},{},{cap}", self.factor)
    }
}

impl FromStr for Backoff {
    type Err = InvalidBackoff;

    fn from_str(text: &str) -> Result<Self, InvalidBackoff> {
        let invalid = || InvalidBackoff {
            value: text.chars().take(100).collect(),
        };
        let mut parts = text.split(',').map(str::trim);
        let (Some(first), Some(factor), Some(cap), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid());
        };
        let first = humantime::parse_duration(first).map_err(|_| invalid())?;
        let cap = humantime::parse_duration(cap).map_err(|_| invalid())?;
        let factor: f64 = factor.parse().map_err(|_| invalid())?;
        if (1.0..=100.0).contains(&factor) {
            Ok(Self { first, factor, cap })
        } else {
            Err(invalid())
        }
    }
}

impl Serialize for Backoff {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Backoff {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn delays_double_up_to_the_cap() {
        let backoff = Backoff::default();
        assert_eq!(backoff.delay(1, 1.0), Duration::from_secs(1));
        assert_eq!(backoff.delay(4, 1.0), Duration::from_secs(8));
        assert_eq!(backoff.delay(40, 1.0), backoff.cap);
        assert_eq!(backoff.delay(u32::MAX, 1.0), backoff.cap);
    }

    #[test]
    fn a_factor_below_one_is_refused() {
        for bad in [
            "",
            "1s",
            "1s,2",
            "1s,0.5,1h",
            "1s,nan,1h",
            "x,2,1h",
            "1s,2,1h,4",
        ] {
            assert!(bad.parse::<Backoff>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_delay_is_above_the_cap_or_below_the_floor(
            attempt in 0u32.., unit in 0.0f64..=1.0, first in 0u64..100_000, factor in 1.0f64..=100.0, cap in 10u64..100_000_000,
        ) {
            let backoff = Backoff { first: Duration::from_millis(first), factor, cap: Duration::from_millis(cap) };
            let delay = backoff.delay(attempt, unit);
            prop_assert!(delay >= Duration::from_millis(10));
            prop_assert!(delay <= backoff.cap.max(Duration::from_millis(10)) + Duration::from_nanos(1000));
        }

        #[test]
        fn text_reads_back(first in 1u64..1_000_000, factor in 1u8..100, cap in 1u64..1_000_000_000) {
            let backoff = Backoff { first: Duration::from_millis(first), factor: f64::from(factor), cap: Duration::from_millis(cap) };
            prop_assert_eq!(backoff.to_string().parse::<Backoff>().unwrap(), backoff);
        }
    }
}
