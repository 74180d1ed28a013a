//! Queues: how full they are, who works on them, and what is set for them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use async_nats::jetstream::consumer::{self, DeliverPolicy};
use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use serde::Serialize;

use super::jobs::lanes_of;
use super::scan::Scan;
use super::{Client, Error};
use crate::beacon::Beacon;
use crate::clock;
use crate::id::{Lane, Priority, QueueName};
use crate::queue::{Pause, QueueSettings};
use crate::topology::{Bucket, MAX_ACK_PENDING_DEFAULT};
use crate::wire::{Address, Place};

/// What is to be seen of a queue.
#[derive(Debug, Clone, Serialize)]
pub struct QueueView {
    /// Its name.
    pub name: QueueName,
    /// Jobs that wait for a worker.
    pub ready: u64,
    /// Jobs that a worker has.
    pub running: u64,
    /// Jobs that wait for a time.
    pub later: u64,
    /// Jobs that were given up.
    pub dead: u64,
    /// Open pulls of its workers.
    pub waiting_pulls: u64,
    /// Live workers that serve it.
    pub workers: u64,
    /// Their slots in all; a worker shares its slots among its queues.
    pub slots: u64,
    /// Their slots with a running job of whatever queue.
    pub slots_running: u64,
    /// Its lanes that have a consumer or jobs.
    pub lanes: Vec<LaneView>,
    /// What is set for it.
    pub settings: QueueSettings,
}

/// What is to be seen of one lane.
#[derive(Debug, Clone, Serialize)]
pub struct LaneView {
    /// The lane.
    #[serde(serialize_with = "as_text")]
    pub lane: Lane,
    /// Jobs that wait for a worker.
    pub ready: u64,
    /// Jobs that wait for a time.
    pub later: u64,
    /// Jobs that were given up.
    pub dead: u64,
    /// Its consumer; none until a scheduler or a worker has made it.
    pub consumer: Option<ConsumerView>,
}

/// What the server says of a lane's consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConsumerView {
    /// Jobs delivered and not acked.
    pub ack_pending: u64,
    /// The most of them at once.
    pub ack_pending_max: i64,
    /// Open pulls.
    pub waiting_pulls: u64,
    /// The most of them.
    pub waiting_pulls_max: i64,
    /// Jobs that were delivered more than once and are not acked.
    pub redelivered: u64,
    /// The lease of a running job, in seconds.
    #[serde(serialize_with = "as_seconds")]
    pub ack_wait: Duration,
    /// The last stream sequence that was delivered.
    pub delivered: u64,
    /// Deliveries in all since it was made.
    pub deliveries: u64,
    /// The server that leads it, in a cluster.
    pub leader: Option<String>,
}

fn as_text<S: serde::Serializer>(lane: &Lane, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(lane)
}

fn as_seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

impl From<&consumer::Info> for ConsumerView {
    fn from(info: &consumer::Info) -> Self {
        Self {
            ack_pending: info.num_ack_pending as u64,
            ack_pending_max: info.config.max_ack_pending,
            waiting_pulls: info.num_waiting as u64,
            waiting_pulls_max: info.config.max_waiting,
            redelivered: info.num_redelivered as u64,
            ack_wait: info.config.ack_wait,
            delivered: info.delivered.stream_sequence,
            deliveries: info.delivered.consumer_sequence,
            leader: info
                .cluster
                .as_ref()
                .and_then(|cluster| cluster.leader.clone()),
        }
    }
}

impl Client {
    /// All queues that have a consumer, a worker, settings or jobs.
    pub async fn queues(&self) -> Result<Vec<QueueView>, Error> {
        let consumers = self.lane_consumers().await?;
        let settings = self.all_queue_settings().await?;
        let beacons = self.workers().await?;
        let mut names: BTreeSet<QueueName> = settings.keys().cloned().collect();
        names.extend(consumers.keys().map(|lane| lane.queue.clone()));
        for lane in beacons.iter().flat_map(|beacon| &beacon.lanes) {
            names.extend(lane.parse::<Lane>().map(|lane| lane.queue));
        }
        names.extend(self.queues_without_consumer(&consumers).await?);
        let views = names.into_iter().map(|name| {
            let settings = settings.get(&name).cloned().unwrap_or_default();
            self.queue_of(name, settings, &consumers, &beacons)
        });
        try_join_all(views).await
    }

