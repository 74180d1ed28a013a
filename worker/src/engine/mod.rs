//! Decides what the worker does next: events in, commands out. Does no I/O, never reads a clock,
//! and knows nothing of NATS but what an [`Event`] says.
//!
//! # How a shell drives it
//!
//! ```text
//! let mut engine = Engine::new(config)?;             // subscribe epoch 0 first, all its lanes
//! loop {
//!     while let Some(command) = engine.next_command() { carry_out(command) }
//!     wait for an event, or for engine.next_deadline() (then Event::Tick)
//!     engine.handle(now, event)                      // and any more events that are ready
//! }
//! ```
//!
//! - **Turns.** Pulls are decided when [`Engine::next_command`] runs dry, not per event: slots that
//!   several events of one turn set free share one pull. Hand in what is ready (some hundreds at
//!   most), then take all commands.
//! - **Lanes.** An epoch is `pulls_max` inbox subscriptions, for instance
//!   `<inbox>.<epoch>.<lane>.*`; the answers to a [`Command::Pull`] go to
//!   `<inbox>.<epoch>.<lane>.<pull>`. A data message does not name its pull, but the subscription
//!   it arrives on does (a queue has one open pull per lane), which makes the accounting exact. A
//!   shell with a single subscription sets `pulls_max` to 1 and says `Lane(0)`.
//! - **Epochs.** The first epoch is 0. After a reconnect, or when told [`Command::NewEpoch`], the
//!   shell subscribes anew and says [`Event::EpochChanged`]; jobs that still arrive on the old
//!   inbox may be reported (they are run if a slot is free, else handed back) or dropped.
//! - **Jobs.** For each [`Command::Start`] there is one [`Event::Finished`], whatever happens. The
//!   shell remembers the newest reply subject of each job from its delivery until
//!   [`Command::Forget`], [`Command::Refuse`], or its own [`Event::Settled`].
//! - **Drain.** After [`Event::Drain`] the shell unsubscribes (draining what is in flight, which
//!   is handed back), and says [`Event::EpochChanged`] when the old inbox is empty; without that
//!   the engine waits `pull_grace` before [`Command::Stopped`].
//! - **Late ticks** do no harm: timers that are due run at the end of any turn.
//!
//! # Invariants, asserted in every turn
//!
//! 1. Slots that run a job plus slots promised to open pulls never exceed the slots there are.
//! 2. No silent idle: while a slot is free and a queue may be asked, a pull with a local deadline
//!    is open or a timer is armed that will open one. Nothing waits on an external wake-up alone.
//! 3. Every slot taken is freed exactly once, whatever ends the attempt.

mod canonical;
mod command;
mod config;
mod delivery;
mod drain;
mod event;
mod ids;
mod jobs;
mod lease;
mod pulls;
mod queue;
mod settling;
mod share;
mod slots;
mod snapshot;
mod status;
#[cfg(test)]
mod tests;
mod timers;
mod watchdog;

use std::collections::VecDeque;
use std::sync::Arc;

pub use command::{CancelReason, Command, Fault, FaultClass};
pub use config::{Config, ConfigError, Order, QueueConfig};
pub use event::{Backlog, Event, NeverStarted, Status, Verdict};
pub use ids::{Epoch, Lane, Millis, PullId, QueueIx, Seq};
pub use snapshot::{Counters, QueueSnapshot, Snapshot};

use drain::Drain;
use jobs::Jobs;
use lease::{Leases, Slept};
use queue::Queue;
use settling::Settling;
use slots::Slots;
use watchdog::Watchdog;

/// The state of one worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Engine {
    config: Arc<Config>,
    /// Time of the latest event.
    now: Millis,
    epoch: Epoch,
    slots: Slots,
    queues: Vec<Queue>,
    jobs: Jobs,
    settling: Settling,
    leases: Leases,
    watchdog: Watchdog,
    drain: Option<Drain>,
    /// Pulls are held back until a new epoch is there, at most until this moment.
    hold_until: Option<Millis>,
    /// The queue that is served first when there are fewer slots than idle queues.
    rotation: usize,
    /// Serial number of the next pull.
    next_pull: u64,
    /// Lease of a job that arrives now: it may have waited since the end of the last turn.
    fresh_until: Millis,
    /// The process slept a while ago, so what arrives may be old.
    slept: Option<Slept>,
    /// The engine wants to be called at least this often: a much longer gap is a sleep.
    pulse_at: Millis,
    /// When the server is asked for the backlog, if slots are still idle then.
    ask_at: Millis,
    /// An event came since the last refill.
    stale: bool,
    commands: VecDeque<Command>,
    counters: Counters,
}

