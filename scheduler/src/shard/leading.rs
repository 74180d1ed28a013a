//! Beginning to lead, leading, and ceasing to.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use repull::clock;
use repull::topology::Bucket;
use tracing::{debug, info, warn};

use super::{DRAIN, Done, LOOKUPS_MAX, Shard, lookup};
use crate::due::Fire;
use crate::later;
use crate::lease::Tenure;
use crate::watermark::{HORIZON, Watermark, WatermarkError};

/// Most fires that a new leader looks up one by one because the one before may have published them.
/// Beyond that the broker's memory of message ids must do.
const LOOKED_UP_MAX: usize = 100_000;

/// How many of them at once.
const LOOKED_UP_AT_ONCE: usize = 256;

/// How long a new leader waits for the last changes of schedules.
const CATCH_UP: Duration = Duration::from_secs(5);

/// What only a leader has.
#[derive(Debug)]
pub(super) struct Leading {
    tenure: Tenure,
    /// When it began.
    pub(super) since: DateTime<Utc>,
    /// The watermark as it was written last, and its revision.
    watermark: Watermark,
    revision: u64,
    /// All fires due by then were taken from the planner.
    taken: DateTime<Utc>,
    /// Whether a write is under way.
    writing: bool,
    /// Whether the last write failed.
    is_troubled: bool,
}

impl Shard {
    /// Up to when fires may be published now; none where this is not the leader.
    pub(super) fn acting_until(&self) -> Option<DateTime<Utc>> {
        let leading = self.leading.as_ref()?;
        leading.tenure.holds().then_some(leading.watermark.horizon)
    }

    /// Notes that all fires due by `until` were taken, as far as there was room.
    pub(super) fn taken(&mut self, until: DateTime<Utc>) {
        let next = self.planner.next_due();
        if let Some(leading) = &mut self.leading {
            let before_next = next.map(|next| next - chrono::TimeDelta::nanoseconds(1));
            let taken = before_next.map_or(until, |before| before.min(until));
            leading.taken = leading.taken.max(taken);
        }
    }

    pub(super) async fn tenure_changed(&mut self) {
        let tenure = *self.tenure.borrow_and_update();
        match (&mut self.leading, tenure) {
            (Some(_), Some(tenure)) if tenure.leaving => {
                self.drain().await;
                self.step_down("another scheduler shall lead the shard");
                self.left.notify_one();
            }
            // It gives the lease back in a moment.
            (None, Some(tenure)) if tenure.leaving => self.left.notify_one(),
            (Some(leading), Some(tenure)) if leading.tenure.term == tenure.term => {
                leading.tenure = tenure;
            }
            (None, None) => {}
            (leading, tenure) => {
                if leading.is_some() {
                    warn!("the lease is another's or has lapsed");
                    self.step_down("without its lease");
                }
                if let Some(tenure) = tenure {
                    self.take_over(tenure).await;
                }
            }
        }
    }

    /// Begins to lead: reads the watermark from the leader of its stream, claims it, and looks up
    /// what the leader before may have published after writing it.
    async fn take_over(&mut self, tenure: Tenure) {
        let begun = Instant::now();
        match self.try_take_over(tenure).await {
            Ok(leading) => {
                info!(
                    term = tenure.term,
                    schedules = self.planner.len(),
                    later = self.later.len(),
                    up_to = %leading.watermark.up_to,
                    took = ?begun.elapsed(),
                    "took over"
                );
                self.leading = Some(leading);
                self.metrics.leader_changes.inc();
                self.metrics.leader.inc();
                self.read_overdue();
            }
            Err(error) => {
                warn!(%error, "could not take over; standing by");
                self.leading = None;
            }
        }
    }

