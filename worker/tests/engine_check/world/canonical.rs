//! A normal form of the world, for telling states apart.

use repull_worker::engine::{Millis, PullId};

use super::{Answer, Down, World};
use crate::server::Place;

impl World {
    /// The same state told relative to its own time, with pulls numbered in order.
    pub(crate) fn canonical(&self) -> Self {
        let mut pulls = self.shell.engine.open_pulls();
        pulls.extend(
            self.server
                .waiting
                .iter()
                .flatten()
                .map(|waiting| waiting.pull),
        );
        pulls.extend(
            self.down
                .values()
                .flatten()
                .filter_map(|message| match message {
                    Down::Status { pull, .. } => Some(*pull),
                    Down::Job { .. } => None,
                }),
        );
        pulls.sort_unstable();
        pulls.dedup();
        let rename = |pull: PullId| {
            let rank = pulls.binary_search(&pull).expect("all pulls are listed") as u64;
            PullId(pull.0 & 0xffff | rank << 16)
        };
        let mut world = self.clone();
        let now = self.now;
        world.shell.engine.make_canonical(now, rename);
        world.now = Millis(0);
        world.ends_at = self.ends_at.since(now);
        for waiting in world.server.waiting.iter_mut().flatten() {
            waiting.pull = rename(waiting.pull);
            waiting.ends_at = waiting.ends_at.since(now);
            waiting.heartbeat = waiting
                .heartbeat
                .map(|(every, next)| (every, next.since(now)));
        }
        for job in world.server.jobs.values_mut() {
            job.deliveries = 0;
            if let Place::Ours(until) | Place::Others(until) = &mut job.place {
                *until = until.since(now);
            }
        }
        for message in world.down.values_mut().flatten() {
            match message {
                Down::Status { pull, .. } => *pull = rename(*pull),
                Down::Job { deliveries, .. } => *deliveries = 0,
            }
        }
        for answer in &mut world.answers {
            if let Answer::Extended(queue, batch) = answer {
                *batch = self.shell.engine.keep_alive_age(*queue, *batch);
            }
        }
        world
    }
}
