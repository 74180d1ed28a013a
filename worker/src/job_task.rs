//! The task that carries one delivered job from its bytes to the plan that settles it.
//!
//! Everything that costs time or may go wrong with one job happens here, off the worker's loop:
//! reading the message, asking whether a redelivered job is done already, the handler itself, and
//! writing what is to be published. Whatever happens, the loop is told exactly once that the
//! attempt is over; that is what frees the slot.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use repull::clock;
use repull::job::Job;
use repull::telemetry::trace;
use repull::wire::{self, DecodeError, EventKind};
use tokio::sync::mpsc;
use tracing::field::Empty;
use tracing::{Instrument, debug, error, info, info_span, warn};

use crate::crew::Crew;
use crate::delivery::Delivery;
use crate::engine::Verdict;
use crate::lanes::ServedLane;
use crate::run::{self, Attempt, Cancel, CancelReason, Ending, ProgressCell};
use crate::settle::{self, Plan};

/// The end of an attempt, for the loop.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) sequence: u64,
    pub(crate) verdict: Verdict,
    /// What settles it; none where nothing is to be said to the broker.
    pub(crate) plan: Option<Plan>,
    /// How long the handler ran, and for which task; none where it did not.
    pub(crate) ran: Option<(repull::id::TaskName, Duration)>,
}

/// A delivered job and what its task needs.
pub(crate) struct JobTask {
    pub(crate) crew: Arc<Crew>,
    pub(crate) delivery: Arc<Delivery>,
    /// The lane it came from.
    pub(crate) lane: Arc<ServedLane>,
    pub(crate) cancel: Cancel,
    pub(crate) progress: Arc<ProgressCell>,
}

/// Tells the loop that the attempt is over even where the task panics or is dropped.
struct Report {
    done: mpsc::UnboundedSender<Done>,
    sequence: u64,
    told: bool,
}

impl Report {
    fn tell(mut self, done: Done) {
        self.told = true;
        // The loop is gone only when the worker has stopped.
        let _ = self.done.send(done);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if !self.told {
            let done = Done {
                sequence: self.sequence,
                verdict: Verdict::Abandon,
                plan: None,
                ran: None,
            };
            let _ = self.done.send(done);
        }
    }
}

impl JobTask {
    /// Starts the task. Its end arrives on `done`, exactly once. As many can be under way as there
    /// are slots, so the channel needs no bound of its own.
    pub(crate) fn spawn(self, done: mpsc::UnboundedSender<Done>) {
        let report = Report {
            done,
            sequence: self.delivery.info.sequence,
            told: false,
        };
        // Boxed, because a task's future is moved several times on its way into the runtime.
        tokio::spawn(Box::pin(async move {
            let done = match self.read() {
                Ok(job) => self.carry(Arc::new(job)).await,
                Err(done) => done,
            };
            report.tell(done);
        }));
    }

    /// Reads the message; where it is no job, what is to be done with it.
    fn read(&self) -> Result<Job, Done> {
        let namespace = self.crew.client.namespace();
        let delivery = &*self.delivery;
        let (headers, body) = (delivery.headers.as_ref(), delivery.body.clone());
        let read = self
            .lane
            .address(namespace, &self.crew.registry, &delivery.subject)
            .map_err(DecodeError::from)
            .and_then(|address| wire::decode_at(address, headers, body));
        read.map_err(|error| {
            warn!(subject = %delivery.subject, %error, "a message is no job; moving it to the dead");
            let reason = error.to_string();
            let lane = &self.lane.name;
            let plan = settle::dead_on_arrival(namespace, lane, delivery, &reason, clock::now());
            Done {
                sequence: delivery.info.sequence,
                verdict: Verdict::Settle,
                plan: Some(plan),
                ran: None,
            }
        })
    }

    async fn carry(self, job: Arc<Job>) -> Done {
        let sequence = self.delivery.info.sequence;
        let number = job
            .attempts_used
            .saturating_add(self.delivery.info.deliveries);
        let settle = |plan: Plan| Done {
            sequence,
            verdict: Verdict::Settle,
            plan: Some(plan),
            ran: None,
        };
        let policy = self.crew.policy(&job);
        let max_attempts = policy.max_attempts(&job);
        let started_at = clock::now();
        let subject = settle::Subject {
            namespace: self.crew.client.namespace(),
            worker: &self.crew.worker,
            job: &job,
            sequence,
            attempt: number,
            started_at,
            policy,
            value_bytes_max: self.crew.value_bytes_max,
        };
        if self.delivery.info.deliveries > 1 && Box::pin(self.is_superseded(&job)).await {
            debug!(job = %job.id, task = %job.task, "delivered again although it is done or elsewhere; letting it go");
            return settle(settle::plan(&subject, Ending::Superseded, started_at, 0.0));
        }
        if let Some(plan) = refuse_start(&subject, max_attempts, started_at) {
            return settle(plan);
        }
        let attempt = Attempt {
            job: job.clone(),
            number,
            max_attempts,
            worker: self.crew.worker.clone(),
            started_at,
            cancel: self.cancel.clone(),
            progress: self.progress.clone(),
        };
        let span = info_span!("job", job = %job.id, task = %job.task, queue = %job.queue, attempt = number, schedule = job.schedule.as_ref().map(tracing::field::display), otel.name = Empty, otel.kind = Empty);
        trace::process(&span, &job, number);
        let clock_start = Instant::now();
        let mut ending = run::attempt(&self.crew.registry, &self.crew.client, attempt)
            .instrument(span.clone())
            .await;
        let ran = clock_start.elapsed();
        if let Some(reason @ CancelReason::Requested(_)) = self.cancel.reason() {
            // It ends cancelled even where the handler took no notice.
            ending = Ending::Cancelled { reason };
        }
        span.in_scope(|| log_ending(&ending, ran));
        let may_be_retried = !matches!(ending, Ending::Permanent { .. });
        if let Some(kind) = error_type(&ending) {
            trace::failed(&span, kind);
        }
        let verdict = match &ending {
            Ending::Cancelled {
                reason: CancelReason::LeaseLost,
            } => Verdict::Abandon,
            Ending::Cancelled {
                reason: CancelReason::Drain | CancelReason::Stop,
            } => Verdict::HandBack,
            _ => Verdict::Settle,
        };
        let ended_at = (started_at + TimeDelta::from_std(ran).unwrap_or_default()).trunc_subsecs(6);
        let plan = settle::plan(&subject, ending, ended_at, fastrand::f64());
        if may_be_retried && plan.kind == Some(EventKind::Failed) {
            span.in_scope(|| error!("given up, no attempt is left; moving it to the dead"));
        }
        Done {
            sequence,
            verdict,
            plan: Some(plan),
            ran: Some((job.task.clone(), ran)),
        }
    }

