//! The small words of the engine: times and identities, each its own type.

use std::fmt;
use std::ops::{Add, Mul};
use std::time::Duration;

/// A moment or a span, in milliseconds. Moments count from the start of the worker, on its
/// monotonic clock; the engine never asks for the time, it is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// Later than any moment: a timer with this span never fires.
    pub const NEVER: Self = Self(u64::MAX);

    /// The span as a fraction, rounded down but never to nothing: a timer of zero would spin.
    #[must_use]
    pub fn fraction(self, numerator: u64, denominator: u64) -> Self {
        Self((self.0 * numerator / denominator).max(1))
    }

    /// What is left of this moment at `now`; zero when it has passed.
    #[must_use]
    pub fn since(self, now: Millis) -> Self {
        if self == Self::NEVER {
            self
        } else {
            Self(self.0.saturating_sub(now.0))
        }
    }
}

impl Add for Millis {
    type Output = Self;
    fn add(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Mul<u64> for Millis {
    type Output = Self;
    fn mul(self, factor: u64) -> Self {
        Self(self.0.saturating_mul(factor))
    }
}

impl From<Duration> for Millis {
    fn from(span: Duration) -> Self {
        Self(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }
}

impl From<Millis> for Duration {
    fn from(span: Millis) -> Self {
        Self::from_millis(span.0)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ms", self.0)
    }
}

/// The stream sequence of a job's message: what identifies a job here. All queues live in one
/// stream, so it is unique over all queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// A generation of inbox subscriptions. Pulls of an older epoch are void.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u32);

/// A queue, by its place in [`Config::queues`](super::Config::queues).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueIx(pub u16);

impl QueueIx {
    pub(super) fn at(self) -> usize {
        usize::from(self.0)
    }
}

/// One of the inbox subscriptions of an epoch. A queue has at most one open pull per lane, so the
/// subscription on which a job arrives tells which pull it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(pub u8);

/// One pull request; the last token of its reply subject.
///
/// Queue and lane are part of the number, so a status finds its pull without a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PullId(pub u64);

/// Bits of a [`PullId`] that hold the lane, and then the queue.
const LANE_BITS: u32 = 6;
const QUEUE_BITS: u32 = 10;

/// The most lanes and the most queues that fit into a [`PullId`].
pub(super) const LANES_MAX: u32 = 1 << LANE_BITS;
pub(super) const QUEUES_MAX: usize = 1 << QUEUE_BITS;

impl PullId {
    pub(super) fn new(serial: u64, queue: QueueIx, lane: Lane) -> Self {
        Self(
            serial << (LANE_BITS + QUEUE_BITS)
                | u64::from(queue.0) << LANE_BITS
                | u64::from(lane.0),
        )
    }

    /// The queue that the pull asks.
    #[must_use]
    pub fn queue(self) -> QueueIx {
        QueueIx((self.0 >> LANE_BITS & ((1 << QUEUE_BITS) - 1)) as u16)
    }

    /// The subscription on which its answers arrive.
    #[must_use]
    pub fn lane(self) -> Lane {
        Lane((self.0 & ((1 << LANE_BITS) - 1)) as u8)
    }

    /// Counts the pulls of a worker, across queues and epochs.
    #[must_use]
    pub fn serial(self) -> u64 {
        self.0 >> (LANE_BITS + QUEUE_BITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_id_carries_its_queue_and_lane() {
        let id = PullId::new(7_000_000_000, QueueIx(1023), Lane(63));
        assert_eq!(
            (id.serial(), id.queue(), id.lane()),
            (7_000_000_000, QueueIx(1023), Lane(63))
        );
    }

    #[test]
    fn a_fraction_of_a_span_is_never_zero() {
        assert_eq!(Millis(2).fraction(1, 3), Millis(1));
    }
}
