//! Which shard a schedule or a later job belongs to, and what the shards of a process say together.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::metrics::Metrics;

/// The shard of a name, the same in every process and version: FNV-1a with `SplitMix64`'s finish.
pub(crate) fn shard_of(name: &str, count: u16) -> u16 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    (hash % u64::from(count.max(1))) as u16
}

/// One shard's part, and the board on which it writes how it is.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    index: u16,
    board: Arc<Board>,
}

/// What all shards of a process say of themselves.
#[derive(Debug)]
pub(crate) struct Board {
    shards: Vec<Cell>,
    metrics: Metrics,
    /// What ticks are counted from: a step of the wall clock must not look like a stuck loop.
    started: Instant,
}

#[derive(Debug, Default)]
struct Cell {
    schedules: AtomicU64,
    later: AtomicU64,
    /// In microseconds; the greatest value where this process does not lead the shard.
    watermark: AtomicI64,
    /// When the loop last went round, in milliseconds from the board's start.
    tick: AtomicU64,
}

impl Board {
    pub(crate) fn new(count: u16, metrics: Metrics) -> Arc<Self> {
        metrics.shards.set(i64::from(count.max(1)));
        let cell = || Cell {
            watermark: AtomicI64::new(i64::MAX),
            ..Cell::default()
        };
        Arc::new(Self {
            shards: (0..count.max(1)).map(|_| cell()).collect(),
            metrics,
            started: Instant::now(),
        })
    }

    /// How many shards there are.
    pub(crate) fn count(&self) -> u16 {
        self.shards.len() as u16
    }

    /// For how long the shard that is furthest behind has not gone round.
    pub(crate) fn silent_for(&self) -> Duration {
        let ticks = self
            .shards
            .iter()
            .map(|cell| cell.tick.load(Ordering::Relaxed));
        let oldest = Duration::from_millis(ticks.min().unwrap_or(0));
        self.started.elapsed().saturating_sub(oldest)
    }

    fn sum(&self, part: impl Fn(&Cell) -> &AtomicU64) -> i64 {
        let sum: u64 = self
            .shards
            .iter()
            .map(|cell| part(cell).load(Ordering::Relaxed))
            .sum();
        i64::try_from(sum).unwrap_or(i64::MAX)
    }
}

impl Share {
    pub(crate) fn new(index: u16, board: Arc<Board>) -> Self {
        Self { index, board }
    }

    /// Whether a name is of this shard.
    pub(crate) fn has(&self, name: &str) -> bool {
        shard_of(name, self.board.count()) == self.index
    }

    fn cell(&self) -> &Cell {
        &self.board.shards[usize::from(self.index)]
    }

    /// Tells how many schedules there are.
    pub(crate) fn schedules(&self, count: usize) {
        self.cell().schedules.store(count as u64, Ordering::Relaxed);
        let sum = self.board.sum(|cell| &cell.schedules);
        self.board.metrics.schedules.set(sum);
    }

    /// Tells how many later jobs there are.
    pub(crate) fn later(&self, count: usize) {
        self.cell().later.store(count as u64, Ordering::Relaxed);
        let sum = self.board.sum(|cell| &cell.later);
        self.board.metrics.later_jobs.set(sum);
    }

    /// Tells how far fires are published; none where this process does not lead the shard.
    pub(crate) fn watermark(&self, up_to: Option<DateTime<Utc>>) {
        let micros = up_to.map_or(i64::MAX, |up_to| up_to.timestamp_micros());
        self.cell().watermark.store(micros, Ordering::Relaxed);
        let oldest = self
            .board
            .shards
            .iter()
            .map(|cell| cell.watermark.load(Ordering::Relaxed))
            .min();
        let seconds = oldest
            .filter(|oldest| *oldest != i64::MAX)
            .map_or(0.0, |oldest| oldest as f64 / 1e6);
        self.board.metrics.watermark.set(seconds);
    }

    /// Tells that the shard's loop goes round.
    pub(crate) fn tick(&self, now: DateTime<Utc>) {
        let millis = self.board.started.elapsed().as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        self.cell().tick.store(millis, Ordering::Relaxed);
        let oldest = now.timestamp_micros() as f64 / 1e6 - self.board.silent_for().as_secs_f64();
        self.board.metrics.last_tick.set(oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_spread_evenly_and_stay_where_they_are() {
        let mut counts = [0; 4];
        for number in 0..4_000 {
            counts[usize::from(shard_of(&format!("schedule-{number}"), 4))] += 1;
        }
        assert!(
            counts.iter().all(|count| (850..1_150).contains(count)),
            "{counts:?}"
        );
        // Written down: another hash would move schedules between leaders.
        assert_eq!(shard_of("nightly", 16), shard_of("nightly", 16));
        assert_eq!((shard_of("nightly", 16), shard_of("a", 16)), (15, 8));
        assert_eq!(shard_of("anything", 1), 0);
    }
}
