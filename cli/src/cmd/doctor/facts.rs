//! One look at the broker and at what the fleet says of itself.

use std::collections::BTreeMap;

use async_nats::jetstream::account::Account;
use async_nats::jetstream::stream::Info as StreamInfo;
use chrono::{DateTime, Utc};
use repull::beacon::Beacon;
use repull::client::{Client, JobFilter, JobState, QueueView, ScheduleListing};
use repull::clock;
use repull::connect::ServerVersion;
use repull::id::{Lane, Namespace};
use repull::topology::{Difference, Layout, Topology};
use repull::wire::{Address, Place};
use serde_json::{Value, json};

use crate::ui::out::counted;

/// The server we are connected to.
#[derive(Clone, Debug)]
pub(super) struct ServerFacts {
    pub(super) name: String,
    pub(super) version: Option<ServerVersion>,
    pub(super) text: String,
}

/// One lane, by the broker's books.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct LaneFacts {
    /// Whether it has a consumer.
    pub(super) has_consumer: bool,
    pub(super) ready: u64,
    pub(super) ack_pending: u64,
    pub(super) ack_pending_max: u64,
    pub(super) waiting_pulls: u64,
    pub(super) waiting_pulls_max: u64,
    pub(super) redelivered: u64,
    /// Deliveries in all since the consumer was made.
    pub(super) deliveries: u64,
    /// The last stream sequence that was delivered.
    pub(super) delivered: u64,
    /// Subjects of the lane in the stream, delivered or not.
    pub(super) subjects: u64,
    /// When the first job that waits was stored.
    pub(super) oldest: Option<DateTime<Utc>>,
    /// Seconds of a job's lease.
    pub(super) ack_wait_seconds: u64,
}

/// How far a scheduler says that fires are published.
#[derive(Clone, Debug)]
pub(super) struct WatermarkFacts {
    pub(super) key: String,
    pub(super) up_to: Option<DateTime<Utc>>,
}

/// One look.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) at: DateTime<Utc>,
    pub(super) namespace: Namespace,
    pub(super) server: ServerFacts,
    pub(super) account: Option<Account>,
    pub(super) streams: Vec<StreamInfo>,
    /// Servers that lead no consumer of a lane: consumers without a leader.
    pub(super) leaderless: Vec<Lane>,
    pub(super) queues: Vec<QueueView>,
    pub(super) lanes: BTreeMap<Lane, LaneFacts>,
    pub(super) workers: Vec<Beacon>,
    /// Schedulers that hold a lease.
    pub(super) leaders: Vec<String>,
    pub(super) watermarks: Vec<WatermarkFacts>,
    pub(super) schedules: ScheduleListing,
    /// When the first job that waits for a time was to run.
    pub(super) next_later: Option<DateTime<Utc>>,
    /// Subjects in the work queue that no lane's consumer can deliver.
    pub(super) malformed: Vec<String>,
}

/// The settings that correctness rests on, beside those on the server.
pub(super) async fn differences(client: &Client) -> anyhow::Result<Vec<Difference>> {
    let topology = Topology::new(client.namespace().clone(), Layout::default());
    Ok(topology.check(client.connection()).await?)
}

/// Whether the difference is that there is nothing.
pub(super) fn is_absent(difference: &Difference) -> bool {
    difference.setting == "existence"
}

