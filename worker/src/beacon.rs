//! The worker's sign of life in the bucket of workers.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use repull::beacon::{BEACON_INTERVAL, Beacon, RUNNING_LISTED_MAX, RunningJob};
use repull::client::Client;
use repull::clock;
use repull::id::WorkerId;
use repull::topology::Bucket;
use tokio::task::JoinHandle;
use tracing::debug;

use crate::config::WorkerConfig;
use crate::metrics::SlotStats;

/// How long a write may take before it is given up; the next one says more anyway.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);

/// Writes the beacon now and then, off the loop.
pub(crate) struct BeaconWriter {
    client: Client,
    id: WorkerId,
    lanes: Vec<String>,
    started_at: DateTime<Utc>,
    last: Option<Instant>,
    was_draining: bool,
    /// The last write; the next one waits for its turn.
    writing: Option<JoinHandle<()>>,
}

impl BeaconWriter {
    pub(crate) fn new(client: Client, config: &WorkerConfig, lanes: Vec<String>) -> Self {
        Self {
            client,
            id: config.id.clone(),
            lanes,
            started_at: clock::now(),
            last: None,
            was_draining: false,
            writing: None,
        }
    }

    /// Writes the beacon where it is time to.
    pub(crate) fn beat(
        &mut self,
        stats: &SlotStats,
        draining: bool,
        jobs: impl FnOnce() -> Vec<RunningJob>,
    ) {
        let due = self
            .last
            .is_none_or(|last| last.elapsed() >= BEACON_INTERVAL)
            || draining != self.was_draining;
        let is_writing = self
            .writing
            .as_ref()
            .is_some_and(|write| !write.is_finished());
        if !due || is_writing {
            return;
        }
        self.last = Some(Instant::now());
        self.was_draining = draining;
        let mut jobs = jobs();
        jobs.sort_by_key(|job| job.since);
        jobs.truncate(RUNNING_LISTED_MAX);
        let beacon = Beacon {
            id: self.id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            at: clock::now(),
            lanes: self.lanes.clone(),
            slots: stats.slots,
            running: stats.running,
            promised: stats.promised,
            settling: stats.settling,
            last_delivery: stats.last_delivery,
            draining,
            stuck: stats.stuck,
            watchdog_actions: stats.watchdog.iter().sum(),
            jobs,
        };
        let client = self.client.clone();
        self.writing = Some(tokio::spawn(async move {
            let written = tokio::time::timeout(WRITE_TIMEOUT, write(&client, &beacon)).await;
            if let Ok(Err(error)) = written {
                debug!(error, "can't write the worker's beacon");
            }
        }));
    }

    /// Takes the worker off the list at once.
    pub(crate) async fn remove(&mut self) {
        // A write that arrived after the removal would list a worker that is gone.
        if let Some(write) = self.writing.take() {
            let _ = write.await;
        }
        let removed = tokio::time::timeout(WRITE_TIMEOUT, async {
            let bucket = Bucket::Workers.name(self.client.namespace());
            let store = self.client.jetstream().get_key_value(bucket).await.ok()?;
            store.delete(self.id.as_str()).await.ok()
        });
        let _ = removed.await;
    }
}

async fn write(client: &Client, beacon: &Beacon) -> Result<(), String> {
    let store = client
        .jetstream()
        .get_key_value(Bucket::Workers.name(client.namespace()))
        .await
        .map_err(|error| error.to_string())?;
    let json = serde_json::to_vec(beacon).map_err(|error| error.to_string())?;
    store
        .put(beacon.id.as_str(), json.into())
        .await
        .map(drop)
        .map_err(|error| error.to_string())
}
