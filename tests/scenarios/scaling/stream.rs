//! One stream and one worker on two cores, event by event.
//!
//! The slots of a worker are split into turns. A turn is served by the server, which holds the stream
//! meanwhile, goes over to the worker, is run there, settled, and comes back for the next jobs. Each
//! phase needs a core, and the server's and the worker's each a lock of their own.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::costs::{ASK, COPY, HOP, MAKE, RUN, SETTLE, STORE, TURN, jobs_per_pull};

const CORES: usize = 2;

/// What is simulated.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) slots: usize,
    pub(super) outcomes: bool,
    pub(super) replicated: bool,
    /// How long a job runs, in µs.
    pub(super) run: f64,
}

/// A step of a turn: whose lock it takes, what it costs a core, and how long after it the next begins.
struct Phase {
    lock: Option<usize>,
    cost: f64,
    then: f64,
}

fn phases(load: Load, jobs: f64) -> Vec<Phase> {
    const JOBS: usize = 0;
    const RESULTS: usize = 1;
    const WORKER: usize = 2;
    let copy = if load.replicated { COPY } else { 0.0 };
    let phase = |lock, cost, then| Phase { lock, cost, then };
    let mut all = vec![
        phase(Some(JOBS), TURN + jobs * (SETTLE + copy), 0.0),
        phase(None, jobs * 2.0 * copy, HOP),
        phase(Some(WORKER), ASK + jobs * RUN, load.run),
    ];
    if load.outcomes {
        all.push(phase(Some(WORKER), jobs * MAKE, HOP));
        all.push(phase(Some(RESULTS), jobs * (STORE + copy), 0.0));
        all.push(phase(None, jobs * 2.0 * copy, HOP));
    }
    all.push(phase(None, 0.0, HOP));
    all
}

/// Times are in whole nanoseconds, so that they have an order.
fn nanoseconds(microseconds: f64) -> u64 {
    (microseconds * 1e3) as u64
}

/// Jobs a second, from a backlog that does not end.
pub(super) fn rate(load: Load) -> f64 {
    const SECONDS: f64 = 5.0;
    let size = jobs_per_pull(load.slots);
    let mut turns = vec![size; load.slots / size];
    turns.extend(Some(load.slots % size).filter(|rest| *rest > 0));
    let steps: Vec<_> = turns.iter().map(|n| phases(load, *n as f64)).collect();
    let mut cores = [0_u64; CORES];
    let mut locks = [0_u64; 3];
    let mut done = 0;
    let mut events: BinaryHeap<_> = (0..turns.len())
        .map(|turn| Reverse((0_u64, turn, 0)))
        .collect();
    while let Some(Reverse((at, turn, step))) = events.pop() {
        if at > nanoseconds(SECONDS * 1e6) {
            break;
        }
        let Phase { lock, cost, then } = steps[turn][step];
        let core = (0..CORES).min_by_key(|core| cores[*core]);
        let core = core.expect("a core");
        let free = lock.map_or(0, |lock| locks[lock]);
        let free = if cost > 0.0 {
            free.max(cores[core])
        } else {
            free
        };
        if free > at {
            events.push(Reverse((free, turn, step)));
            continue;
        }
        let end = at + nanoseconds(cost);
        if cost > 0.0 {
            cores[core] = end;
        }
        if let Some(lock) = lock {
            locks[lock] = end;
        }
        let mut next = step + 1;
        if next == steps[turn].len() {
            done += turns[turn];
            next = 0;
        }
        events.push(Reverse((end + nanoseconds(then), turn, next)));
    }
    done as f64 / SECONDS
}
