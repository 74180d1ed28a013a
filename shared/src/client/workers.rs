//! Live workers, by what they say of themselves.

use std::ops::ControlFlow;

use async_nats::jetstream::consumer::DeliverPolicy;

use super::scan::Scan;
use super::{Client, Error};
use crate::beacon::Beacon;
use crate::id::{JobId, Lane};
use crate::topology::Bucket;

impl Client {
    /// The live workers, by id. One whose beacon can't be read (a newer version's) is left out.
    pub async fn workers(&self) -> Result<Vec<Beacon>, Error> {
        let mut beacons: Vec<Beacon> = Vec::new();
        self.scan(
            Scan {
                stream: Bucket::Workers.stream(self.namespace()),
                filter: format!("$KV.{}.>", Bucket::Workers.name(self.namespace())),
                from: DeliverPolicy::LastPerSubject,
                headers_only: false,
            },
            |entry| {
                // A tombstone has an empty body and is no beacon either.
                if let Ok(beacon) = serde_json::from_slice(&entry.body) {
                    beacons.push(beacon);
                }
                ControlFlow::Continue(())
            },
        )
        .await?;
        beacons.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(beacons)
    }
}

impl Beacon {
    /// Whether the worker serves `lane`.
    pub fn serves(&self, lane: &Lane) -> bool {
        let lane = lane.to_string();
        self.lanes.contains(&lane)
    }

    /// The running job of this id and lane, where the beacon names it.
    pub fn running_job(&self, lane: &Lane, id: &JobId) -> Option<&crate::beacon::RunningJob> {
        let lane = lane.to_string();
        self.jobs
            .iter()
            .find(|job| job.id == *id && job.lane == lane)
    }
}
