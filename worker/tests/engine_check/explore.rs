//! An exhaustive explorer: breadth first through every state that a world can reach, so that the
//! first fault found has the shortest way to it. From each state, it also checks that all jobs get
//! run once nothing goes wrong any more.
//!
//! States are told apart by a 64-bit hash of their normal form. At ten million states the odds
//! that two share one are one in a hundred thousand, and then one of them is not looked at.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use repull_worker::engine::{Counters, Epoch, Lane, QueueIx, Seq, Verdict};

use crate::server::Place;
use crate::world::{Action, Violation, World};

/// The most steps that a calm world may take until all is done.
const CALM_STEPS_MAX: u32 = 400;

/// What was explored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Explored {
    pub(crate) states: usize,
    pub(crate) steps: usize,
    /// The longest way from a state to its jobs all being done, in steps of a calm world.
    pub(crate) longest_recovery: u32,
    /// What has happened to the engine on at least one way.
    pub(crate) corners: BTreeSet<&'static str>,
}

/// What has happened to the engine, by its counters.
pub(crate) fn corners(counters: &Counters) -> impl Iterator<Item = &'static str> {
    let counted = [
        ("refused", counters.refused),
        ("unpromised", counters.unpromised),
        ("stale delivery", counters.stale_deliveries),
        ("sleep", counters.sleeps),
        ("acked again", counters.acked_again),
        ("confirmed late", counters.confirms),
        ("lease lost", counters.leases_lost),
        ("stuck", counters.stuck),
        ("pull written off", counters.pulls_written_off),
        ("pull failed", counters.pulls_failed),
        ("job lost on the way", counters.jobs_lost_on_the_way),
        ("new epoch", counters.new_epochs),
        ("watchdog", counters.watchdog_new_epochs),
        ("exit", counters.watchdog_exits),
    ];
    counted
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, _)| name)
}

/// Something wrong, and the shortest way to it.
#[derive(Debug)]
pub(crate) struct Counterexample {
    pub(crate) reason: Violation,
    pub(crate) way: Vec<Action>,
    pub(crate) world: Box<World>,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.reason)?;
        for (index, action) in self.way.iter().enumerate() {
            writeln!(formatter, "  {:2}. {action:?}", index + 1)?;
        }
        write!(formatter, "{:?}", self.world)
    }
}

/// Explores a world, up to `states_max` states; panics if that is too few.
pub(crate) fn explore(world: World, states_max: usize) -> Result<Explored, Counterexample> {
    let mut explorer = Explorer::default();
    explorer.run(world, states_max)
}

#[derive(Default)]
struct Explorer {
    /// Number of each state seen.
    seen: HashMap<u64, u32>,
    /// How each state was reached.
    ways: Vec<Option<(u32, Action)>>,
    /// Steps to the end from states of calm worlds.
    recoveries: HashMap<u64, u32>,
    explored: Explored,
}

impl Explorer {
    fn run(&mut self, world: World, states_max: usize) -> Result<Explored, Counterexample> {
        let mut queue = VecDeque::new();
        self.seen.insert(fingerprint(&world.canonical()), 0);
        self.ways.push(None);
        self.check_liveness(&world, world.canonical(), 0)?;
        queue.push_back((world, 0));
        while let Some((world, number)) = queue.pop_front() {
            for action in world.actions() {
                self.explored.steps += 1;
                let mut next = world.clone();
                if let Err(reason) = guarded(|| next.step(action)) {
                    return Err(self.counterexample(reason, number, Some(action), world));
                }
                let new = self.ways.len() as u32;
                let canonical = next.canonical();
                if let Entry::Vacant(entry) = self.seen.entry(fingerprint(&canonical)) {
                    entry.insert(new);
                    self.ways.push(Some((number, action)));
                    let counters = next.shell.engine.snapshot().counters;
                    self.explored.corners.extend(corners(&counters));
                    self.check_liveness(&next, canonical, new)?;
                    queue.push_back((next, new));
                }
            }
            assert!(
                self.ways.len() <= states_max,
                "more than {states_max} states"
            );
        }
        self.explored.states = self.ways.len();
        Ok(std::mem::take(&mut self.explored))
    }

    /// From here on nothing goes wrong: everything must get done. Once with handlers that end, and
    /// once with some that go on and on while other slots are free. And if from here on nothing
    /// comes through, the watchdog must end the process.
    fn check_liveness(
        &mut self,
        world: &World,
        mut canonical: World,
        number: u32,
    ) -> Result<(), Counterexample> {
        if world.exited && !world.gave_up_wrongly() {
            return Ok(());
        }
        if world.exited {
            let reason = "the worker gave up".to_owned();
            return Err(self.counterexample(reason, number, None, world.clone()));
        }
        self.recover(world, &mut canonical, World::calm, number)?;
        if !world.draining && !world.handlers.is_empty() && world.slots > 1 {
            self.recover(
                world,
                &mut canonical.clone(),
                World::prolong_handlers,
                number,
            )?;
        }
        if world.is_watched() {
            self.recover(world, &mut canonical, World::deafen, number)?;
        }
        Ok(())
    }

