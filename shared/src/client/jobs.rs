//! Looking at jobs: one by its id, and all that a listing asks for.
//!
//! A job is one subject, so finding it needs no index: its place is the stream that holds a message
//! of that subject. Decisions are made on what streams' leaders say.

use std::collections::BTreeSet;

use async_nats::jetstream::message::StreamMessage;
use futures_util::future::try_join_all;
use futures_util::{Stream, StreamExt};

use super::inflight::InFlight;
use super::view::{EventView, JobState, JobSummary, JobView, MessageView};
use super::{Client, Error};
use crate::id::{JobId, Lane, Priority, QueueName, TASK_WORDS_MAX, TaskName};
use crate::job::{AttemptError, Job};
use crate::wire::headers::{DIED_AT, REASON};
use crate::wire::{self, Address, EventKind, JobEvent, Place};

/// A job's message, read as far as it can be.
struct Found {
    job: Job,
    message: StreamMessage,
    unreadable: Option<String>,
}

impl Client {
    /// Everything known of the job of this id. Of several (ids are unique per queue and task), the
    /// one that has most of its life before it.
    pub async fn find_job(&self, id: &JobId) -> Result<JobView, Error> {
        let found = self.find_jobs(id).await?;
        found.into_iter().next().ok_or_else(|| Error::NotFound {
            what: "job",
            name: id.to_string(),
        })
    }

    /// Everything known of all jobs of this id, live ones first, then by what happened last.
    pub async fn find_jobs(&self, id: &JobId) -> Result<Vec<JobView>, Error> {
        let addresses = self.find_addresses(id).await?;
        if addresses.is_empty() {
            return Ok(Vec::new());
        }
        let mut in_flight = InFlight::look(self).await?;
        let mut views = Vec::new();
        for address in addresses {
            views.extend(self.view_in(&address, &mut in_flight).await?);
        }
        views.sort_by(|a, b| {
            let (a, b) = (&a.summary, &b.summary);
            (!a.state.is_live(), b.since).cmp(&(!b.state.is_live(), a.since))
        });
        Ok(views)
    }

    /// Everything known of the job at this address; none where it is in no place.
    pub async fn view_job(&self, address: &Address) -> Result<Option<JobView>, Error> {
        let mut in_flight = InFlight::look(self).await?;
        self.view_in(address, &mut in_flight).await
    }

