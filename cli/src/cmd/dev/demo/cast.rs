//! The demo's workers: who joins, who leaves, and how well their slots are used.
//!
//! The schedule's jobs have a worker of their own, so that they need not stand in line behind the
//! burst; it is left out of what is shown of slots.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use futures_util::future::join_all;
use repull::id::{QueueName, WorkerId};
use repull_worker::{Shutdown, Worker};

use super::super::hand::Hand;
use super::super::stack::Stack;
use super::files::Files;
use super::screen::WorkerView;
use super::tasks::{Library, Tally};
use crate::ui::report::usage;

/// How long running jobs may go on when their worker leaves: too short for the long ones.
pub(super) const DRAIN: Duration = Duration::from_secs(2);

/// Slots of the worker of the schedule's jobs.
const CLOCK_SLOTS: u32 = 4;

/// All workers of a run.
pub(super) struct Cast {
    library: Library,
    slots: u32,
    members: Vec<Member>,
    clock: Option<Hand>,
}

/// One worker.
struct Member {
    name: &'static str,
    id: WorkerId,
    hand: Hand,
    is_leaving: bool,
}

impl Cast {
    /// Nobody yet; those who join will have this many slots each.
    pub(super) fn new(files: Arc<Files>, slots: u32) -> Self {
        Self {
            library: Library::new(files),
            slots,
            members: Vec::new(),
            clock: None,
        }
    }

    /// Starts a worker for the load.
    pub(super) async fn join(
        &mut self,
        stack: &mut Stack,
        name: &'static str,
        queue: &QueueName,
    ) -> anyhow::Result<()> {
        let id = WorkerId::new(format!("{queue}-{name}"))?;
        let hand = self.start(stack, &id, queue, self.slots).await?;
        self.members.push(Member {
            name,
            id,
            hand,
            is_leaving: false,
        });
        Ok(())
    }

    /// Starts the worker of the schedule's jobs.
    pub(super) async fn start_clock(
        &mut self,
        stack: &mut Stack,
        queue: &QueueName,
    ) -> anyhow::Result<()> {
        let id = WorkerId::new(queue)?;
        self.clock = Some(self.start(stack, &id, queue, CLOCK_SLOTS).await?);
        Ok(())
    }

    async fn start(
        &self,
        stack: &mut Stack,
        id: &WorkerId,
        queue: &QueueName,
        slots: u32,
    ) -> anyhow::Result<Hand> {
        let client = stack.connect(id.as_str()).await?;
        let builder = Worker::builder(client)
            .id(id.clone())
            .queue(queue)
            .slots(slots)
            .drain_timeout(DRAIN);
        let worker = self.library.register(builder).build();
        Ok(Hand::start(
            worker.map_err(|problems| usage(problems.to_string()))?,
        ))
    }

    /// Lets a worker drain, and says how many jobs it runs at that moment.
    pub(super) fn leave(&mut self, name: &str) -> u32 {
        let Some(member) = self.members.iter_mut().find(|member| member.name == name) else {
            return 0;
        };
        member.is_leaving = true;
        member.hand.drain();
        member.hand.monitor().read().running
    }

    /// The id of a worker.
    pub(super) fn id(&self, name: &str) -> Option<&WorkerId> {
        let member = self.members.iter().find(|member| member.name == name)?;
        Some(&member.id)
    }

    /// The slots of each.
    pub(super) fn slots(&self) -> u32 {
        self.slots
    }

    /// What the handlers saw.
    pub(super) fn tally(&self) -> &Tally {
        self.library.tally()
    }

    /// Whether all who leave have gone; fails where somebody else has.
    pub(super) async fn have_left(&mut self) -> anyhow::Result<bool> {
        if let Some(clock) = self.clock.as_mut().filter(|clock| clock.has_ended()) {
            clock.ended().await?;
            bail!("the clock's worker ended by itself");
        }
        let mut all = true;
        for member in &mut self.members {
            let has_ended = member.hand.has_ended();
            if has_ended && !member.is_leaving {
                member.hand.ended().await?;
                bail!("the {} worker ended by itself", member.name);
            }
            all &= has_ended || !member.is_leaving;
        }
        Ok(all)
    }

    /// Their slots at this moment.
    pub(super) fn view(&self) -> Vec<WorkerView> {
        let view = |member: &Member| {
            let stats = member.hand.monitor().read();
            let state = match (member.is_leaving, member.hand.has_ended()) {
                (false, _) => "",
                (true, false) => "draining",
                (true, true) => "removed",
            };
            WorkerView {
                name: member.name,
                slots: self.slots.into(),
                running: if member.hand.has_ended() {
                    0
                } else {
                    stats.running.into()
                },
                state,
            }
        };
        self.members.iter().map(view).collect()
    }

    /// Jobs that all of them have started.
    pub(super) fn started(&self) -> u64 {
        let started = |member: &Member| member.hand.monitor().read().started;
        self.members.iter().map(started).sum()
    }

    /// The longest that a free slot waited for a job while jobs waited.
    pub(super) fn refill_max(&self) -> Duration {
        let refill = |member: &Member| member.hand.monitor().read().refill_max;
        self.members.iter().map(refill).max().unwrap_or_default()
    }

    /// The most slots that one of them ever had in use or promised.
    pub(super) fn held_max(&self) -> u32 {
        let held = |member: &Member| member.hand.monitor().read().held_max;
        self.members.iter().map(held).max().unwrap_or_default()
    }

    /// What the watchdogs had to do against a stall.
    pub(super) fn watchdog_actions(&self) -> u64 {
        let actions =
            |member: &Member| -> u64 { member.hand.monitor().read().watchdog.iter().sum() };
        self.members.iter().map(actions).sum()
    }

    /// Ends all at once.
    pub(super) async fn abandon(&mut self) {
        let members = self.members.iter_mut().map(|member| &mut member.hand);
        let all = members.chain(&mut self.clock).map(Hand::abandon);
        join_all(all).await;
    }

    /// Ends all who are still there. The first failure is told when all have ended.
    pub(super) async fn finish(&mut self, hurry: &Shutdown) -> anyhow::Result<()> {
        let mut finished = Ok(());
        for member in &mut self.members {
            finished = finished.and(member.hand.finish(hurry).await);
        }
        if let Some(clock) = &mut self.clock {
            finished = finished.and(clock.finish(hurry).await);
        }
        finished
    }
}
