//! Which jobs of the work queue run, and where: what consumers and beacons say together.
//!
//! The server tells no reader which of its messages are delivered, so this is put together from how
//! far each lane's consumer has come and from what workers name in their beacons, which are up to
//! some seconds old.

use std::collections::HashMap;

use async_nats::jetstream::consumer;
use async_nats::jetstream::context::ConsumerInfoErrorKind;

use super::view::{JobState, JobSummary};
use super::{Client, Error};
use crate::beacon::Beacon;
use crate::id::Lane;
use crate::wire::Place;

/// How far a lane's consumer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The last stream sequence that was delivered.
    pub(crate) delivered: u64,
    /// Messages that are delivered and not acked.
    pub(crate) ack_pending: usize,
}

/// A view of all that is in flight, asked for as needed.
pub(crate) struct InFlight {
    beacons: Vec<Beacon>,
    lanes: HashMap<Lane, Option<Progress>>,
}

impl InFlight {
    pub(crate) async fn look(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            beacons: client.workers().await?,
            lanes: HashMap::new(),
        })
    }

    /// Fills in what `summary` of a message in the work queue can't say by itself.
    pub(crate) async fn complete(
        &mut self,
        client: &Client,
        summary: &mut JobSummary,
    ) -> Result<(), Error> {
        let lane = Lane {
            queue: summary.queue.clone(),
            priority: summary.priority,
        };
        let named = self
            .beacons
            .iter()
            .find_map(|beacon| Some((beacon, beacon.running_job(&lane, &summary.id)?)));
        if let Some((beacon, running)) = named {
            summary.state = JobState::Running;
            summary.worker = Some(beacon.id.clone());
            summary.attempt = running.attempt;
            summary.since = Some(running.since);
            summary.progress = running.progress;
            return Ok(());
        }
        let progress = self.progress(client, &lane).await?;
        let served = self.beacons.iter().any(|beacon| beacon.serves(&lane));
        if is_with_a_worker(summary.sequence, progress, served) {
            summary.state = JobState::Running;
            summary.attempt = summary.attempt.saturating_add(1);
        }
        Ok(())
    }

    async fn progress(&mut self, client: &Client, lane: &Lane) -> Result<Option<Progress>, Error> {
        if let Some(progress) = self.lanes.get(lane) {
            return Ok(*progress);
        }
        let progress = client.lane_info(lane).await?.map(|info| Progress {
            delivered: info.delivered.stream_sequence,
            ack_pending: info.num_ack_pending,
        });
        self.lanes.insert(lane.clone(), progress);
        Ok(progress)
    }
}

/// Whether a message that no beacon names is with a worker all the same: beacons lag, and list only
/// so many jobs. Without a live worker it was, and will be delivered again.
fn is_with_a_worker(sequence: u64, progress: Option<Progress>, served: bool) -> bool {
    progress.is_some_and(|progress| {
        served && progress.ack_pending > 0 && sequence <= progress.delivered
    })
}

impl Client {
    /// Whether a worker has had a message of the work queue: a lane is delivered in the order in
    /// which its messages were stored.
    pub(super) async fn is_delivered(&self, lane: &Lane, sequence: u64) -> Result<bool, Error> {
        #[cfg(feature = "test")]
        if let Some(memory) = self.memory() {
            return Ok(memory.is_delivered(sequence));
        }
        let info = self.lane_info(lane).await?;
        Ok(info.is_some_and(|info| sequence <= info.delivered.stream_sequence))
    }

    /// What the server says of a lane's consumer; none where there is none.
    pub async fn lane_info(&self, lane: &Lane) -> Result<Option<consumer::Info>, Error> {
        let stream = Place::Jobs.stream(self.namespace());
        let found = self
            .stream_handle(&stream)
            .await?
            .consumer_info(lane.to_string())
            .await;
        match found {
            Ok(info) => Ok(Some(info)),
            Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(format!("look up consumer `{lane}`"), error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_with_a_worker_when_it_was_delivered_and_somebody_serves_the_lane() {
        let progress = Some(Progress {
            delivered: 10,
            ack_pending: 1,
        });
        assert!(is_with_a_worker(10, progress, true));
        assert!(!is_with_a_worker(11, progress, true), "not delivered yet");
        assert!(!is_with_a_worker(10, progress, false), "its worker is gone");
        assert!(!is_with_a_worker(10, None, true), "no consumer");
        let settled = Some(Progress {
            delivered: 10,
            ack_pending: 0,
        });
        assert!(!is_with_a_worker(10, settled, true), "nothing is delivered");
    }
}