    /// All addresses that this id is found at, in whatever place.
    pub async fn find_addresses(&self, id: &JobId) -> Result<BTreeSet<Address>, Error> {
        let questions = Place::ALL.into_iter().flat_map(|place| {
            // One filter for each number of words that a task may have.
            (1..=TASK_WORDS_MAX).map(move |words| {
                let wildcards = vec!["*"; words].join(".");
                let namespace = self.namespace();
                let filter = format!("{namespace}.{}.*.{wildcards}.{id}", place.token());
                async move {
                    let subjects = self.subjects(&place.stream(namespace), &filter).await?;
                    let addresses = subjects
                        .iter()
                        .filter_map(|(subject, _)| Address::parse(namespace, place, subject).ok());
                    Ok::<_, Error>(addresses.collect::<Vec<_>>())
                }
            })
        });
        let found = try_join_all(questions).await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn view_in(
        &self,
        address: &Address,
        in_flight: &mut InFlight,
    ) -> Result<Option<JobView>, Error> {
        let events = self.events(address).await?;
        for (place, state) in [
            (Place::Jobs, JobState::Queued),
            (Place::Later, JobState::Later),
        ] {
            if let Some(found) = self.message_of(address, place).await? {
                let mut view = self.view_of(address, place, state, &found, &events);
                if place == Place::Jobs {
                    in_flight.complete(self, &mut view.summary).await?;
                }
                return Ok(Some(view));
            }
        }
        let dead = self.message_of(address, Place::Dead).await?;
        let outcome = events
            .iter()
            .rev()
            .find(|(_, event)| event.kind.is_outcome());
        if let Some(dead) = dead
            && outcome.is_none_or(|(_, event)| {
                event.kind == EventKind::Failed || event.at <= dead.message.time
            })
        {
            let view = self.view_of(address, Place::Dead, JobState::Dead, &dead, &events);
            return Ok(Some(view));
        }
        // Without an outcome and in no place: somebody removed its message by other means.
        let Some((sequence, last)) = outcome.or(events.last()) else {
            return Ok(None);
        };
        let mut summary = JobSummary::of_outcome(address, last, *sequence);
        summary.outcome = summary.outcome.filter(|kind| kind.is_outcome());
        Ok(Some(JobView {
            summary,
            message: None,
            reason: None,
            errors: errors_of(&events),
            events: show(&events),
            address: address.clone(),
            nonce: last.nonce.clone(),
        }))
    }

    fn view_of(
        &self,
        address: &Address,
        place: Place,
        state: JobState,
        found: &Found,
        events: &[(u64, JobEvent)],
    ) -> JobView {
        let (job, message) = (&found.job, &found.message);
        let mut summary = JobSummary::of_message(job, state, message.sequence, message.time);
        let header = |name| message.headers.get_last(name).map(ToString::to_string);
        if state == JobState::Dead {
            let died_at = header(DIED_AT).and_then(|at| at.parse().ok());
            summary.since = died_at.or(summary.since);
        }
        if let Some(unreadable) = &found.unreadable {
            summary.error = Some(unreadable.clone());
        }
        JobView {
            summary,
            message: Some(MessageView::of(
                job,
                place.stream(self.namespace()),
                message.subject.to_string(),
                message.sequence,
                message.time,
            )),
            reason: header(REASON),
            errors: job.errors.clone(),
            events: show(events),
            address: address.clone(),
            nonce: job.nonce.clone(),
        }
    }

    async fn message_of(&self, address: &Address, place: Place) -> Result<Option<Found>, Error> {
        let subject = address.subject(self.namespace(), place);
        let message = self.last_on_subject(place, &subject).await?;
        Ok(message.map(|message| self.read_message(address, place, message)))
    }

    fn read_message(&self, address: &Address, place: Place, message: StreamMessage) -> Found {
        let (headers, body) = (Some(&message.headers), message.payload.clone());
        match wire::decode(self.namespace(), place, &message.subject, headers, body) {
            Ok(job) => Found {
                job,
                message,
                unreadable: None,
            },
            Err(error) => Found {
                job: Job {
                    id: address.id.clone(),
                    queue: address.lane.queue.clone(),
                    priority: address.lane.priority,
                    args: message.payload.clone(),
                    ..Job::bare(address.task.clone())
                },
                message,
                unreadable: Some(error.to_string()),
            },
        }
    }

    /// The stored events of a job with their sequences, oldest first.
    pub async fn events(&self, address: &Address) -> Result<Vec<(u64, JobEvent)>, Error> {
        let stream = Place::Results.stream(self.namespace());
        let subject = address.subject(self.namespace(), Place::Results);
        #[cfg(feature = "test")]
        if let Some(memory) = self.memory() {
            let messages = memory.all(Place::Results).into_iter();
            let on_it = messages.filter(|message| message.subject.as_str() == subject);
            let read = |message: StreamMessage| {
                let event = JobEvent::decode(Some(&message.headers), message.payload).ok()?;
                Some((message.sequence, event))
            };
            return Ok(on_it.filter_map(read).collect());
        }
        let (mut events, mut sequence) = (Vec::new(), 1);
        while let Some(message) = self.next_message(&stream, &subject, sequence).await? {
            sequence = message.sequence + 1;
            if let Ok(event) = JobEvent::decode(Some(&message.headers), message.payload) {
                events.push((message.sequence, event));
            }
        }
        Ok(events)
    }

    /// The events of a job from now on, the moment they are published.
    pub async fn follow_events(
        &self,
        address: &Address,
    ) -> Result<impl Stream<Item = JobEvent> + Unpin + use<>, Error> {
        let subject = address.subject(self.namespace(), Place::Results);
        let what = || format!("subscribe to `{subject}`");
        let messages = self
            .nats()
            .subscribe(subject.clone())
            .await
            .map_err(|error| self.failed(what(), error))?;
        // The subscription must be with the server before the caller looks at what is stored.
        self.nats()
            .flush()
            .await
            .map_err(|error| self.failed(what(), error))?;
        Ok(messages.filter_map(|message| {
            let event = JobEvent::decode(message.headers.as_ref(), message.payload);
            std::future::ready(event.ok())
        }))
    }

    /// The filters that match the jobs of a queue and task in one place; of all where none is given.
    pub(crate) fn filters(
        &self,
        place: Place,
        queue: Option<&QueueName>,
        task: Option<&TaskName>,
    ) -> Vec<String> {
        let namespace = self.namespace();
        let one = |lane: &str| match task {
            Some(task) => format!("{namespace}.{}.{lane}.{task}.*", place.token()),
            None if lane == "*" => place.wildcard(namespace),
            None => format!("{namespace}.{}.{lane}.>", place.token()),
        };
        match queue {
            None => vec![one("*")],
            Some(queue) => lanes_of(queue).map(|lane| one(&lane.to_string())).into(),
        }
    }
}

/// The lanes of a queue, first served first.
pub(crate) fn lanes_of(queue: &QueueName) -> [Lane; 3] {
    Priority::ALL.map(|priority| Lane {
        queue: queue.clone(),
        priority,
    })
}

fn show(events: &[(u64, JobEvent)]) -> Vec<EventView> {
    events.iter().map(|(_, event)| event.into()).collect()
}

/// The errors that events tell of, for a job whose message is gone.
fn errors_of(events: &[(u64, JobEvent)]) -> Vec<AttemptError> {
    let is_error = |kind| matches!(kind, EventKind::Retrying | EventKind::Failed);
    events
        .iter()
        .filter(|(_, event)| is_error(event.kind))
        .map(|(_, event)| AttemptError {
            attempt: event.attempt,
            at: event.at,
            worker: event.worker.clone(),
            error: event.text(),
        })
        .collect()
}
