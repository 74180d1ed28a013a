//! Listings of jobs, by state.
//!
//! Each state has its own place and its own best order: what waits and runs in the order of the
//! queue, what waits for a time by that time, what has ended with the newest first. No listing
//! reads more than it must, so that one over a million jobs answers at once.

use std::collections::BinaryHeap;
use std::ops::ControlFlow;

use async_nats::jetstream::consumer::DeliverPolicy;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::dead::DeadFilter;
use super::inflight::InFlight;
use super::scan::{Scan, Scanned};
use super::view::{JobState, JobSummary};
use super::{Client, Error};
use crate::id::{QueueName, TaskName};
use crate::wire::{self, Address, EventKind, JobEvent, Place};

/// How many jobs that wait for a time a listing looks at.
pub const LATER_SCANNED_MAX: usize = 100_000;

/// How many events a listing of ended jobs reads at a time, from the newest back.
const RESULTS_WINDOW: u64 = 2_000;

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Only of this queue.
    pub queue: Option<QueueName>,
    /// Only of this task.
    pub task: Option<TaskName>,
    /// Only in this state; none: queued, running and later.
    pub state: Option<JobState>,
    /// At most so many.
    pub limit: usize,
}

/// Some of the jobs that a filter matches.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Listing {
    /// They.
    pub jobs: Vec<JobSummary>,
    /// Whether there are more.
    pub more: bool,
}

impl Listing {
    fn is_full(&self, limit: usize) -> bool {
        self.jobs.len() >= limit
    }
}

impl Client {
    /// Lists jobs.
    pub async fn list_jobs(&self, filter: &JobFilter) -> Result<Listing, Error> {
        match filter.state {
            Some(JobState::Queued | JobState::Running) => self.list_queue(filter).await,
            Some(JobState::Later) => self.list_later(filter, filter.limit).await,
            Some(JobState::Dead) => self.list_dead(filter).await,
            Some(JobState::Done) => self.list_done(filter).await,
            None => {
                let mut listing = self.list_queue(filter).await?;
                if !listing.is_full(filter.limit) {
                    let left = filter.limit - listing.jobs.len();
                    let later = self.list_later(filter, left).await?;
                    listing.jobs.extend(later.jobs);
                    listing.more |= later.more;
                }
                Ok(listing)
            }
        }
    }

    /// Fetched one by one in the order of the stream: a work queue allows no other reader.
    async fn list_queue(&self, filter: &JobFilter) -> Result<Listing, Error> {
        let stream = Place::Jobs.stream(self.namespace());
        let mut in_flight = InFlight::look(self).await?;
        let mut listing = Listing::default();
        for subjects in self.filters(Place::Jobs, filter.queue.as_ref(), filter.task.as_ref()) {
            let mut sequence = 1;
            while let Some(message) = self.next_message(&stream, &subjects, sequence).await? {
                sequence = message.sequence + 1;
                let scanned = Scanned {
                    subject: message.subject.into_string(),
                    sequence: message.sequence,
                    stored_at: message.time,
                    headers: Some(message.headers),
                    body: message.payload,
                };
                let summary = self.summary(Place::Jobs, JobState::Queued, scanned);
                let Some(mut summary) = summary else { continue };
                in_flight.complete(self, &mut summary).await?;
                if filter.state.is_some_and(|state| state != summary.state) {
                    continue;
                }
                if listing.is_full(filter.limit) {
                    listing.more = true;
                    return Ok(listing);
                }
                listing.jobs.push(summary);
            }
        }
        Ok(listing)
    }

    async fn list_later(&self, filter: &JobFilter, limit: usize) -> Result<Listing, Error> {
        let mut next = Soonest::new(limit);
        let mut scanned = 0;
        let mut cut = false;
        for subjects in self.filters(Place::Later, filter.queue.as_ref(), filter.task.as_ref()) {
            let scan = Scan {
                stream: Place::Later.stream(self.namespace()),
                filter: subjects,
                from: DeliverPolicy::All,
                headers_only: true,
            };
            self.scan(scan, |message| {
                scanned += 1;
                if let Some(job) = self.summary(Place::Later, JobState::Later, message) {
                    next.push(job);
                }
                if scanned < LATER_SCANNED_MAX {
                    ControlFlow::Continue(())
                } else {
                    cut = true;
                    ControlFlow::Break(())
                }
            })
            .await?;
        }
        let more = cut || next.dropped;
        Ok(Listing {
            jobs: next.into_sorted(),
            more,
        })
    }

    async fn list_dead(&self, filter: &JobFilter) -> Result<Listing, Error> {
        let dead = DeadFilter {
            queue: filter.queue.clone(),
            task: filter.task.clone(),
            ..DeadFilter::default()
        };
        let found = self.dead_jobs(&dead, filter.limit).await?;
        let more = found.matching > found.jobs.len() as u64;
        let jobs = found.jobs.into_iter().filter_map(|dead| dead.summary());
        Ok(Listing {
            jobs: jobs.collect(),
            more,
        })
    }

