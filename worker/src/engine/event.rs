//! What can happen: everything the shell tells the engine.

use super::{Epoch, Lane, PullId, QueueIx, Seq};

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A job arrived.
    Delivered {
        /// Epoch of the subscription on which it arrived.
        epoch: Epoch,
        /// Which subscription of that epoch it arrived on: tells the pull it belongs to.
        lane: Lane,
        /// The queue, known from its ack subject.
        queue: QueueIx,
        /// Its stream sequence.
        seq: Seq,
        /// How often the server has delivered it, this time included.
        deliveries: u32,
        /// Jobs that wait on the server after this one.
        pending: u64,
    },
    /// The server said something about a pull.
    PullStatus {
        /// Epoch of the subscription on which it arrived.
        epoch: Epoch,
        /// The pull, from the subject of the status.
        pull: PullId,
        /// What it said.
        status: Status,
    },
    /// A handler ended: by return, error, panic, timeout or cancellation. Exactly one for each
    /// [`Command::Start`](super::Command::Start), also when the job could not be decoded or no
    /// handler is registered for it.
    Finished {
        /// The job.
        seq: Seq,
        /// What is to become of it.
        verdict: Verdict,
    },
    /// The server confirmed the ack of a job that was to be settled.
    Settled {
        /// The job.
        seq: Seq,
    },
    /// The server confirmed a keep-alive.
    Extended {
        /// The queue of the batch.
        queue: QueueIx,
        /// The number in [`Command::KeepAlive`](super::Command::KeepAlive).
        batch: u64,
    },
    /// New inbox subscriptions are in place, after a reconnect or on request; every older pull is
    /// void.
    EpochChanged {
        /// The new epoch, larger than any before.
        epoch: Epoch,
    },
    /// The connection is gone and the client is trying to get it back. A hint: pulls are held
    /// back and the watchdog rests until the next epoch, or until a timer lifts the hold.
    Disconnected,
    /// Somebody paused a queue. What was already promised to it is still taken and run.
    QueuePaused {
        /// The queue.
        queue: QueueIx,
    },
    /// A queue goes on.
    QueueResumed {
        /// The queue.
        queue: QueueIx,
    },
    /// The answer to [`Command::AskBacklog`](super::Command::AskBacklog), or the same from
    /// elsewhere.
    BacklogSeen {
        /// The queue.
        queue: QueueIx,
        /// Its consumer's numbers.
        backlog: Backlog,
    },
    /// Somebody asked for a running job to be cancelled (or its time is up and it did not stop).
    Cancel {
        /// The job.
        seq: Seq,
    },
    /// Stop taking jobs, finish what runs.
    Drain,
    /// Stop now: cancel what runs.
    StopNow,
    /// [`Engine::next_deadline`](super::Engine::next_deadline) has come.
    Tick,
}

/// What the server said about a pull. The shell maps the code and the description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// 100 Idle Heartbeat: the pull is alive.
    Heartbeat,
    /// 404, 408, and the 409s that end a batch in good order (Batch Completed, Message Size
    /// Exceeds MaxBytes): the pull is over, and what it did not get it will not get.
    Expired {
        /// Units that stayed unfilled by the server's count, where it said so.
        unfilled: Option<u32>,
    },
    /// The pull never came to life: 503 and 409 Exceeded MaxWaiting.
    NeverStarted(NeverStarted),
    /// 409 Leadership Change, 409 Consumer Deleted, 423: every pull sent up to this one is gone.
    Terminal,
    /// 400, and 409 Exceeded MaxRequestBatch, MaxRequestExpires or MaxRequestMaxBytes, Consumer is
    /// push based: asking the same again gets the same answer.
    Refused,
    /// Anything else. Ends this pull.
    Unknown,
}

/// Why a pull never came to life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NeverStarted {
    /// 503: nobody answers for the consumer, for instance during an election.
    NoResponders,
    /// 409 Exceeded MaxWaiting: too many pulls of all workers wait at this consumer.
    WaitingFull,
    /// The request could not be sent.
    NotSent,
}

/// What is to become of a job whose handler ended. The outcome itself is the shell's matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The attempt is over: write what is to be written (outcome, next attempt, dead letter), then
    /// ack.
    Settle,
    /// Give the job back; the attempt does not count.
    HandBack,
    /// Say nothing to the server.
    Abandon,
}

/// A consumer's numbers as the server gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Backlog {
    /// Jobs not yet delivered to anybody.
    pub pending: u64,
    /// Jobs delivered and not acked, on all workers.
    pub ack_pending: u64,
    /// The limit on `ack_pending`, where there is one.
    pub ack_pending_max: Option<u64>,
    /// Pulls that wait on the server, of all workers.
    pub waiting: u64,
    /// Whether the consumer itself is paused on the server.
    pub paused: bool,
}

impl Backlog {
    /// Jobs that the server would deliver to a pull right now.
    #[must_use]
    pub fn deliverable(&self) -> u64 {
        let limited = self
            .ack_pending_max
            .is_some_and(|limit| self.ack_pending >= limit);
        if limited || self.paused {
            0
        } else {
            self.pending
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_at_its_limit_or_paused_has_nothing_to_deliver() {
        let open = Backlog {
            pending: 5,
            ack_pending: 2,
            ack_pending_max: Some(3),
            ..Backlog::default()
        };
        assert_eq!(open.deliverable(), 5);
        assert_eq!(
            Backlog {
                ack_pending: 3,
                ..open
            }
            .deliverable(),
            0
        );
        assert_eq!(
            Backlog {
                paused: true,
                ..open
            }
            .deliverable(),
            0
        );
    }
}
