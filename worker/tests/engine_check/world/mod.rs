//! A worker and its server as one state that can be stepped. Here is what it consists of and what
//! must hold in it; what may happen next is in `action`, what that does in `step`, and what the
//! engine's commands do in `carry`.

mod action;
mod canonical;
mod carry;
mod step;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use repull_worker::engine::{
    Config, Epoch, Event, Lane, Millis, PullId, QueueIx, Seq, Status, Verdict,
};

use crate::server::{Place, Server, Waiting};
use crate::shell::{Mutant, Shell};

pub(crate) use action::Action;

/// A message on its way to the worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Down {
    Job {
        queue: QueueIx,
        seq: Seq,
        deliveries: u32,
        pending: u64,
    },
    Status {
        pull: PullId,
        status: Status,
    },
}

/// A confirmation on its way to the worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Settled(Seq),
    Extended(QueueIx, u64),
    Backlog(QueueIx),
}

/// A handler that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Handler {
    pub(crate) cancelled: bool,
    /// It will not end by itself.
    pub(crate) long: bool,
}

/// How often each kind of trouble may still happen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Losses of messages and pulls, statuses that end pulls, other workers, sleeps.
    pub(crate) faults: u8,
    /// New connections.
    pub(crate) reconnects: u8,
    pub(crate) pauses: u8,
    pub(crate) cancels: u8,
    /// Attempts that end without a word to the server.
    pub(crate) abandons: u8,
    pub(crate) drains: u8,
    pub(crate) stops: u8,
}

/// What is wrong with a step.
pub(crate) type Violation = String;

/// The state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) shell: Shell,
    pub(crate) slots: u32,
    pub(crate) now: Millis,
    pub(crate) epoch: Epoch,
    pub(crate) server: Server,
    pub(crate) down: BTreeMap<(Epoch, Lane), VecDeque<Down>>,
    pub(crate) answers: VecDeque<Answer>,
    pub(crate) handlers: BTreeMap<Seq, Handler>,
    /// Jobs whose handler ended and that the shell has not been told what to do with.
    ended: BTreeMap<Seq, Verdict>,
    /// Jobs that the shell was told to settle, neither confirmed nor forgotten.
    settling: BTreeMap<Seq, Verdict>,
    /// Handlers reported as stuck.
    stuck: BTreeSet<Seq>,
    replace_stuck: bool,
    /// The watchdog is on.
    watched: bool,
    pub(crate) paused: Vec<bool>,
    pub(crate) budget: Budget,
    /// Something has gone wrong, so more may arrive than was asked for.
    disturbed: bool,
    lose_next: bool,
    cut: bool,
    noticed: bool,
    /// The cut is for good, and nobody notices: the worker must give up.
    deaf: bool,
    asked_epoch: bool,
    pub(crate) draining: bool,
    /// The worker has to stop by then, whatever is left.
    ends_at: Millis,
    /// Time to finish, and then to stop in.
    drain_spans: (Millis, Millis),
    pub(crate) stopped: bool,
    pub(crate) exited: bool,
}

impl World {
    pub(crate) fn new(config: Config, jobs: &[u32], budget: Budget) -> Self {
        Self::with_mutant(config, jobs, budget, None)
    }

    /// A world in which the shell makes a mistake; its first turn is over.
    pub(crate) fn with_mutant(
        config: Config,
        jobs: &[u32],
        budget: Budget,
        mutant: Option<Mutant>,
    ) -> Self {
        assert_eq!(
            config.queues.len(),
            jobs.len(),
            "a number of jobs for each queue"
        );
        let mut world = Self {
            slots: config.slots,
            now: Millis(0),
            epoch: Epoch(0),
            server: Server::new(config.ack_wait, jobs),
            down: BTreeMap::new(),
            answers: VecDeque::new(),
            handlers: BTreeMap::new(),
            ended: BTreeMap::new(),
            settling: BTreeMap::new(),
            stuck: BTreeSet::new(),
            replace_stuck: config.replace_stuck,
            watched: config.watchdog < Millis::NEVER,
            paused: vec![false; jobs.len()],
            budget,
            disturbed: false,
            lose_next: false,
            cut: false,
            noticed: false,
            deaf: false,
            asked_epoch: false,
            draining: false,
            ends_at: Millis::NEVER,
            drain_spans: (
                config.drain_timeout,
                config.cancel_grace + config.confirm_timeout,
            ),
            stopped: false,
            exited: false,
            shell: Shell::new(config, mutant),
        };
        world.turn(&[Event::Tick]).expect("the first turn is sound");
        world
    }