    /// From the newest event back, a window at a time, until there are enough outcomes.
    async fn list_done(&self, filter: &JobFilter) -> Result<Listing, Error> {
        let stream = Place::Results.stream(self.namespace());
        let info = self
            .stream_handle(&stream)
            .await?
            .get_info()
            .await
            .map_err(|error| self.failed(format!("read stream `{stream}`"), error))?;
        let (first, mut end) = (info.state.first_sequence, info.state.last_sequence + 1);
        let mut listing = Listing::default();
        while end > first && !listing.is_full(filter.limit + 1) {
            let start = end.saturating_sub(RESULTS_WINDOW).max(first).max(1);
            let mut outcomes = self.outcomes(filter, &stream, start, end).await?;
            outcomes.reverse();
            listing.jobs.extend(outcomes);
            end = start;
        }
        listing.more = listing.jobs.len() > filter.limit;
        listing.jobs.truncate(filter.limit);
        Ok(listing)
    }

    async fn outcomes(
        &self,
        filter: &JobFilter,
        stream: &str,
        start: u64,
        end: u64,
    ) -> Result<Vec<JobSummary>, Error> {
        let mut outcomes = Vec::new();
        for subjects in self.filters(Place::Results, filter.queue.as_ref(), filter.task.as_ref()) {
            let scan = Scan {
                stream: stream.to_owned(),
                filter: subjects,
                from: DeliverPolicy::ByStartSequence {
                    start_sequence: start,
                },
                headers_only: false,
            };
            self.scan(scan, |message| {
                if message.sequence >= end {
                    return ControlFlow::Break(());
                }
                outcomes.extend(self.outcome(message));
                ControlFlow::Continue(())
            })
            .await?;
        }
        outcomes.sort_by_key(|job| job.sequence);
        Ok(outcomes)
    }

    /// The ended job that an event tells of. A failed one is listed with the dead.
    fn outcome(&self, message: Scanned) -> Option<JobSummary> {
        let address = Address::parse(self.namespace(), Place::Results, &message.subject).ok()?;
        let event = JobEvent::decode(message.headers.as_ref(), message.body).ok()?;
        (event.kind.is_outcome() && event.kind != EventKind::Failed)
            .then(|| JobSummary::of_outcome(&address, &event, message.sequence))
    }

    /// What a message says of its job; none where its subject names no job.
    fn summary(&self, place: Place, state: JobState, message: Scanned) -> Option<JobSummary> {
        let (subject, headers) = (&message.subject, message.headers.as_ref());
        match wire::decode(
            self.namespace(),
            place,
            subject,
            headers,
            message.body.clone(),
        ) {
            Ok(job) => Some(JobSummary::of_message(
                &job,
                state,
                message.sequence,
                message.stored_at,
            )),
            Err(error) => {
                // A header that can't be read: the job is there all the same, and is told with it.
                let job =
                    wire::decode(self.namespace(), place, subject, None, message.body).ok()?;
                let mut summary =
                    JobSummary::of_message(&job, state, message.sequence, message.stored_at);
                summary.error = Some(error.to_string());
                Some(summary)
            }
        }
    }
}

/// The so many jobs that run next.
struct Soonest {
    limit: usize,
    heap: BinaryHeap<ByTime>,
    dropped: bool,
}

struct ByTime(Option<DateTime<Utc>>, JobSummary);

impl PartialEq for ByTime {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByTime {}

impl PartialOrd for ByTime {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByTime {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1.sequence).cmp(&(other.0, other.1.sequence))
    }
}

impl Soonest {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            heap: BinaryHeap::new(),
            dropped: false,
        }
    }

    fn push(&mut self, job: JobSummary) {
        self.heap.push(ByTime(job.run_at, job));
        if self.heap.len() > self.limit {
            self.heap.pop();
            self.dropped = true;
        }
    }

    fn into_sorted(self) -> Vec<JobSummary> {
        let sorted = self.heap.into_sorted_vec();
        sorted.into_iter().map(|entry| entry.1).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Job;

    #[test]
    fn a_listing_of_later_jobs_keeps_those_that_run_next() {
        let at = |second: u32| format!("2026-11-23T10:00:{second:02}Z").parse().unwrap();
        let mut soonest = Soonest::new(2);
        for second in [30, 10, 20, 40] {
            let job = Job::json("t", &()).unwrap().not_before(at(second));
            let summary = JobSummary::of_message(&job, JobState::Later, u64::from(second), at(0));
            soonest.push(summary);
        }
        assert!(soonest.dropped);
        let kept: Vec<u64> = soonest
            .into_sorted()
            .iter()
            .map(|job| job.sequence)
            .collect();
        assert_eq!(kept, [10, 20]);
    }
}