    /// Follows the one way that a world takes after `change`, unless its end is known.
    fn recover(
        &mut self,
        world: &World,
        canonical: &mut World,
        change: fn(&mut World),
        number: u32,
    ) -> Result<(), Counterexample> {
        change(canonical);
        let first = fingerprint(canonical);
        if self.recoveries.contains_key(&first) {
            return Ok(());
        }
        let mut world = world.clone();
        world.calm();
        change(&mut world);
        let mut way = Vec::new();
        let mut state = first;
        let known = loop {
            if world.is_done() {
                break 0;
            }
            if let Some(known) = self.recoveries.get(&state) {
                break *known;
            }
            if way.contains(&state) || way.len() as u32 > CALM_STEPS_MAX {
                let reason = "stalled: a calm world goes round in circles".to_owned();
                return Err(self.counterexample(reason, number, None, world));
            }
            way.push(state);
            if let Err(reason) = guarded(|| calm_step(&mut world)) {
                let reason = format!("{reason} (in a calm world)");
                return Err(self.counterexample(reason, number, None, world));
            }
            state = fingerprint(&world.canonical());
        };
        for (steps, state) in (known + 1..).zip(way.into_iter().rev()) {
            self.recoveries.insert(state, steps);
            self.explored.longest_recovery = self.explored.longest_recovery.max(steps);
        }
        Ok(())
    }

    fn counterexample(
        &self,
        reason: Violation,
        mut number: u32,
        last: Option<Action>,
        world: World,
    ) -> Counterexample {
        let mut way: Vec<Action> = last.into_iter().collect();
        while let Some((before, action)) = &self.ways[number as usize] {
            way.push(*action);
            number = *before;
        }
        way.reverse();
        Counterexample {
            reason,
            way,
            world: Box::new(world),
        }
    }
}

/// A hash that is fast without optimisation too: most of the time goes into hashing.
struct Fold(u64);

impl Fold {
    fn add(&mut self, value: u64) {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(FACTOR);
    }
}

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.add(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.add(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.add(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.add(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.add(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.add(value as u64);
    }

    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ self.0 >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ mixed >> 32
    }
}

fn fingerprint(canonical: &World) -> u64 {
    let mut hasher = Fold(0);
    canonical.hash(&mut hasher);
    hasher.finish()
}

/// An assertion of the engine that fails is a fault like any other.
pub(crate) fn guarded(step: impl FnOnce() -> Result<(), Violation>) -> Result<(), Violation> {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

/// The one thing that happens next where nothing goes wrong: what is under way arrives, what is
/// asked is answered, handlers end; only then does time pass.
pub(crate) fn calm_step(world: &mut World) -> Result<(), Violation> {
    let action = calm_action(world).ok_or("stalled: nothing will ever happen again")?;
    world.step(action)
}

fn calm_action(world: &World) -> Option<Action> {
    let paused = world.paused.iter().position(|paused| *paused);
    let other = world.server.jobs.iter();
    let other = other
        .filter(|(_, job)| matches!(job.place, Place::Others(_)))
        .map(|(seq, _)| *seq);
    let down: Option<(Epoch, Lane)> = world.down.keys().next().copied();
    let mut queues = (0..world.paused.len() as u16).map(QueueIx);
    let ends = |(seq, handler): (&Seq, &crate::world::Handler)| {
        let verdict = match handler.cancelled && world.draining {
            true => Verdict::HandBack,
            false => Verdict::Settle,
        };
        (!handler.long || handler.cancelled).then_some(Action::Finish(*seq, verdict))
    };
    None.or(paused.map(|queue| Action::Resume(QueueIx(queue as u16))))
        .or(down.map(|(epoch, lane)| Action::Receive(epoch, lane)))
        .or((!world.answers.is_empty()).then_some(Action::Hear))
        .or(world.owes_epoch())
        .or(world.is_tick_due().then_some(Action::Tick))
        .or(queues
            .find(|queue| world.can_serve(*queue))
            .map(Action::Serve))
        .or(other.into_iter().next().map(Action::OtherAcks))
        .or(world.handlers.iter().find_map(ends))
        .or(world.next_moment().map(|_| Action::Pass))
}