    /// Whether a redelivered message's job has been settled already, or has been put back or moved
    /// on by a worker that died before its ack. Where the server can't be asked it runs again.
    async fn is_superseded(&self, job: &Job) -> bool {
        let asked = self
            .crew
            .client
            .is_superseded(job, self.delivery.info.sequence)
            .await;
        asked.unwrap_or_else(|error| {
            debug!(job = %job.id, %error, "can't tell whether a redelivered job is done; running it");
            false
        })
    }
}

/// The plan for a job that gets no attempt any more.
pub(crate) fn refuse_start(
    subject: &settle::Subject<'_>,
    max_attempts: u32,
    now: DateTime<Utc>,
) -> Option<Plan> {
    let (job, attempt) = (subject.job, subject.attempt);
    let schedule = job.schedule.as_ref().map(tracing::field::display);
    let give_up = |error: String| {
        error!(job = %job.id, task = %job.task, queue = %job.queue, attempt, schedule, error, "given up before it could start; moving it to the dead");
        Some(settle::given_up(subject, error, now))
    };
    if attempt > max_attempts {
        let used = job.attempts_used;
        let why = match attempt.saturating_sub(1).saturating_sub(used) {
            0 => format!("it came with {used} attempts used"),
            lost => format!("its worker was lost while it ran, {lost} times in a row"),
        };
        return give_up(format!("{why}; no attempt of {max_attempts} is left"));
    }
    if let Some(expires) = job.expires.filter(|expires| attempt == 1 && now > *expires) {
        info!(job = %job.id, task = %job.task, queue = %job.queue, attempt, schedule, %expires, "expired before it could start");
        return Some(settle::plan(subject, Ending::Expired, now, 0.0));
    }
    if let Some(deadline) = job.deadline.filter(|deadline| now > *deadline) {
        return give_up(format!(
            "its deadline {deadline} passed before it could start"
        ));
    }
    None
}

/// What a trace calls the way in which an attempt failed.
fn error_type(ending: &Ending) -> Option<&'static str> {
    match ending {
        Ending::Succeeded { .. } | Ending::Snoozed { .. } | Ending::Superseded => None,
        Ending::Failed { .. } | Ending::RetryIn { .. } => Some("failed"),
        Ending::Permanent { .. } => Some("failed for good"),
        Ending::Cancelled { .. } => Some("cancelled"),
        Ending::Expired => Some("expired"),
        Ending::UnknownTask => Some("unknown task"),
    }
}

fn log_ending(ending: &Ending, ran: Duration) {
    match ending {
        Ending::Succeeded { .. } => debug!(?ran, "succeeded"),
        Ending::Snoozed { delay } => debug!(?ran, ?delay, "snoozed"),
        Ending::Failed { error } | Ending::RetryIn { error, .. } => warn!(?ran, error, "failed"),
        Ending::Permanent { error } => error!(?ran, error, "failed for good"),
        Ending::Cancelled { reason } => info!(?ran, %reason, "cancelled"),
        Ending::Expired | Ending::Superseded => debug!("not started"),
        Ending::UnknownTask => warn!("no handler for this task here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use repull::id::{Namespace, WorkerId};
    use repull::wire::headers;

    /// The number is whatever a stranger wrote into a header.
    #[test]
    fn a_job_that_comes_with_all_its_attempts_used_is_given_up() {
        let (namespace, worker) = (Namespace::default(), WorkerId::generate());
        for used in [3, u32::MAX] {
            let mut job = Job::json("t", &1).unwrap();
            job.attempts_used = used;
            let subject = settle::Subject {
                namespace: &namespace,
                worker: &worker,
                job: &job,
                sequence: 1,
                attempt: used.saturating_add(1),
                started_at: clock::now(),
                policy: settle::Policy::default(),
                value_bytes_max: 0,
            };
            let plan = refuse_start(&subject, 3, clock::now()).unwrap();
            assert_eq!(plan.kind, Some(EventKind::Failed));
            let reason = plan.publish[0].headers.get(headers::REASON).unwrap();
            let expected = format!("it came with {used} attempts used; no attempt of 3 is left");
            assert_eq!(reason.as_str(), expected);
        }
    }
}
