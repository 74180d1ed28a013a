//! What things cost, in µs of one core of the machine of `docs/BENCHMARKS.md`, and where each figure is
//! from. Nothing else in the simulation is a number from outside.

/// A message stored by the server: received, stored, confirmed. From `bench jobs`, enqueueing.
pub(super) const STORE: f64 = 20.0;

/// The same message made and sent by a client. Two full cores at 45,800 messages/s, less [`STORE`].
pub(super) const MAKE: f64 = 24.0;

/// The server's share of a job that is delivered and acked, and of a turn (a pull, a confirmation, the
/// wake-ups), solved from its processor time for 30,000 jobs on a worker of 16 and of 256 slots.
pub(super) const SETTLE: f64 = 18.4;
pub(super) const TURN: f64 = 109.0;

/// The worker's own share of both, from the same two runs.
pub(super) const RUN: f64 = 17.0;
pub(super) const ASK: f64 = 45.0;

/// From one process to the other: the write is flushed, the other side woken. Fitted to one rate, that
/// of 16 slots without outcomes (14,532 jobs/s).
pub(super) const HOP: f64 = 275.0;

/// What a second and a third copy add to a replicated change, on the leader and on each follower: a
/// third of what R3 adds to an enqueue (19,000 instead of 40,400 a second on two full cores).
pub(super) const COPY: f64 = 18.6;

/// Jobs that one pull brings a worker: 11.3 at 16 slots, 46.8 at 256 (jobs per pull of the same runs).
pub(super) fn jobs_per_pull(slots: usize) -> usize {
    ((slots as f64).sqrt() * 2.85).round() as usize
}

/// Fires a second of one scheduler that catches up among a million schedules; measured.
pub(super) const FIRES_PER_SCHEDULER: f64 = 28_300.0;

/// The server's costs of a job, by whose they are.
#[derive(Clone, Copy)]
pub(super) struct PerJob {
    /// On the leader of the jobs' stream: stored, and removed by the ack.
    pub(super) jobs: f64,
    /// On the leader of the lane's consumer: asked for, delivered, acked.
    pub(super) consumer: f64,
    /// On the leader of the outcomes' stream.
    pub(super) results: f64,
    /// On each follower of one replicated change, and on its leader in addition.
    pub(super) copy: f64,
}

impl PerJob {
    /// With a worker of 100 slots, the default; `replicas` is 1 or 3.
    pub(super) fn of(replicas: usize, outcomes: bool) -> Self {
        Self {
            jobs: STORE,
            consumer: SETTLE + TURN / jobs_per_pull(100) as f64,
            results: if outcomes { STORE } else { 0.0 },
            copy: if replicas > 1 { COPY } else { 0.0 },
        }
    }

    /// What one leader has to do in order: with one replica the stream and its consumer are in one
    /// place; with three they need not be, but storing and removing are changes that are replicated.
    pub(super) fn hottest(self) -> f64 {
        if self.copy > 0.0 {
            let (stream, consumer) = (self.jobs + 2.0 * self.copy, self.consumer + self.copy);
            stream.max(consumer)
        } else {
            self.jobs + self.consumer
        }
    }

    /// What all servers together spend on a job: its two changes and its outcome, on every copy.
    pub(super) fn all(self, replicas: usize) -> f64 {
        self.jobs + self.consumer + self.results + 3.0 * self.copy * replicas as f64
    }
}
