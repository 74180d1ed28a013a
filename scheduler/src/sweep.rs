//! Finds messages in the work queue that no worker will ever get.
//!
//! Three kinds: those on a subject that no queue's consumer can match, and those that end the
//! connection of whoever is sent them, which are moved to the dead jobs with what is wrong with them;
//! and orphans, which match a consumer that has lost track of
//! them (a fault of the server's). An orphan whose job is done was acked and not removed (nats-server
//! 2.12.12 does so now and then when the leader of a replicated work queue is killed) and is deleted;
//! the others come back when the consumer is made anew.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use repull::client::{Client, Covered, Error};
use repull::id::Lane;
use repull::topology::Topology;
use repull::wire::{self, Place};
use tracing::{error, info, warn};

use crate::metrics::{Metrics, QueueLabels};
use crate::unreadable::{Found, bury};

/// Most malformed messages that one sweep moves.
const MOVED_MAX: usize = 1_000;

/// Most orphans of a queue that are looked at one by one.
const EXAMINED_MAX: u64 = 100_000;

/// How many sweeps in a row must find the counts apart before subjects are listed.
const APART_MIN: u32 = 3;

/// After how long subjects are listed again where no orphans were found: the jobs that no consumer knows
/// of wait on a queue that nobody serves.
const LISTED_AGAIN: Duration = Duration::from_secs(300);

/// How many listings in a row must find the same orphans before the consumer is made anew.
const ORPHANED_MIN: u32 = 3;

/// Most bytes of a lane's messages that one sweep looks at for what can't be read, and what each
/// counts for at least: together some two thousand messages.
const LOOKED_AT_BYTES_MAX: usize = 16 << 20;
const LOOKED_AT_BYTES_MIN: usize = 8 << 10;

/// The sweep and what it remembers from one time to the next.
pub(crate) struct Sweep {
    client: Client,
    topology: Topology,
    metrics: Metrics,
    /// For how many sweeps the stream has held more than its consumers know of.
    apart: u32,
    /// When subjects were last listed, where that told of no orphans.
    listed: Option<Instant>,
    /// Orphans by lane: for how many listings, and the consumer's last delivery then.
    orphaned: BTreeMap<Lane, (u32, u64)>,
    /// Up to where a lane was looked at for what can't be read, where that did not end.
    looked_to: BTreeMap<Lane, u64>,
}

impl Sweep {
    pub(crate) fn new(client: Client, topology: Topology, metrics: Metrics) -> Self {
        Self {
            client,
            topology,
            metrics,
            apart: 0,
            listed: None,
            orphaned: BTreeMap::new(),
            looked_to: BTreeMap::new(),
        }
    }

    /// Sweeps once.
    pub(crate) async fn sweep(&mut self) {
        // Where it is there already, the server stores no other.
        self.topology.ensure_pin(self.client.connection()).await;
        // One token after `jobs` is no job's subject, and no consumer's filter matches it.
        let filter = format!("{}.{}.*", self.client.namespace(), Place::Jobs.token());
        let reason = "its subject names no job, expected `<namespace>.jobs.<queue>.<task>.<id>`";
        if let Err(error) = self.move_to_dead(&filter, reason).await {
            warn!(%error, "malformed messages in the work queue can't be moved");
        }
        if let Err(error) = self.look_for_orphans().await {
            warn!(%error, "can't look for orphans");
        }
    }

    async fn move_to_dead(&self, filter: &str, reason: &str) -> Result<(), Error> {
        let stream = Place::Jobs.stream(self.client.namespace());
        let pin = Topology::pin_subject(self.client.namespace());
        let mut from = 1;
        for _ in 0..MOVED_MAX {
            let Some(found) = self.client.next_message(&stream, filter, from).await? else {
                return Ok(());
            };
            from = found.sequence + 1;
            if found.subject.as_str() == pin {
                continue;
            }
            bury(&self.client, &stream, Found::message(&found, reason)).await?;
        }
        Ok(())
    }