impl Facts {
    pub(super) async fn look(client: &Client) -> anyhow::Result<Self> {
        let info = client.nats().server_info();
        let queues = client.queues().await?;
        let lanes = lanes(client, &queues).await?;
        let leases = client.leases().await?;
        let later = JobFilter {
            state: Some(JobState::Later),
            limit: 1,
            ..JobFilter::default()
        };
        let streams = client.stream_infos().await?;
        let malformed = malformed(client, &streams, &lanes).await?;
        Ok(Self {
            at: clock::now(),
            namespace: client.namespace().clone(),
            server: ServerFacts {
                // One that was given no name shows its id, which says nothing.
                name: match info.server_name == info.server_id {
                    true => format!("{}:{}", info.host, info.port),
                    false => info.server_name,
                },
                version: ServerVersion::parse(&info.version),
                text: info.version,
            },
            // A role without the right to ask may have all else.
            account: client.jetstream().query_account().await.ok(),
            streams,
            leaderless: leaderless(client).await?,
            queues,
            lanes,
            workers: client.workers().await?,
            leaders: leases.holders,
            watermarks: leases
                .watermarks
                .into_iter()
                .map(|(key, up_to)| WatermarkFacts { key, up_to })
                .collect(),
            schedules: client.schedules().await?,
            // The same: without the right to look, lateness is not judged.
            next_later: client
                .list_jobs(&later)
                .await
                .ok()
                .and_then(|listing| listing.jobs.first()?.run_at),
            malformed,
        })
    }

    /// One line on what was looked at.
    pub(super) fn summary(&self) -> String {
        let sum = |get: fn(&QueueView) -> u64| -> u64 { self.queues.iter().map(get).sum() };
        format!(
            "server {} {}; {}: {} ready, {} running, {} later, {} dead; {} with {}; {}; {} leading",
            self.server.name,
            self.server.text,
            counted(self.queues.len() as u64, "queue"),
            sum(|queue| queue.ready),
            sum(|queue| queue.running),
            sum(|queue| queue.later),
            sum(|queue| queue.dead),
            counted(self.workers.len() as u64, "worker"),
            counted(
                self.workers
                    .iter()
                    .map(|worker| u64::from(worker.slots))
                    .sum::<u64>(),
                "slot"
            ),
            counted(self.schedules.schedules.len() as u64, "schedule"),
            counted(self.leaders.len() as u64, "scheduler"),
        )
    }

    /// The same for programs.
    pub(super) fn view(&self) -> Value {
        json!({
            "at": self.at,
            "server": { "name": self.server.name, "version": self.server.text },
            "queues": self.queues,
            "workers": self.workers,
            "schedulers_leading": self.leaders,
            "schedules": self.schedules.schedules.len(),
            "next_later": self.next_later,
        })
    }

    /// Live workers that serve the lane.
    pub(super) fn serving(&self, lane: &Lane) -> impl Iterator<Item = &Beacon> {
        self.workers
            .iter()
            .filter(move |worker| worker.serves(lane))
    }
}

async fn lanes(client: &Client, queues: &[QueueView]) -> anyhow::Result<BTreeMap<Lane, LaneFacts>> {
    let stream = Place::Jobs.stream(client.namespace());
    let mut lanes = BTreeMap::new();
    let mut can_read = true;
    for view in queues.iter().flat_map(|queue| &queue.lanes) {
        let filter = Place::Jobs.lane_wildcard(client.namespace(), &view.lane);
        let mut facts = LaneFacts {
            ready: view.ready,
            ..LaneFacts::default()
        };
        if let Some(consumer) = &view.consumer {
            facts = LaneFacts {
                has_consumer: true,
                ack_pending: consumer.ack_pending,
                ack_pending_max: u64::try_from(consumer.ack_pending_max).unwrap_or(u64::MAX),
                waiting_pulls: consumer.waiting_pulls,
                waiting_pulls_max: u64::try_from(consumer.waiting_pulls_max).unwrap_or(u64::MAX),
                redelivered: consumer.redelivered,
                deliveries: consumer.deliveries,
                delivered: consumer.delivered,
                ack_wait_seconds: consumer.ack_wait.as_secs(),
                ..facts
            };
        }
        facts.subjects = client.count_subjects(&stream, &filter).await?;
        if facts.ready > 0 && can_read {
            // A role may see counts and no jobs; asking again would only take its time again.
            match client
                .next_message(&stream, &filter, facts.delivered + 1)
                .await
            {
                Ok(first) => facts.oldest = first.map(|message| message.time),
                Err(_) => can_read = false,
            }
        }
        lanes.insert(view.lane.clone(), facts);
    }
    Ok(lanes)
}