    /// One queue; one that nobody has used yet is empty, not absent.
    pub async fn queue(&self, name: &QueueName) -> Result<QueueView, Error> {
        let mut consumers = BTreeMap::new();
        for lane in lanes_of(name) {
            if let Some(info) = self.lane_info(&lane).await? {
                consumers.insert(lane, info);
            }
        }
        let settings = self.queue_settings(name).await?;
        let beacons = self.workers().await?;
        self.queue_of(name.clone(), settings, &consumers, &beacons)
            .await
    }

    /// What is set for a queue.
    pub async fn queue_settings(&self, name: &QueueName) -> Result<QueueSettings, Error> {
        match self.read_entry(Bucket::Queues, name.as_str()).await? {
            Some(entry) => read_settings(name, &entry.value),
            None => Ok(QueueSettings::default()),
        }
    }

    /// Stops all workers from starting jobs of this queue.
    pub async fn pause_queue(&self, name: &QueueName, by: &str, reason: &str) -> Result<(), Error> {
        let pause = Pause {
            by: by.to_owned(),
            reason: reason.to_owned(),
            at: clock::now(),
        };
        self.change_queue(name, |settings| settings.paused = Some(pause.clone()))
            .await
    }

    /// Lets workers start jobs of this queue again. Answers whether it was paused.
    pub async fn resume_queue(&self, name: &QueueName) -> Result<bool, Error> {
        let mut was_paused = false;
        self.change_queue(name, |settings| {
            was_paused = settings.paused.take().is_some();
        })
        .await?;
        Ok(was_paused)
    }

    /// Sets how many jobs of this queue may run at once over all workers; none: no limit.
    ///
    /// The broker keeps the limit, per lane: it is stored for consumers yet to be made, and set on
    /// those that are there.
    pub async fn limit_queue(&self, name: &QueueName, limit: Option<u32>) -> Result<(), Error> {
        if limit == Some(0) {
            return Err(Error::Invalid(
                "limit is 0, expected at least 1; to stop a queue, pause it".to_owned(),
            ));
        }
        self.change_queue(name, |settings| settings.limit = limit)
            .await?;
        let ack_pending_max = i64::from(limit.unwrap_or(MAX_ACK_PENDING_DEFAULT));
        let stream = self
            .stream_handle(&Place::Jobs.stream(self.namespace()))
            .await?;
        for lane in lanes_of(name) {
            let Some(info) = self.lane_info(&lane).await? else {
                continue;
            };
            if info.config.max_ack_pending == ack_pending_max {
                continue;
            }
            let mut config = info.config;
            config.max_ack_pending = ack_pending_max;
            stream
                .update_consumer(config)
                .await
                .map_err(|error| self.failed(format!("limit consumer `{lane}`"), error))?;
        }
        Ok(())
    }

    /// Changes a queue's settings; unchanged ones are not written.
    pub async fn change_queue(
        &self,
        name: &QueueName,
        mut change: impl FnMut(&mut QueueSettings),
    ) -> Result<(), Error> {
        self.change_entry(Bucket::Queues, "queue", name.as_str(), |entry| {
            let before = match entry {
                Some(entry) => read_settings(name, &entry.value)?,
                None => QueueSettings::default(),
            };
            let mut after = before.clone();
            change(&mut after);
            if before == after {
                return Ok(None);
            }
            let json = serde_json::to_vec(&after)
                .map_err(|error| Error::Invalid(format!("queue `{name}`: {error}")))?;
            Ok(Some(Bytes::from(json)))
        })
        .await
    }

    /// What the server says of all lanes' consumers.
    pub async fn lane_consumers(&self) -> Result<BTreeMap<Lane, consumer::Info>, Error> {
        let name = Place::Jobs.stream(self.namespace());
        let what = || format!("list the consumers of stream `{name}`");
        let stream = self.stream_handle(&name).await?;
        let mut list = stream.consumers();
        let mut consumers = BTreeMap::new();
        while let Some(info) = list
            .try_next()
            .await
            .map_err(|error| self.failed(what(), error))?
        {
            // Somebody else's consumer is none of ours.
            if let Ok(lane) = info.name.parse::<Lane>() {
                consumers.insert(lane, info);
            }
        }
        Ok(consumers)
    }