    /// Moves to the dead what no worker can be sent. That is found where messages have been delivered
    /// more than once: the first delivery of such a message ends the connection.
    async fn look_for_unreadable(
        &mut self,
        lane: &Lane,
        info: &async_nats::jetstream::consumer::Info,
    ) -> Result<(), Error> {
        if info.num_redelivered == 0 {
            self.looked_to.remove(lane);
            return Ok(());
        }
        let stream = Place::Jobs.stream(self.client.namespace());
        let filter = Place::Jobs.lane_wildcard(self.client.namespace(), lane);
        let first = info.ack_floor.stream_sequence + 1;
        let mut from = self.looked_to.remove(lane).unwrap_or(first).max(first);
        let mut bytes = 0;
        while from <= info.delivered.stream_sequence {
            if bytes >= LOOKED_AT_BYTES_MAX {
                // The rest the next time, and then from the start again.
                self.looked_to.insert(lane.clone(), from);
                return Ok(());
            }
            let Some(found) = self.client.stored_from(&stream, &filter, from).await? else {
                return Ok(());
            };
            from = found.sequence + 1;
            bytes += LOOKED_AT_BYTES_MIN + found.body.len();
            if let Some(found) = Found::unreadable(&found, Place::Jobs) {
                bury(&self.client, &stream, found).await?;
            }
        }
        Ok(())
    }

    /// Compares how many messages the stream has with what its consumers know of. Subjects are
    /// listed, which is not cheap, only where the two stay apart.
    async fn look_for_orphans(&mut self) -> Result<(), Error> {
        let consumers = self.client.lane_consumers().await?;
        let missing = self.client.missing_messages(&consumers).await?;
        for (lane, info) in &consumers {
            self.look_for_unreadable(lane, info).await?;
        }
        if missing == 0 {
            self.apart = 0;
            self.listed = None;
            self.forget_orphans(&[]);
            return Ok(());
        }
        self.apart += 1;
        if self.apart < APART_MIN || self.listed.is_some_and(|at| at.elapsed() < LISTED_AGAIN) {
            return Ok(());
        }
        let earlier = self.client.lane_consumers().await?;
        let counts = self.count_by_lane().await?;
        let consumers = self.client.lane_consumers().await?;
        let mut orphaned = Vec::new();
        for (token, count) in counts {
            let Ok(lane) = token.parse::<Lane>() else {
                let filter = format!(
                    "{}.{}.{token}.>",
                    self.client.namespace(),
                    Place::Jobs.token()
                );
                let reason = format!(
                    "`{token}` is not a queue, expected a name of A-Z a-z 0-9 _ -, or with `~high` or `~low`"
                );
                self.move_to_dead(&filter, &reason).await?;
                continue;
            };
            // A queue without a consumer is one that nobody has served yet.
            let Some(info) = consumers.get(&lane) else {
                continue;
            };
            let missing = Covered::by([info]).missing(count, Covered::by(earlier.get(&lane)));
            if missing > 0 {
                orphaned.push(lane.clone());
                self.orphans_found(lane, missing, info).await?;
            }
        }
        self.listed = orphaned.is_empty().then(Instant::now);
        self.forget_orphans(&orphaned);
        Ok(())
    }

    async fn count_by_lane(&self) -> Result<BTreeMap<String, u64>, Error> {
        let name = Place::Jobs.stream(self.client.namespace());
        let filter = Place::Jobs.wildcard(self.client.namespace());
        let failed = |error: &dyn std::fmt::Display| {
            self.client
                .failed(format!("list the subjects of stream `{name}`"), error)
        };
        let mut subjects = self
            .client
            .stream_handle(&name)
            .await?
            .info_with_subjects(&filter)
            .await
            .map_err(|error| failed(&error))?;
        let pin = Topology::pin_subject(self.client.namespace());
        let mut counts = BTreeMap::new();
        while let Some((subject, count)) =
            subjects.try_next().await.map_err(|error| failed(&error))?
        {
            if subject == pin {
                continue;
            }
            let token = subject.split('.').nth(2).unwrap_or_default().to_owned();
            *counts.entry(token).or_default() += count as u64;
        }
        Ok(counts)
    }

