//! The way of a fire from the planner to its job or to the ledger.
//!
//! A fire is published at once, or, where runs must not overlap, after a look whether the previous
//! run waits for a retry. What the stream refuses or leaves open is settled by looking, and repeated
//! until it is settled: a fire leaves this module only published, buffered or in the ledger.

use std::time::{Duration, Instant};

use repull::client::{Answer, Error, PublishError};
use repull::clock;
use repull::schedule::Overlap;
use repull::wire::{Fate, LedgerEntry, Place};
use tracing::{debug, error, warn};

use super::messages::{
    buffer_message, buffer_subject, cancel_other, publish_message, publish_subject,
};
use super::open::Ticket;
use super::{Item, Shard, lookup};
use crate::delayed;
use crate::due::overlap::{Found, Step, step};
use crate::due::{Decision, Fire};
use crate::ledger;

/// The longest pause between two tries of a fire.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// How often an entry of the ledger is tried: it must not stop what it tells of.
const ENTRY_TRIES_MAX: u32 = 10;

/// How often it is told that fires can't be published.
const TROUBLE_EVERY: Duration = Duration::from_secs(5);

/// A fire that is published later than this is written to the ledger as late.
const LATE: chrono::TimeDelta = chrono::TimeDelta::seconds(5);

/// A fire on its way.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) fire: Fire,
    pub(crate) ticket: Ticket,
    tries: u32,
    /// An earlier try may have been stored without our being told.
    ambiguous: bool,
    /// The schedule was told to wait for this fire.
    holds: bool,
    goal: Goal,
}

/// What a flight tries to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// Find out whether the previous run waits for a retry.
    Check,
    /// Publish the job.
    Publish,
    /// Publish it to wait for the end of the previous run.
    Buffer,
    /// End the previous run.
    Cancel,
}

/// An entry of the ledger on its way.
#[derive(Debug)]
pub(crate) struct Entry {
    entry: LedgerEntry,
    ticket: Option<Ticket>,
    tries: u32,
}

/// What a lookup found.
#[derive(Debug)]
pub(crate) enum Looked {
    /// Before publishing: the enqueue that waits for a retry, if one does.
    Waiting(Box<Flight>, Result<Option<String>, Error>),
    /// After a refusal: what is in the way.
    InTheWay(Box<Flight>, Result<(Found, String), Error>),
    /// After no clear answer: whether it was published, ran and is gone.
    Published(Box<Flight>, Result<bool, Error>),
    /// The previous run was cancelled.
    Cancelled(Box<Flight>, Result<(), Error>),
}

impl Shard {
    /// Starts what the planner decided.
    pub(super) async fn start(&mut self, decision: Decision) {
        match decision {
            Decision::Pass(passed) => {
                let entry = ledger::passed(&passed, clock::now(), &self.id);
                let count = u64::from(passed.count.unwrap_or(1));
                self.metrics.fire(entry.fate.as_str(), count);
                let ticket = self.open.add(&passed.schedule, passed.first);
                self.record(entry, Some(ticket)).await;
            }
            Decision::Publish(fire) => {
                let ticket = self.open.add(&fire.schedule, fire.due);
                let goal = match fire.kind.overlap {
                    Overlap::Allow => Goal::Publish,
                    _ => Goal::Check,
                };
                let flight = Flight {
                    fire,
                    ticket,
                    tries: 0,
                    ambiguous: false,
                    holds: false,
                    goal,
                };
                self.fly(Box::new(flight)).await;
            }
        }
    }

    /// Takes the next step of a fire.
    pub(super) async fn fly(&mut self, flight: Box<Flight>) {
        let client = self.client.clone();
        match flight.goal {
            Goal::Check => self.look(async move {
                let found = lookup::waits_for_retry(&client, &flight.fire).await;
                Looked::Waiting(flight, found)
            }),
            Goal::Publish | Goal::Buffer if flight.ambiguous => self.look(async move {
                let found = lookup::was_published(&client, &flight.fire).await;
                Looked::Published(flight, found)
            }),
            Goal::Publish => {
                let message = publish_message(&client, &flight.fire);
                self.pipeline.send(Item::Fire(flight), message).await;
            }
            Goal::Buffer => {
                let message = buffer_message(&client, &flight.fire);
                self.pipeline.send(Item::Fire(flight), message).await;
            }
            Goal::Cancel => self.look(async move {
                let cancelled = cancel_other(&client, &flight.fire).await;
                Looked::Cancelled(flight, cancelled)
            }),
        }
    }