    pub(super) fn queues(&self) -> impl Iterator<Item = QueueIx> + use<> {
        (0..self.paused.len() as u16).map(QueueIx)
    }

    pub(super) fn waiting(&self, queue: QueueIx) -> &[Waiting] {
        &self.server.waiting[usize::from(queue.0)]
    }

    pub(crate) fn can_serve(&self, queue: QueueIx) -> bool {
        !self.waiting(queue).is_empty() && self.server.first_ready(queue).is_some()
    }

    pub(crate) fn is_tick_due(&self) -> bool {
        self.shell
            .deadline()
            .is_some_and(|deadline| deadline <= self.now)
    }

    /// When something is due next, if everything that can happen before has happened.
    pub(crate) fn next_moment(&self) -> Option<Millis> {
        let busy = !self.down.is_empty()
            || !self.answers.is_empty()
            || self.is_tick_due()
            || self.queues().any(|queue| self.can_serve(queue));
        let next = [self.shell.deadline(), self.server.next_event()]
            .into_iter()
            .flatten()
            .min();
        next.filter(|_| !busy)
    }

    /// Whether the shell owes the engine a new epoch, and how it comes by it.
    pub(crate) fn owes_epoch(&self) -> Option<Action> {
        if self.cut && !self.deaf {
            return Some(Action::Mend);
        }
        self.asked_epoch
            .then_some(Action::OpenEpoch { late_arrive: false })
    }

    /// What must hold after every step; what the engine asserts itself comes on top.
    pub(super) fn check(&self) -> Result<(), Violation> {
        let snapshot = self.shell.engine.snapshot();
        let replaced = if self.replace_stuck {
            self.stuck.len()
        } else {
            0
        };
        let holding = self.handlers.len() - replaced;
        if holding as u32 != snapshot.running {
            return Err(format!(
                "{holding} handlers hold slots, {} are counted",
                snapshot.running
            ));
        }
        if holding as u32 > self.slots {
            return Err(format!("{holding} handlers on {} slots", self.slots));
        }
        for seq in self.handlers.keys().filter(|_| !self.disturbed) {
            let place = &self.server.jobs[seq].place;
            if !matches!(place, Place::Ours(until) if self.now < *until) {
                return Err(format!(
                    "{seq:?} runs and is {place:?} though nothing went wrong"
                ));
            }
        }
        if !self.disturbed && !self.draining {
            let asked: u32 = self
                .server
                .waiting
                .iter()
                .flatten()
                .map(|pull| pull.left)
                .sum();
            let is_job = |message: &&Down| matches!(message, Down::Job { .. });
            let coming = self.down.values().flatten().filter(is_job).count() as u32;
            if asked + coming > snapshot.promised {
                return Err(format!(
                    "{asked} + {coming} may come, {} counted",
                    snapshot.promised
                ));
            }
        }
        Ok(())
    }

    /// Whether each job has been run to its end (or the worker has stopped, if told to).
    pub(crate) fn is_done(&self) -> bool {
        if self.draining || self.deaf {
            return self.stopped || self.exited;
        }
        self.server.jobs.iter().all(|(seq, job)| {
            job.place == Place::Acked || self.handlers.get(seq).is_some_and(|handler| handler.long)
        })
    }

    /// Nothing goes wrong any more.
    pub(crate) fn calm(&mut self) {
        self.budget = Budget::default();
        self.lose_next = false;
    }

    /// The connection is dead for good, and looks alive.
    pub(crate) fn deafen(&mut self) {
        self.deaf = true;
        self.disturbed = true;
        self.cut = true;
        self.noticed = false;
        self.down.clear();
        self.answers.clear();
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.watched
    }

    /// Giving up is right if nothing can come through.
    pub(crate) fn gave_up_wrongly(&self) -> bool {
        self.exited && !self.cut
    }

    /// Some handlers will not end by themselves; one slot at least is left.
    pub(crate) fn prolong_handlers(&mut self) {
        let count = self.handlers.len().min(self.slots as usize - 1);
        for handler in self.handlers.values_mut().take(count) {
            handler.long = true;
        }
    }
}