    fn forget_orphans(&mut self, but: &[Lane]) {
        let metrics = &self.metrics;
        self.orphaned.retain(|lane, _| {
            let stays = but.contains(lane);
            if !stays {
                let queue = lane.to_string();
                metrics
                    .queues
                    .orphans
                    .get_or_create(&QueueLabels { queue })
                    .set(0);
            }
            stays
        });
    }

    /// Orphans stay in the metric; the consumer is made anew only where nothing moves at all, since
    /// jobs that run are delivered again by that.
    async fn orphans_found(
        &mut self,
        lane: Lane,
        count: u64,
        info: &async_nats::jetstream::consumer::Info,
    ) -> Result<(), Error> {
        let queue = lane.to_string();
        let orphans = i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics
            .queues
            .orphans
            .get_or_create(&QueueLabels { queue })
            .set(orphans);
        let delivered = info.delivered.consumer_sequence;
        let is_idle = info.num_pending == 0 && info.num_ack_pending == 0;
        let seen = self.orphaned.entry(lane.clone()).or_insert((0, delivered));
        match is_idle && seen.1 == delivered {
            true => seen.0 += 1,
            false => *seen = (1, delivered),
        }
        warn!(queue = %lane, orphans = count, listings = seen.0, "the queue's consumer does not know of all its jobs");
        if seen.0 < ORPHANED_MIN || !is_idle {
            return Ok(());
        }
        self.orphaned.remove(&lane);
        // Made anew, the consumer delivers all that the stream has, done or not.
        let deleted = self.delete_done(&lane).await?;
        if deleted > 0 {
            warn!(queue = %lane, deleted, "deleted messages of jobs that are done; the server had kept them");
        }
        match deleted < count {
            true => self.make_anew(&lane, info).await,
            false => Ok(()),
        }
    }

    /// Deletes the messages of a lane whose jobs are done, and answers how many there were.
    async fn delete_done(&self, lane: &Lane) -> Result<u64, Error> {
        let namespace = self.client.namespace();
        let stream = Place::Jobs.stream(namespace);
        let filter = Place::Jobs.lane_wildcard(namespace, lane);
        let handle = self.client.stream_handle(&stream).await?;
        let (mut deleted, mut next) = (0, 1);
        for _ in 0..EXAMINED_MAX {
            let Some(found) = self.client.next_message(&stream, &filter, next).await? else {
                break;
            };
            next = found.sequence + 1;
            let job = wire::decode(
                namespace,
                Place::Jobs,
                &found.subject,
                Some(&found.headers),
                found.payload.clone(),
            );
            // What can't be read is a worker's to bury.
            let Ok(job) = job else { continue };
            if self.client.is_superseded(&job, found.sequence).await? {
                let deletion = handle.delete_message(found.sequence).await;
                deletion.map_err(|error| {
                    let what = format!("delete message {} of `{stream}`", found.sequence);
                    self.client.failed(what, error)
                })?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    async fn make_anew(
        &self,
        lane: &Lane,
        info: &async_nats::jetstream::consumer::Info,
    ) -> Result<(), Error> {
        let stream = Place::Jobs.stream(self.client.namespace());
        error!(queue = %lane, "making the queue's consumer anew: it has lost track of jobs and delivers nothing");
        self.client
            .stream_handle(&stream)
            .await?
            .delete_consumer(&lane.to_string())
            .await
            .map_err(|error| {
                self.client
                    .failed(format!("delete consumer `{lane}`"), error)
            })?;
        let limit = u32::try_from(info.config.max_ack_pending).ok();
        self.topology
            .ensure_consumer(self.client.connection(), lane, limit)
            .await?;
        info!(queue = %lane, "made the queue's consumer anew");
        Ok(())
    }
}