impl Engine {
    /// An engine that has nothing and will pull in its first turn.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            now: Millis(0),
            epoch: Epoch(0),
            slots: Slots::new(config.slots),
            queues: config.queues.iter().map(|_| Queue::new(&config)).collect(),
            jobs: Jobs::default(),
            settling: Settling::default(),
            leases: Leases::default(),
            watchdog: Watchdog::new(&config),
            drain: None,
            hold_until: None,
            rotation: 0,
            next_pull: 1,
            fresh_until: Millis::NEVER,
            slept: None,
            pulse_at: config.ack_wait.fraction(1, 3),
            ask_at: config.reconcile,
            stale: true,
            commands: VecDeque::new(),
            counters: Counters::default(),
            config: Arc::new(config),
        })
    }

    /// What it was told at its start.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Takes in what happened. `now` never goes back (if it does, it is taken as unchanged).
    pub fn handle(&mut self, now: Millis, event: Event) {
        self.now = self.now.max(now);
        let is_first_of_turn = !std::mem::replace(&mut self.stale, true);
        if is_first_of_turn {
            self.notice_sleep();
        }
        match event {
            Event::Delivered {
                epoch,
                lane,
                queue,
                seq,
                deliveries: _,
                pending,
            } => {
                self.on_delivered(epoch, lane, queue, seq, pending);
            }
            Event::PullStatus {
                epoch,
                pull,
                status,
            } => self.on_status(epoch, pull, status),
            Event::Finished { seq, verdict } => self.on_finished(seq, verdict),
            Event::Settled { seq } => {
                self.settling.end(seq);
                self.heard();
            }
            Event::Extended { queue, batch } => self.on_extended(queue, batch),
            Event::EpochChanged { epoch } => self.on_epoch(epoch),
            Event::Disconnected => self.on_disconnected(),
            Event::QueuePaused { queue } => self.set_paused(queue, true),
            Event::QueueResumed { queue } => self.set_paused(queue, false),
            Event::BacklogSeen { queue, backlog } => self.on_backlog(queue, backlog),
            Event::Cancel { seq } => self.cancel(seq, CancelReason::Requested),
            Event::Drain => self.on_drain(),
            Event::StopNow => self.on_stop_now(),
            Event::Tick => {}
        }
        self.check_slots();
    }

    /// The next thing to do, in order. `None` ends the turn: timers that were due have run by
    /// then, and slots that came free have been promised to pulls.
    pub fn next_command(&mut self) -> Option<Command> {
        if let Some(command) = self.commands.pop_front() {
            return Some(command);
        }
        if self.stale {
            self.stale = false;
            self.end_turn();
        }
        self.commands.pop_front()
    }

    fn end_turn(&mut self) {
        // After the events of the turn: a handler that ends in time is not reported as stuck.
        if self
            .next_deadline()
            .is_some_and(|deadline| self.now >= deadline)
        {
            self.run_timers();
        }
        self.refill();
        self.stop_when_empty();
        self.shake_off_sleep();
        self.fresh_until = self.now + self.config.ack_wait;
        self.pulse_at = self.now + self.config.ack_wait.fraction(1, 3);
        self.check_slots();
        self.check_guarded();
    }

    /// Invariants 1 and 3: the slots counted are the slots held. (Running plus promised against
    /// the total is asserted at each change, in `slots`.)
    fn check_slots(&self) {
        assert_eq!(
            self.slots.running(),
            self.jobs.holding(),
            "slots taken and jobs differ"
        );
    }

    /// Invariant 2, no silent idle.
    fn check_guarded(&self) {
        let askable = self.drain.is_none() && self.queues.iter().any(|queue| !queue.paused);
        if self.slots.free() > 0 && askable {
            let open = self.queues.iter().any(|queue| !queue.pulls.is_empty());
            assert!(
                open || self.is_pull_armed(),
                "slots are free and nothing will use them"
            );
        }
    }

    fn queue_mut(&mut self, queue: QueueIx) -> Option<&mut Queue> {
        self.queues.get_mut(queue.at())
    }

    fn set_paused(&mut self, queue: QueueIx, paused: bool) {
        if let Some(queue) = self.queue_mut(queue) {
            queue.paused = paused;
            queue.starved_until = None;
        }
    }

    fn on_epoch(&mut self, epoch: Epoch) {
        if epoch <= self.epoch {
            return;
        }
        self.epoch = epoch;
        self.hold_until = None;
        for queue in &mut self.queues {
            let (_, left) = queue.pulls.end_if(|_| true);
            self.slots.withdraw(left);
            queue.backoff.reset();
        }
        // What was sent before may never have arrived: say it again.
        self.leases.hurry(self.now);
        self.settling.hurry(self.now);
        self.watchdog.on_epoch(&self.config, self.now);
    }

    fn on_disconnected(&mut self) {
        self.hold_until = Some(self.now + self.config.pull_expires);
        self.watchdog.on_disconnected(&self.config, self.now);
    }

    /// Asks for a fresh inbox; pulls wait a moment for it, since the old ones become void with it.
    fn request_epoch(&mut self) {
        if self.hold_until.is_some_and(|until| self.now < until) {
            return; // One is on its way.
        }
        self.counters.new_epochs += 1;
        self.hold_until = Some(self.now + self.config.pull_grace);
        self.commands.push_back(Command::NewEpoch);
    }
}
