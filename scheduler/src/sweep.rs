//! Finds messages in the work queue that no worker will ever get.
//!
//! Two kinds: those on a subject that no queue's consumer can match, which are moved to the dead
//! jobs with what is wrong with them; and orphans, which match a consumer that has lost track of
//! them (a fault of the server's). An orphan whose job is done was acked and not removed (nats-server
//! 2.12.12 does so now and then when the leader of a replicated work queue is killed) and is deleted;
//! the others come back when the consumer is made anew.

use std::collections::BTreeMap;

use async_nats::HeaderMap;
use async_nats::jetstream::message::StreamMessage;
use chrono::SecondsFormat;
use futures_util::TryStreamExt;
use repull::client::{Client, Error, Expect, Message};
use repull::clock;
use repull::id::Lane;
use repull::topology::Topology;
use repull::wire::{self, Place, headers};
use tracing::{error, info, warn};

use crate::metrics::{Metrics, QueueLabels};

/// Most malformed messages that one sweep moves.
const MOVED_MAX: usize = 1_000;

/// Most orphans of a queue that are looked at one by one.
const EXAMINED_MAX: u64 = 100_000;

/// How many sweeps in a row must find the counts apart before subjects are listed.
const APART_MIN: u32 = 3;

/// How many listings in a row must find the same orphans before the consumer is made anew.
const ORPHANED_MIN: u32 = 3;

/// The queue of dead messages whose own names none.
const NO_QUEUE: &str = "malformed";

/// The sweep and what it remembers from one time to the next.
pub(crate) struct Sweep {
    client: Client,
    topology: Topology,
    metrics: Metrics,
    /// For how many sweeps the stream has held more than its consumers know of.
    apart: u32,
    /// Orphans by lane: for how many listings, and the consumer's last delivery then.
    orphaned: BTreeMap<Lane, (u32, u64)>,
}

impl Sweep {
    pub(crate) fn new(client: Client, topology: Topology, metrics: Metrics) -> Self {
        Self {
            client,
            topology,
            metrics,
            apart: 0,
            orphaned: BTreeMap::new(),
        }
    }

    /// Sweeps once.
    pub(crate) async fn sweep(&mut self) {
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
        for _ in 0..MOVED_MAX {
            let Some(found) = self.client.next_message(&stream, filter, 1).await? else {
                return Ok(());
            };
            self.client.publish(&self.dead(&found, reason)).await?;
            let deleted = self.client.stream_handle(&stream).await?;
            deleted
                .delete_message(found.sequence)
                .await
                .map_err(|error| {
                    self.client.failed(
                        format!("delete message {} of `{stream}`", found.sequence),
                        error,
                    )
                })?;
            error!(subject = %found.subject, sequence = found.sequence, reason, "moved a message to the dead jobs");
        }
        Ok(())
    }

    /// The message as a dead one, in the form in which workers bury what they can't read.
    fn dead(&self, found: &StreamMessage, reason: &str) -> Message {
        let namespace = self.client.namespace();
        let mut dead_headers = HeaderMap::new();
        for (name, values) in found.headers.iter() {
            let text: &str = name.as_ref();
            if !text.starts_with(headers::SERVER_PREFIX) {
                for value in values {
                    dead_headers.append(name.clone(), value.clone());
                }
            }
        }
        let died_at = clock::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        dead_headers.insert(headers::REASON, reason);
        dead_headers.insert(headers::DIED_AT, died_at);
        dead_headers.insert(headers::FOUND_ON, found.subject.as_str());
        let token = found.subject.split('.').nth(2).unwrap_or_default();
        let lane = token
            .parse::<Lane>()
            .map_or(NO_QUEUE.to_owned(), |lane| lane.to_string());
        Message {
            subject: format!(
                "{namespace}.{}.{lane}.undecodable.{}",
                Place::Dead.token(),
                found.sequence
            ),
            headers: dead_headers,
            body: found.payload.clone(),
            id: format!("dead:{}", found.sequence),
            expect: Expect::Anything,
        }
    }

    /// Compares how many messages the stream has with what its consumers know of. Subjects are
    /// listed, which is not cheap, only where the two stay apart.
    async fn look_for_orphans(&mut self) -> Result<(), Error> {
        let name = Place::Jobs.stream(self.client.namespace());
        // The stream first: what comes in between is then known to a consumer and not to us.
        let info = self
            .client
            .stream_handle(&name)
            .await?
            .get_info()
            .await
            .map_err(|error| {
                self.client
                    .failed(format!("look up stream `{name}`"), error)
            })?;
        let consumers = self.client.lane_consumers().await?;
        let known: u64 = consumers
            .values()
            .map(|info| info.num_pending + info.num_ack_pending as u64)
            .sum();
        if info.state.messages <= known {
            self.apart = 0;
            self.forget_orphans(&[]);
            return Ok(());
        }
        self.apart += 1;
        if self.apart < APART_MIN {
            return Ok(());
        }
        let counts = self.count_by_lane(&name).await?;
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
            let known = info.num_pending + info.num_ack_pending as u64;
            if count > known {
                orphaned.push(lane.clone());
                self.orphans_found(lane, count - known, info).await?;
            }
        }
        self.forget_orphans(&orphaned);
        Ok(())
    }

    async fn count_by_lane(&self, name: &str) -> Result<BTreeMap<String, u64>, Error> {
        let filter = Place::Jobs.wildcard(self.client.namespace());
        let failed = |error: &dyn std::fmt::Display| {
            self.client
                .failed(format!("list the subjects of stream `{name}`"), error)
        };
        let mut subjects = self
            .client
            .stream_handle(name)
            .await?
            .info_with_subjects(&filter)
            .await
            .map_err(|error| failed(&error))?;
        let mut counts = BTreeMap::new();
        while let Some((subject, count)) =
            subjects.try_next().await.map_err(|error| failed(&error))?
        {
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
