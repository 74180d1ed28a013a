//! What the engine wants done: everything the shell carries out, in this order, without deciding.

use super::{Epoch, Lane, Millis, PullId, QueueIx, Seq, Verdict};

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Ask the server for jobs.
    Pull {
        /// The epoch whose inbox takes the answers.
        epoch: Epoch,
        /// Which subscription of it takes the answers.
        lane: Lane,
        /// The queue to ask.
        queue: QueueIx,
        /// Last token of the reply subject.
        pull: PullId,
        /// How many jobs.
        batch: u32,
        /// How long the server keeps the pull.
        expires: Millis,
        /// The idle heartbeat to ask for.
        heartbeat: Option<Millis>,
    },
    /// Run the handler of a job that was just delivered.
    Start {
        /// The job.
        seq: Seq,
    },
    /// Hand a job back that was not started (or was lost and regained), and forget it. Said once;
    /// if it does not get through, the server delivers the job again by itself.
    Refuse {
        /// The job.
        seq: Seq,
    },
    /// The job is done, but its ack got lost: ack the newest delivery too, run nothing. If its
    /// settling is still under way, going on with it is enough.
    AckAgain {
        /// The job.
        seq: Seq,
    },
    /// Tell the server that these jobs are still being worked on, and report
    /// [`Event::Extended`](super::Event::Extended) when that is confirmed.
    KeepAlive {
        /// The queue of all of them.
        queue: QueueIx,
        /// Number of this batch, to be repeated in the confirmation.
        batch: u64,
        /// The jobs, in order.
        seqs: Vec<Seq>,
    },
    /// Ask a handler to stop. Its end is still to be reported.
    CancelHandler {
        /// The job.
        seq: Seq,
        /// Why.
        reason: CancelReason,
    },
    /// Settle a finished job: carry out its outcome (for [`Verdict::HandBack`]: put it on its
    /// queue again), then ack it; report [`Event::Settled`](super::Event::Settled) when the ack is
    /// confirmed. May be repeated by [`Command::Confirm`], so no step may be a bare NAK: a second
    /// one would take the job from its next worker.
    Settle {
        /// The job.
        seq: Seq,
        /// What becomes of it; never [`Verdict::Abandon`].
        verdict: Verdict,
    },
    /// These jobs' settling is not confirmed yet: send the ack of each again (or what comes before
    /// the ack, if that is not confirmed), and have each confirmed.
    Confirm {
        /// The jobs, oldest first.
        seqs: Vec<Seq>,
    },
    /// Drop all knowledge of a job and send nothing: it is no longer ours.
    Forget {
        /// The job.
        seq: Seq,
    },
    /// A handler does not stop although it was asked to.
    ReportStuck {
        /// The job.
        seq: Seq,
    },
    /// Ask the server for the numbers of a queue's consumer.
    AskBacklog {
        /// The queue.
        queue: QueueIx,
    },
    /// Subscribe to a fresh inbox, drop the old one, report
    /// [`Event::EpochChanged`](super::Event::EpochChanged).
    NewEpoch,
    /// Tear down the connection and build a new one.
    Reconnect,
    /// Nothing helped: end the process with a failure and say why.
    Exit {
        /// What is wrong.
        fault: Fault,
    },
    /// Drained and empty (or out of time): the last command.
    Stopped,
}

/// Why a handler is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CancelReason {
    /// The server may have given the job to somebody else.
    LeaseLost,
    /// Somebody asked for it.
    Requested,
    /// The time for draining is over.
    Drain,
    /// The worker stops now.
    Stop,
}

/// A fault that the worker cannot cure by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// What kind, for exit codes and metrics.
    pub class: FaultClass,
    /// What was seen and tried, in a sentence for people.
    pub message: String,
}

/// The kinds of [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultClass {
    /// The server says that jobs wait, and answers no pull with one.
    BacklogNotDelivered,
    /// The connection looks alive, and nothing at all comes over it.
    ServerSilent,
    /// The connection has been gone for far too long.
    Disconnected,
}

impl FaultClass {
    /// The class as one word, for labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BacklogNotDelivered => "backlog_not_delivered",
            Self::ServerSilent => "server_silent",
            Self::Disconnected => "disconnected",
        }
    }
}