async fn leaderless(client: &Client) -> anyhow::Result<Vec<Lane>> {
    let consumers = client.lane_consumers().await?;
    let without = consumers.into_iter().filter(|(_, info)| {
        info.cluster
            .as_ref()
            .is_some_and(|cluster| cluster.leader.is_none())
    });
    Ok(without.map(|(lane, _)| lane).collect())
}

/// Subjects that name no job. Looked for only where the lanes do not add up to the stream.
async fn malformed(
    client: &Client,
    streams: &[StreamInfo],
    lanes: &BTreeMap<Lane, LaneFacts>,
) -> anyhow::Result<Vec<String>> {
    let jobs = Place::Jobs.stream(client.namespace());
    let subjects = streams
        .iter()
        .find(|info| info.config.name == jobs)
        .map_or(0, |info| info.state.subjects_count);
    let pin = Topology::pin_subject(client.namespace());
    let pins = client.count_subjects(&jobs, &pin).await?;
    if subjects <= pins + lanes.values().map(|lane| lane.subjects).sum::<u64>() {
        return Ok(Vec::new());
    }
    let all = client
        .subjects(&jobs, &Place::Jobs.wildcard(client.namespace()))
        .await?;
    let malformed = all
        .into_iter()
        .map(|(subject, _)| subject)
        .filter(|subject| *subject != pin)
        .filter(|subject| Address::parse(client.namespace(), Place::Jobs, subject).is_err());
    Ok(malformed.collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use repull::beacon::RunningJob;
    use repull::client::LaneView;
    use repull::queue::QueueSettings;

    /// The queue `q` with its normal lane and no settings.
    pub(in crate::cmd::doctor) fn queue() -> QueueView {
        QueueView {
            name: "q".parse().unwrap(),
            ready: 0,
            running: 0,
            later: 0,
            dead: 0,
            waiting_pulls: 0,
            workers: 0,
            slots: 0,
            slots_running: 0,
            lanes: vec![LaneView {
                lane: "q".parse().unwrap(),
                ready: 0,
                later: 0,
                dead: 0,
                consumer: None,
            }],
            settings: QueueSettings::default(),
        }
    }

    /// A worker of the queue `q`.
    pub(in crate::cmd::doctor) fn worker(slots: u32, running: u32) -> Beacon {
        let now = clock::now();
        let job = |index: u32| RunningJob {
            id: format!("j{index}").parse().unwrap(),
            lane: "q".into(),
            task: "t".parse().unwrap(),
            attempt: 1,
            since: now,
            progress: None,
        };
        Beacon {
            id: "w".parse().unwrap(),
            version: "1".into(),
            started_at: now,
            at: now,
            lanes: vec!["q".into()],
            slots,
            running,
            promised: 0,
            settling: 0,
            last_delivery: None,
            draining: false,
            stuck: 0,
            watchdog_actions: 0,
            jobs: (0..running).map(job).collect(),
        }
    }

    /// A look at one queue.
    pub(in crate::cmd::doctor) fn facts(
        lane: LaneFacts,
        workers: Vec<Beacon>,
        queue: QueueView,
    ) -> Facts {
        Facts {
            at: clock::now(),
            namespace: Namespace::default(),
            server: ServerFacts {
                name: "n".into(),
                version: ServerVersion::parse("2.12.12"),
                text: "2.12.12".into(),
            },
            account: None,
            streams: Vec::new(),
            leaderless: Vec::new(),
            lanes: [("q".parse().unwrap(), lane)].into(),
            queues: vec![queue],
            workers,
            leaders: vec!["s".into()],
            watermarks: Vec::new(),
            schedules: ScheduleListing::default(),
            next_later: None,
            malformed: Vec::new(),
        }
    }
}