    async fn try_take_over(&mut self, tenure: Tenure) -> Result<Leading, WatermarkError> {
        self.catch_up().await;
        let now = clock::now();
        let (revision, found) = match self.watermark.read().await? {
            Some(found) => found,
            None => {
                // Somebody removed it: what was due before can't be known.
                warn!("there is no watermark; going on from now");
                self.watermark
                    .create(&self.watermark_at(now, now, tenure))
                    .await?;
                self.watermark
                    .read()
                    .await?
                    .ok_or(WatermarkError::Deposed { key: String::new() })?
            }
        };
        self.planner.go_on_from(found.mark());
        let claim = Watermark {
            // What the one before published lies before its horizon, what we publish before ours.
            horizon: found.horizon.max(now + HORIZON),
            lease_revision: tenure.term,
            writer: self.id.to_string(),
            ..found.clone()
        };
        let revision = self.watermark.write(&claim, revision).await?;
        // Up to the horizon even where that is to come: the clock of the one before may be ahead.
        let suspects = self.planner.open_until(found.horizon, LOOKED_UP_MAX);
        if !suspects.is_empty() {
            info!(
                fires = suspects.len(),
                "looking up what the leader before may have published"
            );
            let published = self.published_of(suspects).await;
            self.planner.settle(published);
        }
        Ok(Leading {
            tenure: (*self.tenure.borrow()).unwrap_or(tenure),
            since: now,
            taken: claim.up_to,
            watermark: claim,
            revision,
            writing: false,
            is_troubled: false,
        })
    }

    /// Takes in all changes of schedules that are stored by now. The leader before us may have
    /// published fires of the newest version, which are found only by looking for them.
    async fn catch_up(&mut self) {
        let stream = Bucket::Schedules.stream(self.client.namespace());
        let last = match self.client.stream_handle(&stream).await {
            Ok(stream) => stream.get_info().await.map(|info| info.state.last_sequence),
            Err(error) => return warn!(%error, "can't tell whether all schedules are known"),
        };
        let Ok(last) = last else {
            return warn!("can't tell whether all schedules are known");
        };
        let mut inputs = Vec::new();
        let deadline = tokio::time::Instant::now() + CATCH_UP;
        loop {
            // In this order: what is handed over by now is in the channel.
            let has_all = *self.position.borrow_and_update() >= last;
            while let Ok(input) = self.inputs.try_recv() {
                inputs.push(input);
            }
            self.take_in(&mut inputs);
            if has_all {
                return;
            }
            tokio::select! {
                Ok(()) = self.position.changed() => {}
                count = self.inputs.recv_many(&mut inputs, super::BATCH) => {
                    if count == 0 {
                        return;
                    }
                }
                () = tokio::time::sleep_until(deadline) => {
                    return warn!(last, "not all changes of schedules have come in time");
                }
            }
        }
    }

    fn watermark_at(&self, up_to: DateTime<Utc>, now: DateTime<Utc>, tenure: Tenure) -> Watermark {
        Watermark {
            up_to,
            horizon: now,
            known: self.known,
            held: std::collections::BTreeMap::new(),
            lease_revision: tenure.term,
            writer: self.id.to_string(),
        }
    }

