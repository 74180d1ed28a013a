//! What a scheduler does beside publishing: the clock check, the metrics of queues, the sweep.
//!
//! The clock is every scheduler's own; the rest is the leader's of the first shard, so that it is
//! done and told once. None of it ever ends the process: what fails is logged and comes again.

use std::collections::BTreeSet;
use std::time::Duration;

use repull::client::Client;
use repull::id::Lane;
use repull::topology::Topology;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::lease::Tenure;
use crate::metrics::Metrics;
use crate::observe;
use crate::queues::AllSettings;
use crate::server_clock::ServerClock;
use crate::sweep::Sweep;

/// How often queues are looked at.
const OBSERVE_EVERY: Duration = Duration::from_secs(5);

/// How often the work queue is swept and the clock compared.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// What housekeeping works on.
pub(crate) struct Housekeeping {
    pub(crate) client: Client,
    pub(crate) topology: Topology,
    pub(crate) metrics: Metrics,
    /// The lease of the first shard.
    pub(crate) tenure: watch::Receiver<Option<Tenure>>,
    pub(crate) settings: watch::Receiver<AllSettings>,
}

impl Housekeeping {
    /// Keeps house until stopped.
    pub(crate) async fn keep(self, stop: CancellationToken) {
        let mut observe = interval(OBSERVE_EVERY);
        let mut sweep = interval(SWEEP_EVERY);
        let mut clock = ServerClock::new(self.client.clone(), self.metrics.clone());
        let mut sweeper = Sweep::new(
            self.client.clone(),
            self.topology.clone(),
            self.metrics.clone(),
        );
        let mut told = BTreeSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = observe.tick() => {
                    if self.leads() {
                        self.observe(&mut told).await;
                    } else if !std::mem::take(&mut told).is_empty() {
                        // Another leader tells of them now.
                        self.metrics.queues.clear();
                        self.metrics.dead_jobs.set(0);
                    }
                }
                _ = sweep.tick() => {
                    clock.check().await;
                    if self.leads() {
                        sweeper.sweep().await;
                    }
                }
            }
        }
    }

    fn leads(&self) -> bool {
        self.tenure.borrow().is_some_and(Tenure::holds)
    }

    async fn observe(&self, told: &mut BTreeSet<Lane>) {
        let settings = self.settings.borrow().clone();
        if let Err(error) = observe::queues(&self.client, &self.metrics, &settings, told).await {
            warn!(%error, "the metrics of queues are not up to date");
        }
    }
}

fn interval(every: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
