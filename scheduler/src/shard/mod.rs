//! One shard: its schedules and later jobs, and the loop that publishes them while it leads.
//!
//! A standby takes in every change and follows the watermark, so that it goes on within moments of
//! getting the lease. All state is the loop's own; lookups run beside it and come back as values.

mod fires;
mod leading;
mod lookup;
mod messages;
mod open;
mod promote;

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use repull::client::{Answer, Client, Pipeline, Requests};
use repull::clock;
use repull::id::{ScheduleId, WorkerId};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use self::fires::{Flight, Looked};
use self::leading::Leading;
use self::open::Open;
use self::promote::{Asked, Promoted, Promotion};
use crate::delayed::Delayed;
use crate::due::{Change, Later, Mark, Planner};
use crate::later::access::Access;
use crate::lease::Tenure;
use crate::metrics::Metrics;
use crate::watermark::{self, WatermarkError};

/// Most publishes that wait for their answer.
const WINDOW: usize = 1_000;

/// Most lookups under way at once.
const LOOKUPS_MAX: usize = 512;

/// Most requests and publishes of later jobs under way at once: more make fires wait behind them.
const LATER_WINDOW: usize = 512;

/// Most fires that wait for another try; with more, nothing new is taken.
const DELAYED_MAX: usize = 5_000;

/// Most decisions taken before the answers are looked at again.
const BATCH: usize = 256;

/// How often the watermark is written, or by a standby read.
const TICK: Duration = Duration::from_secs(1);

/// Later jobs that are overdue by this are no longer a standby's to keep: the leader has queued
/// them, or they are found again by reading the stream when this one takes over.
const STANDBY_KEEPS: chrono::TimeDelta = chrono::TimeDelta::seconds(30);

/// How long a leader that is stopped has to get its publishes confirmed.
const DRAIN: Duration = Duration::from_secs(5);

/// What happens to a shard's schedules and later jobs.
#[derive(Debug)]
pub(crate) enum Input {
    /// A schedule was changed; the bucket's revision.
    Schedule(u64, Change),
    /// The bucket is another one: all schedules come again.
    SchedulesRestarted,
    /// A later job came in.
    Later(DateTime<Utc>, u64),
    /// The stream of later jobs is another one: all of them come again.
    LaterRestarted,
}

/// What is in the pipeline or waits for another try.
#[derive(Debug)]
pub(crate) enum Item {
    Fire(Box<Flight>),
    Entry(Box<fires::Entry>),
    Promotion(Box<Promotion>),
}

/// What ran beside the loop.
#[derive(Debug)]
enum Done {
    Looked(Looked),
    Promoted(Promoted),
    /// The watermark was written, under this revision; or not.
    Marked(Box<watermark::Watermark>, Result<u64, WatermarkError>),
    /// A standby read it.
    Followed(Result<Option<Mark>, WatermarkError>),
    /// Later jobs that were overdue at a change of leader.
    Overdue(Vec<(DateTime<Utc>, u64)>),
}

/// What a shard is made of.
pub(crate) struct Parts {
    pub(crate) client: Client,
    pub(crate) id: WorkerId,
    pub(crate) metrics: Metrics,
    pub(crate) inputs: mpsc::Receiver<Input>,
    pub(crate) tenure: watch::Receiver<Option<Tenure>>,
    /// Told when this shard has left, after the tenure said so.
    pub(crate) left: Arc<Notify>,
    pub(crate) watermark: watermark::Entry,
    /// The mark that is there at the start.
    pub(crate) mark: Mark,
    /// Up to which revision the bucket of schedules has been handed over.
    pub(crate) position: watch::Receiver<u64>,
    /// Which later jobs are this shard's, for reading them again.
    pub(crate) sharding: crate::sharding::Share,
    /// How later jobs are read and removed.
    pub(crate) access: Arc<Access>,
}

/// A shard.
pub(crate) struct Shard {
    client: Client,
    id: WorkerId,
    metrics: Metrics,
    inputs: mpsc::Receiver<Input>,
    tenure: watch::Receiver<Option<Tenure>>,
    left: Arc<Notify>,
    watermark: watermark::Entry,
    position: watch::Receiver<u64>,
    sharding: crate::sharding::Share,
    planner: Planner,
    /// The newest revision of the bucket of schedules that was taken in.
    known: u64,
    later: Later,
    /// Later jobs up to this time were dropped, so that the stream must be read to find what is left
    /// of them. It may be to come: the clock may have been set back since.
    later_dropped: Option<DateTime<Utc>>,
    /// Up to this time later jobs were taken to be queued.
    later_taken: Option<DateTime<Utc>>,
    /// Later jobs that are on their way.
    promoting: HashSet<u64>,
    pipeline: Pipeline<Item>,
    access: Arc<Access>,
    /// Requests to the stream of later jobs.
    asked: Requests<Asked>,
    lookups: JoinSet<Done>,
    delayed: Delayed<Item>,
    open: Open,
    /// Schedules that were held and have nothing stuck any more, but still something open.
    released: Vec<ScheduleId>,
    /// When it was last told that fires can't be published.
    trouble_told: Option<Instant>,
    leading: Option<Leading>,
    /// Whether a standby reads the watermark right now.
    following: bool,
}