    async fn published_of(
        &self,
        suspects: Vec<Fire>,
    ) -> Vec<(repull::id::ScheduleId, DateTime<Utc>)> {
        stream::iter(suspects)
            .map(|fire| async move {
                let was = lookup::was_published_surely(&self.client, &fire).await;
                was.then_some((fire.schedule, fire.at))
            })
            .buffer_unordered(LOOKED_UP_AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await
    }

    /// Finds later jobs that are overdue and that this standby had dropped: they are left only
    /// where the leader before did not get round to them.
    fn read_overdue(&mut self) {
        // Not forgotten before they are found: this leader may step down in the middle of it.
        let Some(until) = self.later_dropped else {
            return;
        };
        let (client, sharding) = (self.client.clone(), self.sharding.clone());
        self.lookups
            .spawn(async move { Done::Overdue(later::overdue(&client, &sharding, until).await) });
    }

    /// Ceases to lead: what is in hand is the successor's to settle.
    pub(super) fn step_down(&mut self, why: &str) {
        let Some(leading) = self.leading.take() else {
            return;
        };
        info!(term = leading.tenure.term, why, "stepping down");
        self.metrics.leader.dec();
        self.metrics.leader_changes.inc();
        self.pipeline.abandon();
        self.asked.abandon();
        // Dropping it ends those under way, and what they would have said is void.
        self.lookups = tokio::task::JoinSet::new();
        self.following = false;
        self.delayed.take_all().for_each(drop);
        self.open.clear();
        self.released.clear();
        // Those that were on their way are found again by reading the stream.
        if !self.promoting.is_empty() {
            self.later_dropped = self.later_dropped.max(self.later_taken);
        }
        self.promoting.clear();
        self.planner.reset(leading.watermark.mark());
        self.sharding.watermark(None);
    }

    /// Writes the watermark, as far as fires are settled.
    pub(super) fn mark(&mut self) {
        let Some(leading) = &mut self.leading else {
            return;
        };
        if !leading.tenure.holds() {
            warn!("the lease could not be renewed in time");
            return self.step_down("without its lease");
        }
        if std::mem::replace(&mut leading.writing, true) {
            return;
        }
        let watermark = self.next_watermark();
        let (Some(watermark), Some(leading)) = (watermark, &self.leading) else {
            return;
        };
        let (entry, revision) = (self.watermark.clone(), leading.revision);
        self.lookups.spawn(async move {
            let written = entry.write(&watermark, revision).await;
            Done::Marked(Box::new(watermark), written)
        });
    }

    fn next_watermark(&mut self) -> Option<Watermark> {
        let next = self.planner.next_due();
        let leading = self.leading.as_ref()?;
        let before_next = next.map(|next| next - chrono::TimeDelta::nanoseconds(1));
        let taken = before_next.map_or(leading.taken, |before| before.min(leading.taken));
        let before = &leading.watermark;
        let planner = &self.planner;
        let next_of = |schedule: &repull::id::ScheduleId| planner.next_due_of(schedule);
        let mark = self.open.mark(&before.mark(), taken, self.known, next_of);
        Some(Watermark {
            up_to: mark.up_to,
            horizon: before.horizon.max(clock::now() + HORIZON),
            known: mark.known,
            held: mark.held,
            lease_revision: leading.tenure.term,
            writer: self.id.to_string(),
        })
    }

    pub(super) fn marked(&mut self, watermark: Watermark, written: Result<u64, WatermarkError>) {
        let Some(leading) = &mut self.leading else {
            return;
        };
        leading.writing = false;
        match written {
            Ok(revision) => {
                leading.revision = revision;
                if std::mem::take(&mut leading.is_troubled) {
                    info!("the watermark is written again");
                }
                self.sharding.watermark(Some(watermark.up_to));
                self.planner.advance(watermark.mark());
                leading.watermark = watermark;
            }
            Err(error @ WatermarkError::Deposed { .. }) => self.step_down(&error.to_string()),
            Err(error) if leading.is_troubled => {
                debug!(%error, "the watermark could not be written yet");
            }
            Err(error) => {
                leading.is_troubled = true;
                warn!(%error, "the watermark could not be written; trying again");
            }
        }
    }

    /// Gets confirmed what is in flight, and writes a watermark that leaves nothing open: a
    /// successor goes on from there without looking anything up.
    pub(super) async fn drain(&mut self) {
        let deadline = tokio::time::Instant::now() + DRAIN;
        while self.open.len() + self.promoting.len() + self.lookups.len() > 0 {
            self.send_delayed(Instant::now()).await;
            let wake = self
                .delayed
                .next()
                .map_or(deadline, |next| deadline.min(next.into()));
            tokio::select! {
                (item, answer) = self.pipeline.next() => self.answered(item, answer).await,
                (asked, reply) = self.asked.next() => self.later_answered(asked, reply).await,
                Some(done) = self.lookups.join_next() => self.done(done).await,
                () = tokio::time::sleep_until(wake) => {
                    if tokio::time::Instant::now() >= deadline {
                        break;
                    }
                }
            }
            // Later jobs that are held back by another of their id are not waited for.
            let under_way = self.pipeline.in_flight() + self.asked.in_flight() + self.lookups.len();
            if self.open.len() == 0 && under_way == 0 {
                break;
            }
        }
        let Some(mut watermark) = self.next_watermark() else {
            return;
        };
        if self.open.len() == 0 {
            watermark.horizon = watermark.up_to;
        }
        if let Some(leading) = &mut self.leading {
            let written = self.watermark.write(&watermark, leading.revision);
            match tokio::time::timeout(DRAIN, written).await {
                Ok(Ok(_)) => {
                    info!(up_to = %watermark.up_to, "wrote the last watermark");
                    leading.watermark = watermark;
                }
                Ok(Err(error)) => warn!(%error, "the last watermark was not written"),
                Err(_) => warn!("the last watermark was not written in time"),
            }
        }
    }
}

const _: () = assert!(LOOKED_UP_AT_ONCE <= LOOKUPS_MAX);
