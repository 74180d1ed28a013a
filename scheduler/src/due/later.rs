//! The jobs that wait for a time: their times and stream sequences, and nothing else.
//!
//! Sixteen bytes a job. Everything else about a job is read from the stream when its time has come,
//! and a job that was cancelled or replaced meanwhile is found out then.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use chrono::{DateTime, Utc};

/// A heap of (time, stream sequence).
#[derive(Debug, Default)]
pub struct Later {
    heap: BinaryHeap<Reverse<(i64, u64)>>,
}

impl Later {
    /// Adds a job that waits until `run_at`.
    pub fn push(&mut self, run_at: DateTime<Utc>, sequence: u64) {
        // Rounded up: a job must not run before its time.
        let micros = run_at.timestamp_micros()
            + i64::from(!run_at.timestamp_subsec_nanos().is_multiple_of(1_000));
        self.heap.push(Reverse((micros, sequence)));
    }

    /// Takes a job whose time has come, the longest due first.
    pub fn pop_due(&mut self, now: DateTime<Utc>) -> Option<(DateTime<Utc>, u64)> {
        let Reverse((micros, sequence)) = *self.heap.peek()?;
        if micros > now.timestamp_micros() {
            return None;
        }
        self.heap.pop();
        Some((
            DateTime::from_timestamp_micros(micros).unwrap_or(now),
            sequence,
        ))
    }

    /// When the next job's time comes.
    pub fn next_due(&self) -> Option<DateTime<Utc>> {
        let Reverse((micros, _)) = *self.heap.peek()?;
        DateTime::from_timestamp_micros(micros)
    }

    /// How many jobs wait.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Forgets all of them, and the memory that a burst took.
    pub fn clear(&mut self) {
        self.heap = BinaryHeap::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(micros: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(micros).unwrap()
    }

    #[test]
    fn a_job_never_runs_before_its_time() {
        let mut later = Later::default();
        let run_at = at(10) + chrono::TimeDelta::nanoseconds(1);
        later.push(run_at, 1);
        assert_eq!(later.pop_due(at(10)), None);
        assert_eq!(later.next_due(), Some(at(11)));
        assert_eq!(later.pop_due(at(11)), Some((at(11), 1)));
    }

    proptest! {
        #[test]
        fn jobs_come_out_in_the_order_of_their_times(times in prop::collection::vec(0i64..1_000, 0..100), now in 0i64..1_000) {
            let mut later = Later::default();
            for (sequence, micros) in times.iter().enumerate() {
                later.push(at(*micros), sequence as u64);
            }
            let mut taken = Vec::new();
            while let Some((_, sequence)) = later.pop_due(at(now)) {
                taken.push(times[sequence as usize]);
            }
            prop_assert!(taken.is_sorted());
            prop_assert_eq!(taken.len(), times.iter().filter(|micros| **micros <= now).count());
            prop_assert_eq!(taken.len() + later.len(), times.len());
        }
    }
}