    /// Takes the stream's answer to a fire.
    pub(super) async fn fire_answered(&mut self, mut flight: Box<Flight>, answer: Answer) {
        match answer {
            Answer::Stored { .. } => self.settled(flight).await,
            Answer::WrongLast => {
                let client = self.client.clone();
                self.look(async move {
                    let (place, subject) = match flight.goal {
                        Goal::Buffer => (Place::Later, buffer_subject(&client, &flight.fire)),
                        _ => (Place::Jobs, publish_subject(&client, &flight.fire)),
                    };
                    let found = lookup::in_the_way(&client, place, &subject, &flight.fire).await;
                    Looked::InTheWay(flight, found)
                });
            }
            Answer::Again { reason } => {
                flight.ambiguous = true;
                self.again(flight, &reason);
            }
            Answer::Final(error @ PublishError::TooLarge { .. })
            | Answer::Final(error @ PublishError::Refused { code: 0, .. }) => {
                warn!(schedule = %flight.fire.schedule, %error, "a fire can never become a job");
                self.pass(flight, Fate::Refused, error.to_string()).await;
            }
            Answer::Final(error) => self.again(flight, &error.to_string()),
        }
    }

    /// Takes what a lookup found.
    pub(super) async fn looked(&mut self, looked: Looked) {
        match looked {
            Looked::Waiting(mut flight, Ok(None)) => {
                flight.goal = Goal::Publish;
                self.fly(flight).await;
            }
            Looked::Waiting(flight, Ok(Some(nonce))) => {
                let found = match nonce == flight.fire.id() {
                    true => Found::Same,
                    false => Found::Other,
                };
                self.decide(flight, found, &nonce).await;
            }
            Looked::InTheWay(mut flight, Ok((found, nonce))) => {
                if found == Found::Nothing {
                    // It was there a moment ago; it may even have been this fire's own.
                    flight.ambiguous = true;
                }
                self.decide(flight, found, &nonce).await;
            }
            Looked::Published(flight, Ok(true)) => self.settled(flight).await,
            Looked::Published(mut flight, Ok(false)) => {
                flight.ambiguous = false;
                self.fly(flight).await;
            }
            Looked::Cancelled(mut flight, Ok(())) => {
                flight.goal = Goal::Publish;
                self.fly(flight).await;
            }
            Looked::Waiting(flight, Err(error))
            | Looked::InTheWay(flight, Err(error))
            | Looked::Published(flight, Err(error))
            | Looked::Cancelled(flight, Err(error)) => self.again(flight, &error.to_string()),
        }
    }

    async fn decide(&mut self, mut flight: Box<Flight>, found: Found, other: &str) {
        if flight.goal == Goal::Buffer && found == Found::Other {
            let reason = "the previous run has not ended, and another fire waits for it";
            return self.pass(flight, Fate::Overlapped, reason.to_owned()).await;
        }
        match step(flight.fire.kind.overlap, found) {
            Step::Done => self.settled(flight).await,
            Step::Publish => self.fly(flight).await,
            Step::Pass => {
                let job = flight.fire.job_id();
                let reason = match other {
                    "" => format!("job `{job}` has not ended"),
                    other => format!("job `{job}` of `{other}` has not ended"),
                };
                self.pass(flight, Fate::Overlapped, reason).await;
            }
            Step::Buffer => {
                flight.goal = Goal::Buffer;
                self.fly(flight).await;
            }
            Step::CancelOther => {
                flight.goal = Goal::Cancel;
                self.fly(flight).await;
            }
        }
    }

    /// A fire's job is stored.
    async fn settled(&mut self, flight: Box<Flight>) {
        let now = clock::now();
        let late = now - flight.fire.due;
        let result = match flight.goal {
            Goal::Buffer => "buffered",
            _ => "published",
        };
        self.metrics.fire(result, 1);
        let seconds = late.to_std().unwrap_or_default().as_secs_f64();
        self.metrics.fire_lateness.observe(seconds);
        if late >= LATE {
            let late = Duration::from_secs(late.num_seconds().unsigned_abs());
            let reason = format!("published {} late", humantime::format_duration(late));
            let entry = ledger::fire(&flight.fire, Fate::Late, reason, now, &self.id);
            self.record(entry, None).await;
        }
        self.release(&flight);
        self.close(flight.ticket);
    }

