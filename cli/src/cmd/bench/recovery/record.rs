//! What became of each job, from what the worker processes said.

use std::collections::HashMap;
use std::time::Duration;

use super::super::part::{Heard, Micros, Said};

/// One time that a job ran.
#[derive(Debug, Clone, Copy)]
struct Run {
    worker: usize,
    attempt: Option<u32>,
    started: Micros,
    ended: Option<Micros>,
}

/// The runs of all jobs.
#[derive(Debug, Default)]
pub(super) struct Record {
    runs: HashMap<u64, Vec<Run>>,
}

impl Record {
    pub(super) fn add(&mut self, heard: Heard) {
        let worker = heard.from;
        match heard.said {
            Said::Started { job, attempt, at } => self.runs.entry(job).or_default().push(Run {
                worker,
                attempt,
                started: at,
                ended: None,
            }),
            Said::Ended { job, at } => {
                let runs = self.runs.entry(job).or_default().iter_mut();
                let mut open = runs.filter(|run| run.worker == worker && run.ended.is_none());
                if let Some(run) = open.next() {
                    run.ended = Some(at);
                }
            }
            Said::Ready | Said::Rests { .. } => {}
        }
    }

    /// How many jobs have started.
    pub(super) fn jobs(&self) -> usize {
        self.runs.len()
    }

    /// Jobs that have run to their end.
    pub(super) fn ended(&self) -> usize {
        let ends = |runs: &&Vec<Run>| runs.iter().any(|run| run.ended.is_some());
        self.runs.values().filter(ends).count()
    }

    /// Jobs that have run to their end more than once.
    pub(super) fn doubled(&self) -> usize {
        let ends = |runs: &Vec<Run>| runs.iter().filter(|run| run.ended.is_some()).count();
        self.runs.values().filter(|runs| ends(runs) > 1).count()
    }

    /// Jobs that have run to their end more than once as one and the same attempt; none where nobody
    /// counts attempts.
    pub(super) fn doubled_unseen(&self) -> Option<usize> {
        let mut all = self.runs.values().flatten();
        all.any(|run| run.attempt.is_some()).then(|| {
            let doubles = |runs: &&Vec<Run>| {
                let ends = runs.iter().filter(|run| run.ended.is_some());
                let mut attempts: Vec<_> = ends.map(|run| run.attempt).collect();
                attempts.sort();
                attempts.windows(2).any(|pair| pair[0] == pair[1])
            };
            self.runs.values().filter(doubles).count()
        })
    }

    /// From that moment to the next start, on another worker than this one.
    pub(super) fn next_start(&self, at: Micros, not_on: Option<usize>) -> Option<Duration> {
        let runs = self.runs.values().flatten();
        let starts = runs.filter(|run| Some(run.worker) != not_on && run.started > at);
        let first = starts.map(|run| run.started).min()?;
        Some(first.since(at))
    }

    /// From that moment to the second starts of the jobs that this worker left unfinished, in order.
    pub(super) fn started_again(&self, at: Micros, left_by: usize) -> Vec<Duration> {
        let mut again: Vec<Duration> = self
            .runs
            .values()
            .filter(|runs| {
                let is_left = |run: &Run| run.worker == left_by && run.ended.is_none();
                runs.iter().any(is_left)
            })
            .filter_map(|runs| {
                let later = runs.iter().filter(|run| run.worker != left_by);
                Some(later.map(|run| run.started).min()?.since(at))
            })
            .collect();
        again.sort();
        again
    }

    /// The longest time without a start from that moment on. What only runs again when all others are
    /// done does not count.
    pub(super) fn longest_pause(&self, at: Micros) -> Option<Duration> {
        let firsts = self.runs.values().filter_map(|runs| runs.first());
        let last = firsts.map(|run| run.started).max()?;
        let runs = self.runs.values().flatten();
        let mut starts: Vec<Micros> = runs
            .map(|run| run.started)
            .filter(|start| *start > at && *start <= last)
            .collect();
        starts.sort();
        let befores = std::iter::once(&at).chain(&starts);
        let pauses = befores.zip(&starts);
        pauses.map(|(before, start)| start.since(*before)).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(said: &[(usize, &str, u64, u64)]) -> Record {
        let mut record = Record::default();
        for &(from, what, job, at) in said {
            let at = Micros::at(at);
            let said = match what {
                "start" => Said::Started {
                    job,
                    attempt: Some(1),
                    at,
                },
                _ => Said::Ended { job, at },
            };
            record.add(Heard { from, said });
        }
        record
    }

    #[test]
    fn a_job_of_a_killed_worker_runs_again_and_is_no_double() {
        let record = record(&[
            (0, "start", 1, 10),
            (1, "start", 2, 11),
            (1, "end", 2, 20),
            (1, "start", 3, 40),
            (1, "end", 3, 50),
            (1, "start", 4, 90),
            (1, "end", 4, 95),
            (1, "start", 1, 300),
            (1, "end", 1, 310),
        ]);
        let killed = Micros::at(15);
        assert_eq!(record.ended(), 4);
        assert_eq!(record.doubled(), 0);
        assert_eq!(
            record.next_start(killed, Some(0)),
            Some(Duration::from_micros(25))
        );
        assert_eq!(
            record.started_again(killed, 0),
            [Duration::from_micros(285)]
        );
        let pause = record.longest_pause(killed).unwrap();
        assert_eq!(pause, Duration::from_micros(50));
    }

    #[test]
    fn a_job_that_ends_twice_is_a_double_and_one_that_does_not_end_is_lost() {
        let record = record(&[
            (0, "start", 1, 10),
            (0, "end", 1, 20),
            (1, "start", 1, 30),
            (1, "end", 1, 40),
            (1, "start", 2, 50),
        ]);
        assert_eq!((record.jobs(), record.ended(), record.doubled()), (2, 1, 1));
        assert_eq!(record.doubled_unseen(), Some(1));
    }
}
