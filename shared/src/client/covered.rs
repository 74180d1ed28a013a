//! How many messages of the work queue its consumers know of, and how many they must have lost.
//!
//! Stream and consumers are asked one after the other, and jobs come and go in between. What came
//! before the consumers were asked they know of. What was acked since the stream was asked they know
//! of no more, but they count it: so two answers of theirs, around the stream's, tell the most that
//! can have gone meanwhile, and only what lies beyond that is missing.

use std::collections::BTreeMap;

use async_nats::jetstream::consumer;

use super::{Client, Error};
use crate::id::Lane;

/// What consumers said at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Covered {
    /// Messages that wait or run.
    known: u64,
    /// Deliveries that are over: acks, and deliveries that another followed.
    over: u64,
}

impl Covered {
    /// By these consumers together.
    pub fn by<'a>(consumers: impl IntoIterator<Item = &'a consumer::Info>) -> Self {
        consumers.into_iter().fold(Self::default(), |sum, info| {
            let pending = info.num_ack_pending as u64;
            Self {
                known: sum.known + info.num_pending + pending,
                over: sum.over + info.delivered.consumer_sequence.saturating_sub(pending),
            }
        })
    }

    /// How many of `stored` messages none of the consumers can know of. The stream was asked before
    /// this, and after `earlier`.
    pub fn missing(self, stored: u64, earlier: Self) -> u64 {
        let gone_at_most = self.over.saturating_sub(earlier.over);
        stored.saturating_sub(self.known + gone_at_most)
    }
}

impl Client {
    /// How many messages of the work queue none of its consumers can know of; `earlier` is what they
    /// said before.
    pub async fn missing_messages(
        &self,
        earlier: &BTreeMap<Lane, consumer::Info>,
    ) -> Result<u64, Error> {
        let stored = self.work_queue_messages().await?;
        let earlier = Covered::by(earlier.values());
        if earlier.missing(stored, earlier) == 0 {
            return Ok(0);
        }
        let now = Covered::by(self.lane_consumers().await?.values());
        Ok(now.missing(stored, earlier))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_that_came_or_ended_between_the_answers_are_not_missing() {
        let at = |known, over| Covered { known, over };
        // Nothing moved.
        assert_eq!(at(10, 5).missing(10, at(10, 5)), 0);
        assert_eq!(at(10, 5).missing(12, at(10, 5)), 2);
        // Four ended since the stream was asked, or before.
        assert_eq!(at(6, 9).missing(10, at(10, 5)), 0);
        // Three came since.
        assert_eq!(at(13, 5).missing(10, at(10, 5)), 0);
        // Four ended and two are missing.
        assert_eq!(at(6, 9).missing(12, at(10, 5)), 2);
        // A consumer was made anew: its deliveries count from nothing.
        assert_eq!(at(10, 0).missing(11, at(10, 5)), 1);
    }
}