    async fn all_queue_settings(&self) -> Result<BTreeMap<QueueName, QueueSettings>, Error> {
        let prefix = format!("$KV.{}.", Bucket::Queues.name(self.namespace()));
        let mut all = BTreeMap::new();
        let scan = Scan {
            stream: Bucket::Queues.stream(self.namespace()),
            filter: format!("{prefix}>"),
            from: DeliverPolicy::LastPerSubject,
            headers_only: false,
        };
        self.scan(scan, |entry| {
            let name = entry.subject.strip_prefix(&prefix).map(QueueName::new);
            // A tombstone has an empty body; settings that can't be read are shown as the default.
            if let Some(Ok(name)) = name
                && !entry.body.is_empty()
            {
                let settings = read_settings(&name, &entry.body).unwrap_or_default();
                all.insert(name, settings);
            }
            ControlFlow::Continue(())
        })
        .await?;
        Ok(all)
    }

    /// Queues with jobs in the work queue and no consumer that could deliver them. The subjects are
    /// listed only where the counts do not add up.
    async fn queues_without_consumer(
        &self,
        consumers: &BTreeMap<Lane, consumer::Info>,
    ) -> Result<BTreeSet<QueueName>, Error> {
        if self.missing_messages(consumers).await? == 0 {
            return Ok(BTreeSet::new());
        }
        let name = Place::Jobs.stream(self.namespace());
        let filter = Place::Jobs.wildcard(self.namespace());
        let subjects = self.subjects(&name, &filter).await?;
        let lanes = subjects.iter().filter_map(|(subject, _)| {
            Some(
                Address::parse(self.namespace(), Place::Jobs, subject)
                    .ok()?
                    .lane
                    .queue,
            )
        });
        Ok(lanes.collect())
    }

    async fn queue_of(
        &self,
        name: QueueName,
        settings: QueueSettings,
        consumers: &BTreeMap<Lane, consumer::Info>,
        beacons: &[Beacon],
    ) -> Result<QueueView, Error> {
        let lanes = lanes_of(&name).map(|lane| {
            let info = consumers.get(&lane);
            self.lane_of(lane, info)
        });
        let mut lanes = try_join_all(lanes).await?;
        lanes.retain(|lane| {
            let is_empty = lane.consumer.is_none() && lane.ready + lane.later + lane.dead == 0;
            lane.lane.priority == Priority::Normal || !is_empty
        });
        let serving = beacons
            .iter()
            .filter(|beacon| lanes_of(&name).iter().any(|lane| beacon.serves(lane)));
        let (mut workers, mut slots, mut slots_running) = (0, 0, 0);
        for beacon in serving {
            workers += 1;
            slots += u64::from(beacon.slots);
            slots_running += u64::from(beacon.running);
        }
        let consumer = |get: fn(&ConsumerView) -> u64| -> u64 {
            lanes
                .iter()
                .filter_map(|lane| lane.consumer.as_ref())
                .map(get)
                .sum()
        };
        Ok(QueueView {
            ready: lanes.iter().map(|lane| lane.ready).sum(),
            running: consumer(|consumer| consumer.ack_pending),
            later: lanes.iter().map(|lane| lane.later).sum(),
            dead: lanes.iter().map(|lane| lane.dead).sum(),
            waiting_pulls: consumer(|consumer| consumer.waiting_pulls),
            name,
            workers,
            slots,
            slots_running,
            lanes,
            settings,
        })
    }

    async fn lane_of(&self, lane: Lane, info: Option<&consumer::Info>) -> Result<LaneView, Error> {
        let count = |place: Place| {
            let filter = place.lane_wildcard(self.namespace(), &lane);
            async move {
                self.count_subjects(&place.stream(self.namespace()), &filter)
                    .await
            }
        };
        let (later, dead) = (count(Place::Later).await?, count(Place::Dead).await?);
        let ready = match info {
            Some(info) => info.num_pending,
            None => count(Place::Jobs).await?,
        };
        Ok(LaneView {
            ready,
            later,
            dead,
            consumer: info.map(ConsumerView::from),
            lane,
        })
    }
}

fn read_settings(name: &QueueName, json: &[u8]) -> Result<QueueSettings, Error> {
    serde_json::from_slice(json).map_err(|error| {
        Error::Invalid(format!("settings of queue `{name}` can't be read: {error}"))
    })
}