impl Shard {
    pub(crate) async fn new(parts: Parts) -> Result<Self, repull::client::Error> {
        Ok(Self {
            pipeline: Pipeline::new(parts.client.clone()).await?,
            access: parts.access,
            asked: Requests::new(parts.client.clone()).await?,
            planner: Planner::new(parts.mark),
            client: parts.client,
            id: parts.id,
            metrics: parts.metrics,
            inputs: parts.inputs,
            tenure: parts.tenure,
            left: parts.left,
            watermark: parts.watermark,
            position: parts.position,
            sharding: parts.sharding,
            known: 0,
            later: Later::default(),
            later_dropped: None,
            later_taken: None,
            promoting: HashSet::new(),
            lookups: JoinSet::new(),
            delayed: Delayed::default(),
            open: Open::default(),
            released: Vec::new(),
            trouble_told: None,
            leading: None,
            following: false,
        })
    }

    /// Runs until stopped; then publishes what it has in hand and writes the last watermark.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut connection = self.client.connection().changes();
        let mut inputs = Vec::with_capacity(BATCH);
        let mut tick_at = Instant::now();
        while !stop.is_cancelled() {
            // Each source gets its turn in every round: under load one of them is always ready.
            if self.tenure.has_changed().unwrap_or(false) {
                self.tenure_changed().await;
            }
            if tick_at <= Instant::now() {
                tick_at = Instant::now() + TICK;
                self.tick();
            }
            self.take_available(&mut inputs).await;
            self.pump().await;
            let wake = self.wake().min(tick_at);
            tokio::select! {
                (item, answer) = self.pipeline.next() => self.answered(item, answer).await,
                (asked, reply) = self.asked.next() => self.later_answered(asked, reply).await,
                Some(done) = self.lookups.join_next() => self.done(done).await,
                count = self.inputs.recv_many(&mut inputs, BATCH), if !self.inputs.is_closed() => {
                    if count > 0 {
                        self.take_in(&mut inputs);
                    }
                }
                Ok(()) = self.tenure.changed() => self.tenure_changed().await,
                Ok(()) = connection.changed() => self.look_at_connection(),
                () = tokio::time::sleep_until(wake.into()) => {}
                () = stop.cancelled() => {}
            }
        }
        if self.leading.is_some() {
            self.drain().await;
            self.step_down("stopping");
        }
    }

    /// Takes what is there of answers, finished lookups and changes.
    async fn take_available(&mut self, inputs: &mut Vec<Input>) {
        if let Some((item, answer)) = self.pipeline.try_next() {
            self.answered(item, answer).await;
        }
        for _ in 0..LATER_WINDOW {
            let Some((asked, reply)) = self.asked.try_next() else {
                break;
            };
            self.later_answered(asked, reply).await;
        }
        for _ in 0..BATCH {
            let Some(done) = self.lookups.try_join_next() else {
                break;
            };
            self.done(done).await;
        }
        while inputs.len() < BATCH {
            let Ok(input) = self.inputs.try_recv() else {
                break;
            };
            inputs.push(input);
        }
        self.take_in(inputs);
    }

    fn take_in(&mut self, inputs: &mut Vec<Input>) {
        if inputs.is_empty() {
            return;
        }
        for input in inputs.drain(..) {
            match input {
                Input::Schedule(revision, change) => {
                    self.open.changed(change.schedule(), revision);
                    self.planner.apply(change);
                    self.known = self.known.max(revision);
                }
                Input::SchedulesRestarted => {
                    self.planner.clear();
                    self.known = 0;
                }
                Input::Later(run_at, sequence) => self.later.push(run_at, sequence),
                Input::LaterRestarted => self.later.clear(),
            }
        }
        self.count();
    }

    fn count(&self) {
        self.sharding.schedules(self.planner.len());
        self.sharding.later(self.later.len() + self.promoting.len());
    }

    /// Takes an answer, and all others that are there already.
    async fn answered(&mut self, item: Item, answer: Answer) {
        let mut next = Some((item, answer));
        while let Some((item, answer)) = next {
            match item {
                Item::Fire(flight) => self.fire_answered(flight, answer).await,
                Item::Entry(entry) => self.entry_answered(entry, answer),
                Item::Promotion(promotion) => self.promotion_answered(promotion, answer).await,
            }
            next = self.pipeline.try_next();
        }
    }

    async fn done(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Looked(looked)) => self.looked(looked).await,
            Ok(Done::Promoted(step)) => self.promoted(step).await,
            Ok(Done::Marked(watermark, written)) => self.marked(*watermark, written),
            Ok(Done::Followed(read)) => self.followed(read),
            Ok(Done::Overdue(jobs)) => {
                self.later_dropped = None;
                for (run_at, sequence) in jobs {
                    self.later.push(run_at, sequence);
                }
            }
            Err(error) if error.is_cancelled() => {}
            // What it had in hand is open for ever: go back to the watermark and begin again.
            Err(error) => {
                error!(%error, "a lookup of the scheduler panicked");
                self.step_down("to begin again after a panic");
            }
        }
    }

    fn look(&mut self, lookup: impl Future<Output = Looked> + Send + 'static) {
        self.lookups
            .spawn(async move { Done::Looked(lookup.await) });
    }

    fn work(&mut self, step: impl Future<Output = Promoted> + Send + 'static) {
        self.lookups
            .spawn(async move { Done::Promoted(step.await) });
    }

    fn look_at_connection(&mut self) {
        self.pipeline.look_at_connection();
        self.asked.look_at_connection();
    }

    fn tick(&mut self) {
        self.look_at_connection();
        let now = clock::now();
        self.sharding.tick(now);
        if self.leading.is_some() {
            self.mark();
            return;
        }
        while let Some((run_at, _)) = self.later.pop_due(now - STANDBY_KEEPS) {
            self.later_dropped = self.later_dropped.max(Some(run_at));
        }
        if !self.following {
            self.following = true;
            let watermark = self.watermark.clone();
            self.lookups.spawn(async move {
                let read = watermark.read().await;
                Done::Followed(read.map(|found| found.map(|(_, found)| found.mark())))
            });
        }
    }

    fn followed(&mut self, read: Result<Option<Mark>, WatermarkError>) {
        self.following = false;
        match read {
            Ok(Some(mark)) if self.leading.is_none() => self.planner.advance(mark),
            Ok(_) => {}
            Err(error) => debug!(%error, "the watermark can't be followed"),
        }
    }

    /// Starts what is due, as far as there is room for it.
    async fn pump(&mut self) {
        let Some(until) = self.acting_until() else {
            return;
        };
        if !self.pipeline.connected() {
            return;
        }
        self.send_delayed(Instant::now()).await;
        let now = clock::now();
        let room = self.room();
        if room > 0 {
            let decisions = self.planner.due(now.min(until), room);
            for decision in decisions {
                self.start(decision).await;
            }
            self.taken(now.min(until));
        }
        let mut room = self.later_room().min(BATCH);
        let handed_over = self.leading.as_ref().map(|leading| leading.since);
        while room > 0
            && let Some((run_at, sequence)) = self.later.pop_due(now)
        {
            room -= 1;
            self.later_taken = self.later_taken.max(Some(run_at));
            self.promote(sequence, handed_over.is_some_and(|since| run_at <= since))
                .await;
        }
    }

    /// How many fires may be taken now.
    fn room(&self) -> usize {
        if self.delayed.len() >= DELAYED_MAX {
            return 0;
        }
        let window = WINDOW.saturating_sub(self.pipeline.in_flight());
        let lookups = LOOKUPS_MAX.saturating_sub(self.lookups.len());
        window.min(lookups).min(BATCH)
    }

    /// How many later jobs may be taken now.
    fn later_room(&self) -> usize {
        let under_way = self.asked.in_flight() + self.pipeline.in_flight() + self.lookups.len();
        LATER_WINDOW.saturating_sub(under_way)
    }

    /// When there is something to do next, but for what comes as an event.
    fn wake(&mut self) -> Instant {
        let now = Instant::now();
        let latest = now + TICK;
        let Some(until) = self.acting_until().filter(|_| self.pipeline.connected()) else {
            return latest;
        };
        let clock = clock::now();
        let instant = |time: DateTime<Utc>| now + (time - clock).to_std().unwrap_or_default();
        let mut wake = latest;
        if let Some(delayed) = self.delayed.next() {
            wake = wake.min(delayed);
        }
        if self.room() > 0
            && let Some(next) = self.planner.next_due().filter(|next| *next <= until)
        {
            wake = wake.min(instant(next));
        }
        if self.later_room() > 0
            && let Some(next) = self.later.next_due()
        {
            wake = wake.min(instant(next));
        }
        wake
    }
}
