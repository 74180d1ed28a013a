//! The way back to consumers and to a server that want nothing of us any more.
//!
//! A pull that finds nobody who answers (503) may have met an election, or a consumer that somebody
//! deleted, or a server that lost its store. So the consumer is looked for, off the loop, and made
//! again where it is gone. Meanwhile the worker is not ready. Where no consumer can be had, or the
//! server refuses the credentials, for as long as the watchdog waits in all, the process ends and
//! says why: to go on asking would be to stand still in silence.

use std::time::{Duration, Instant};

use repull::topology::{Layout, Topology};
use tracing::warn;

use super::Driver;
use crate::control::Control;
use crate::engine::QueueIx;
use crate::error::Error;
use crate::lanes;

/// A consumer that nobody answers for.
pub(super) struct Missing {
    since: Instant,
    /// It is being looked for.
    is_sought: bool,
}

impl Driver {
    /// Looks for the consumer of a pull that nobody answered.
    pub(super) fn seek_consumer(&mut self, queue: QueueIx) {
        let Some(served) = self.lanes.get(queue) else {
            return;
        };
        let lane = served.lane.clone();
        let missing = self.missing.entry(queue).or_insert_with(|| Missing {
            since: Instant::now(),
            is_sought: false,
        });
        if std::mem::replace(&mut missing.is_sought, true) {
            return;
        }
        self.pulse.bound(false);
        let limit = self.crew.queues.get(&lane.queue).limit;
        let (client, control) = (self.client.clone(), self.control_sender.clone());
        // Made with the lease that the engine counts with.
        let layout = Layout {
            ack_wait: self.lanes.ack_wait.into(),
            ..self.layout.clone()
        };
        let topology = Topology::new(client.namespace().clone(), layout);
        tokio::spawn(async move {
            let found = lanes::bind_one(&client, &topology, &lane, limit).await;
            let found = found.map(drop).map_err(|error| crate::error::chain(&error));
            let _ = control.send(Control::ConsumerSought(queue, found)).await;
        });
    }

    /// What the search for a consumer came to. If it failed, the next pull that finds nobody starts
    /// another.
    pub(super) fn on_consumer_sought(&mut self, queue: QueueIx, found: Result<(), String>) {
        let Some(missing) = self.missing.get_mut(&queue) else {
            return;
        };
        let Err(reason) = found else {
            self.missing.remove(&queue);
            let bound = self.missing.is_empty();
            self.pulse.bound(bound);
            return;
        };
        missing.is_sought = false;
        let waited = missing.since.elapsed();
        let lane = self.lanes.get(queue).map(|served| served.name.as_str());
        warn!(lane, reason, "nobody answers for a consumer");
        let is_last = self.missing.len() == self.lanes.all.len();
        if is_last && waited >= self.patience() {
            self.end = Some(Err(Error::Stalled { waited, reason }));
        }
    }

    /// Ends the worker where the server has refused its credentials for too long.
    pub(super) fn check_credentials(&mut self) {
        let refused = self.client.connection().refused_for();
        if let Some(refused) = refused.filter(|refused| *refused >= self.patience()) {
            let seconds = refused.as_secs();
            self.end = Some(Err(Error::Disconnected {
                reason: format!("the server has refused the credentials for {seconds} s"),
            }));
        }
    }

    /// How long in all the watchdog waits before it ends the process.
    pub(super) fn patience(&self) -> Duration {
        Duration::from(self.engine.config().watchdog) * 3
    }
}
