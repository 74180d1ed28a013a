//! An installation in memory, and jobs run in it one after the other.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;
use chrono::{DateTime, Utc};
use repull::client::{Client, Enqueued, Memory};
use repull::id::{Lane, Namespace, Priority};
use repull::job::Job;
use repull::wire::{self, Address, JobEvent, Place};

use super::Ran;
use crate::builder::Worker;
use crate::crew::{Crew, Queues};
use crate::job_task::refuse_start;
use crate::run::{self, Attempt, Cancel, CancelReason, Ending, ProgressCell};
use crate::settle::{self, Plan};

/// The most attempts of one drain: more are a job that never ends.
const ATTEMPTS_MAX: usize = 100_000;

/// Of the times that a backoff may draw, the longest.
const LONGEST: f64 = 1.0;

/// Queues, later jobs, dead ones and outcomes in memory. See [the module](super).
#[derive(Debug)]
pub struct Installation {
    client: Client,
}

impl Installation {
    /// An empty one, whose clock stands at the present time.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn new() -> Self {
        Self {
            client: Client::in_memory(Namespace::default()).await,
        }
    }

    /// A client of it, for workers and for whatever enqueues: what it enqueues is seen here.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The time by its clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.memory().now()
    }

    /// Moves its clock forward.
    pub fn advance(&self, by: Duration) {
        self.memory().advance(by);
    }

    /// Runs all that is due on the worker's queues, also what it enqueues meanwhile, one job after
    /// the other: lane by lane, in the order in which the worker names its queues.
    ///
    /// # Panics
    /// There is no end to it.
    pub async fn drain(&self, worker: &Worker) -> Vec<Ran> {
        let crew = self.crew(worker);
        let lanes: Vec<Lane> = worker
            .config()
            .queues
            .iter()
            .flat_map(|queue| {
                Priority::ALL.map(|priority| Lane {
                    queue: queue.name.clone(),
                    priority,
                })
            })
            .collect();
        let mut all = Vec::new();
        loop {
            self.memory().promote();
            let Some(message) = self.memory().deliver(&lanes) else {
                return all;
            };
            all.extend(self.run(&crew, message).await);
            assert!(
                all.len() < ATTEMPTS_MAX,
                "{ATTEMPTS_MAX} attempts and no end, the last one of task `{}`",
                all.last().map_or("", |ran| ran.job.task.as_str())
            );
        }
    }

    /// The same until no job waits for a time either: moves the clock on to each.
    ///
    /// # Panics
    /// There is no end to it.
    pub async fn drain_all(&self, worker: &Worker) -> Vec<Ran> {
        let mut all = self.drain(worker).await;
        while let Some(at) = self.memory().next_due() {
            self.memory().set_now(at);
            let ran = self.drain(worker).await;
            if ran.is_empty() {
                // It waits on a queue that this worker does not serve.
                break;
            }
            all.extend(ran);
            assert!(
                all.len() < ATTEMPTS_MAX,
                "{ATTEMPTS_MAX} attempts and no end"
            );
        }
        all
    }

    /// One attempt of a job that is on no queue. Nothing follows from how it ends.
    pub fn attempt<'i>(&'i self, worker: &'i Worker, job: Job) -> OneAttempt<'i> {
        OneAttempt {
            installation: self,
            worker,
            job,
            number: 1,
            max_attempts: None,
            cancel: Cancel::new(),
        }
    }

    /// The jobs of a task that are queued or later, the oldest first. Those that wait for a time
    /// say so by their `run_at`.
    pub fn waiting(&self, task: &str) -> Vec<Job> {
        let mut jobs = self.jobs(Place::Jobs);
        jobs.extend(self.jobs(Place::Later));
        jobs.retain(|job| job.task.as_str() == task);
        jobs.sort_by_key(|job| job.enqueued_at);
        jobs
    }

    /// The jobs that were given up, the oldest first, with their errors.
    pub fn dead(&self) -> Vec<Job> {
        self.jobs(Place::Dead)
    }

    /// The outcome of a job; none where it has not ended, or its outcome is not kept.
    pub fn outcome(&self, enqueued: &Enqueued) -> Option<JobEvent> {
        let mut events = self.events(enqueued);
        events.pop().filter(|event| event.kind.is_outcome())
    }

    /// All events of a job, the oldest first.
    pub fn events(&self, enqueued: &Enqueued) -> Vec<JobEvent> {
        let subject = enqueued
            .address
            .subject(self.client.namespace(), Place::Results);
        let events = self.events_on(&subject);
        events
            .into_iter()
            .filter(|event| event.nonce == enqueued.nonce)
            .collect()
    }

    fn memory(&self) -> &Memory {
        let memory = self.client.memory();
        memory.expect("an installation's client is one in memory")
    }

    fn crew(&self, worker: &Worker) -> Crew {
        let config = worker.config();
        Crew {
            client: self.client.clone(),
            worker: config.id.clone(),
            registry: worker.registry.clone(),
            results_default: config.results_default,
            value_bytes_max: config.value_bytes_max,
            queues: Queues::default(),
        }
    }

    fn events_on(&self, subject: &str) -> Vec<JobEvent> {
        let messages = self.memory().all(Place::Results);
        let on_it = messages
            .into_iter()
            .filter(|message| message.subject.as_str() == subject);
        on_it
            .filter_map(|message| JobEvent::decode(Some(&message.headers), message.payload).ok())
            .collect()
    }

    fn jobs(&self, place: Place) -> Vec<Job> {
        let messages = self.memory().all(place).into_iter();
        messages.map(|message| self.read(place, message)).collect()
    }

    fn read(&self, place: Place, message: StreamMessage) -> Job {
        let (subject, headers) = (message.subject, Some(&message.headers));
        wire::decode(
            self.client.namespace(),
            place,
            &subject,
            headers,
            message.payload,
        )
        .unwrap_or_else(|error| panic!("what was published to `{subject}` is no job: {error}"))
    }

    /// Runs a delivered job and does what follows. None where it was not started.
    async fn run(&self, crew: &Crew, message: StreamMessage) -> Option<Ran> {
        let sequence = message.sequence;
        let job = Arc::new(self.read(Place::Jobs, message));
        let number = job.attempts_used.saturating_add(1);
        let policy = crew.policy(&job);
        let max_attempts = policy.max_attempts(&job);
        let subject = settle::Subject {
            namespace: crew.client.namespace(),
            worker: &crew.worker,
            job: &job,
            sequence,
            attempt: number,
            started_at: self.now(),
            policy,
            value_bytes_max: crew.value_bytes_max,
        };
        if let Some(plan) = refuse_start(&subject, max_attempts, self.now()) {
            self.settle(sequence, plan).await;
            return None;
        }
        let cancel = Cancel::new();
        let attempt = Attempt {
            job: job.clone(),
            number,
            max_attempts,
            worker: crew.worker.clone(),
            started_at: self.now(),
            cancel,
            progress: Arc::new(ProgressCell::new()),
        };
        let ran = self.carry(crew, attempt).await;
        let plan = settle::plan(&subject, ran.ending.clone(), self.now(), LONGEST);
        self.settle(sequence, plan).await;
        Some(ran)
    }

    async fn carry(&self, crew: &Crew, attempt: Attempt) -> Ran {
        let (job, number) = (attempt.job.clone(), attempt.number);
        let address = Address {
            lane: job.lane(),
            task: job.task.clone(),
            id: job.id.clone(),
        };
        let subject = address.subject(self.client.namespace(), Place::Results);
        let before = self.events_on(&subject).len();
        let cancel = attempt.cancel.clone();
        let mut ending = run::attempt(&crew.registry, &self.client, attempt).await;
        if let Some(reason @ CancelReason::Requested(_)) = cancel.reason() {
            // It ends cancelled even where the handler took no notice.
            ending = Ending::Cancelled { reason };
        }
        Ran {
            job,
            attempt: number,
            ending,
            told: self.events_on(&subject).split_off(before),
        }
    }

    /// Publishes what follows and removes the job's message, in this order.
    async fn settle(&self, sequence: u64, plan: Plan) {
        for message in &plan.publish {
            let published = self.client.publish(message).await;
            published.unwrap_or_else(|error| panic!("can't settle a job: {error}"));
        }
        self.memory().delete(Place::Jobs, sequence);
    }
}

/// One attempt, to be run alone.
#[derive(Debug)]
#[must_use]
pub struct OneAttempt<'i> {
    installation: &'i Installation,
    worker: &'i Worker,
    job: Job,
    number: u32,
    max_attempts: Option<u32>,
    cancel: Cancel,
}

impl OneAttempt<'_> {
    /// As which attempt it runs; the first unless said.
    pub fn number(mut self, number: u32) -> Self {
        self.number = number;
        self
    }

    /// Attempts the job gets in all; as the job, its task or the default says, unless said here.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts);
        self
    }

    /// Lets it be cancelled from outside.
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.cancel = cancel.clone();
        self
    }

    /// Runs it.
    pub async fn run(self) -> Ran {
        let installation = self.installation;
        let crew = installation.crew(self.worker);
        let max_attempts = crew.policy(&self.job).max_attempts(&self.job);
        let attempt = Attempt {
            job: Arc::new(self.job),
            number: self.number,
            max_attempts: self.max_attempts.unwrap_or(max_attempts),
            worker: crew.worker.clone(),
            started_at: installation.now(),
            cancel: self.cancel,
            progress: Arc::new(ProgressCell::new()),
        };
        installation.carry(&crew, attempt).await
    }
}

#[cfg(test)]
mod tests;