    /// A fire makes no job.
    async fn pass(&mut self, flight: Box<Flight>, fate: Fate, reason: String) {
        debug!(schedule = %flight.fire.schedule, fire = %flight.fire.at, %fate, reason, "a fire makes no job");
        self.metrics.fire(fate.as_str(), 1);
        self.release(&flight);
        let entry = ledger::fire(&flight.fire, fate, reason, clock::now(), &self.id);
        self.record(entry, Some(flight.ticket)).await;
    }

    /// A fire is tried again after a pause; meanwhile its schedule takes no further ones, so that
    /// they stay in order and do not pile up.
    fn again(&mut self, mut flight: Box<Flight>, reason: &str) {
        self.metrics.publish_errors.inc();
        flight.tries += 1;
        self.tell_trouble(&flight, reason);
        if !flight.holds {
            flight.holds = true;
            self.planner.hold(&flight.fire.schedule);
        }
        if flight.goal == Goal::Cancel {
            flight.goal = Goal::Publish;
        }
        let pause = delayed::pause(flight.tries, PAUSE_MAX);
        self.delayed.push(pause, Item::Fire(flight));
    }

    /// Tells of a fire that could not be published: one for all, where many can't.
    fn tell_trouble(&mut self, flight: &Flight, reason: &str) {
        let schedule = &flight.fire.schedule;
        let is_new = self
            .trouble_told
            .is_none_or(|told| told.elapsed() >= TROUBLE_EVERY);
        if flight.tries < 2 || !is_new {
            return debug!(%schedule, fire = %flight.fire.at, reason, "a fire could not be published yet");
        }
        self.trouble_told = Some(Instant::now());
        warn!(
            %schedule, fire = %flight.fire.at, tries = flight.tries, waiting = self.delayed.len() + 1, reason,
            "a fire could not be published yet; trying again"
        );
    }

    fn release(&mut self, flight: &Flight) {
        if flight.holds {
            self.released.push(flight.fire.schedule.clone());
        }
    }

    fn close(&mut self, ticket: Ticket) {
        self.open.settle(ticket);
        if self.released.is_empty() {
            return;
        }
        // Only when nothing of the schedule is open any more: another fire of it may hold it too.
        let (free, held) = std::mem::take(&mut self.released)
            .into_iter()
            .partition(|schedule| !self.open.has(schedule));
        self.released = held;
        let free: Vec<_> = free;
        for schedule in free {
            self.planner.release(&schedule);
        }
    }

    /// Writes an entry of the ledger; with a ticket, the fire is settled when it is stored.
    async fn record(&mut self, entry: LedgerEntry, ticket: Option<Ticket>) {
        let entry = Entry {
            entry,
            ticket,
            tries: 0,
        };
        self.write_entry(Box::new(entry)).await;
    }

    pub(super) async fn write_entry(&mut self, entry: Box<Entry>) {
        let message = ledger::message(self.client.namespace(), &entry.entry);
        self.pipeline.send(Item::Entry(entry), message).await;
    }

    pub(super) fn entry_answered(&mut self, mut entry: Box<Entry>, answer: Answer) {
        match answer {
            Answer::Stored { .. } | Answer::WrongLast => {
                if let Some(ticket) = entry.ticket {
                    self.close(ticket);
                }
            }
            Answer::Again { .. } | Answer::Final(_) => {
                self.metrics.publish_errors.inc();
                entry.tries += 1;
                if entry.tries >= ENTRY_TRIES_MAX {
                    error!(
                        schedule = %entry.entry.schedule, fire = %entry.entry.fire, fate = %entry.entry.fate, ?answer,
                        "the ledger can't be written; this entry is lost, the schedule goes on"
                    );
                    if let Some(ticket) = entry.ticket {
                        self.close(ticket);
                    }
                    return;
                }
                let pause = delayed::pause(entry.tries, PAUSE_MAX);
                self.delayed.push(pause, Item::Entry(entry));
            }
        }
    }

    /// Sends what waited for its next try.
    pub(super) async fn send_delayed(&mut self, now: Instant) {
        while let Some(item) = self.delayed.pop_due(now) {
            match item {
                Item::Fire(flight) => self.fly(flight).await,
                Item::Entry(entry) => self.write_entry(entry).await,
                Item::Promotion(promotion) => self.read(promotion).await,
            }
        }
    }
}
