//! Schedules that fire many times a second, and whoever takes the jobs they become.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::jetstream::consumer::PullConsumer;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use repull::client::{Client, Expect, Message};
use repull::id::{Lane, QueueName};
use repull::schedule::Schedule;
use repull::topology::{Layout, Topology};
use repull::wire::{Address, EventKind, JobEvent, Place, headers};
use repull_tests::{DEADLINE, World, eventually};
use serde_json::json;
use tokio::task::JoinHandle;

/// How long fires are watched after the last one that counts: a doubled one would come by then.
const AFTERMATH: TimeDelta = TimeDelta::seconds(2);

/// The schedulers' lease.
pub(super) const LEASE: Duration = Duration::from_secs(2);

/// How many jobs are settled at once.
const AT_ONCE: usize = 128;

/// The stream sequences of the jobs that were taken, by the fire they stand for.
type Taken = Arc<Mutex<BTreeMap<String, BTreeSet<u64>>>>;

/// Schedules under load. Their jobs are taken as they come, as a worker does it: outcome, then ack.
pub(super) struct Load {
    schedules: Vec<Schedule>,
    taken: Taken,
    taker: JoinHandle<()>,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.taker.abort();
    }
}

impl Load {
    /// Stores that many schedules of ten fires a second each, and as many crontabs of one a second.
    pub(super) async fn start(world: &World, count: usize) -> Self {
        let client = world.client();
        make_consumer(client).await;
        let taken = Taken::default();
        let taker = tokio::spawn(take(world.connect().await, taken.clone()));
        let mut schedules = Vec::new();
        for number in 0..count {
            let every = json!({"every": {"interval": "100ms", "anchor": "1970-01-01T00:00:00Z"}});
            let zone = ["Europe/Berlin", "UTC", "Asia/Kolkata"][number % 3];
            let cron = json!({"cron": {"expression": "* * * * * *", "timezone": zone}});
            for (kind, trigger) in [("every", every), ("cron", cron)] {
                let schedule = schedule(&format!("{kind}-{number}"), &trigger, number);
                let stored = client.put_schedule(schedule, Expect::Nothing).await;
                schedules.push(stored.expect("a stored schedule").schedule);
            }
        }
        Self {
            schedules,
            taken,
            taker,
        }
    }

    /// How many fires have become jobs.
    pub(super) fn count(&self) -> usize {
        self.taken().len()
    }

    /// Waits until that many more fires have become jobs.
    pub(super) async fn goes_on_for(&self, more: usize) {
        let goal = self.count() + more;
        let what = format!("{more} more fires become jobs");
        eventually(DEADLINE, &what, async || {
            (self.count() >= goal).then_some(())
        })
        .await;
    }

    /// Waits until no fire has become a job for longer than a lease takes to lapse.
    pub(super) async fn falls_silent(&self) {
        let mut last = (self.count(), Instant::now());
        eventually(DEADLINE, "fires stop becoming jobs", async || {
            if self.count() != last.0 {
                last = (self.count(), Instant::now());
            }
            (last.1.elapsed() > LEASE * 2).then_some(())
        })
        .await;
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, BTreeSet<u64>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fires until then as the triggers list them, as the ids that their jobs carry.
    fn listed(&self, until: DateTime<Utc>) -> BTreeSet<String> {
        let of = |schedule: &Schedule| -> Vec<String> {
            let fires = schedule.trigger.fires(schedule.active_from);
            fires
                .take_while(|fire| *fire <= until)
                .map(|fire| schedule.fire_id(fire))
                .collect()
        };
        self.schedules.iter().flat_map(of).collect()
    }

    /// Whether some trigger lists this fire: of a time to come as well, where a clock was ahead.
    fn lists(&self, fire: &str) -> bool {
        let Some((id, millis)) = fire.rsplit_once('-') else {
            return false;
        };
        let time = millis
            .parse()
            .ok()
            .and_then(DateTime::from_timestamp_millis);
        let schedule = self
            .schedules
            .iter()
            .find(|schedule| schedule.id.as_str() == id);
        let (Some(time), Some(schedule)) = (time, schedule) else {
            return false;
        };
        let before = time - TimeDelta::milliseconds(1);
        schedule.active_from.is_some_and(|from| time > from)
            && schedule.trigger.next(Some(before)) == Some(time)
    }

    /// Waits until all fires until now have become jobs and others after them, and asserts that
    /// each has become exactly one and that there is none the triggers do not list. Answers how
    /// many there were.
    pub(super) async fn check(&self) -> usize {
        let until = repull::clock::now();
        let listed = self.listed(until);
        let after = self.listed(until + AFTERMATH);
        let missing = |of: &BTreeSet<String>| {
            let taken = self.taken();
            let missing = of.iter().filter(|id| !taken.contains_key(*id));
            missing.cloned().collect::<Vec<_>>()
        };
        let waited = tokio::time::timeout(DEADLINE, async {
            while !missing(&after).is_empty() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let is_late = waited.await.is_err();
        let lost = missing(&listed);
        let few = &lost[..lost.len().min(5)];
        let (count, all) = (lost.len(), listed.len());
        assert!(lost.is_empty(), "{count} of {all} fires are lost: {few:?}");
        assert!(!is_late, "fires do not go on: {:?}", missing(&after));
        let taken = self.taken();
        let doubled = taken.iter().filter(|(_, sequences)| sequences.len() > 1);
        let doubled: Vec<_> = doubled.collect();
        let (count, few) = (doubled.len(), &doubled[..doubled.len().min(5)]);
        assert!(doubled.is_empty(), "{count} fires are doubled: {few:?}");
        let strange: Vec<_> = taken.keys().filter(|id| !self.lists(id)).collect();
        assert!(strange.is_empty(), "no trigger lists {strange:?}");
        println!("{} fires, each one job", taken.len());
        taken.len()
    }
}

fn schedule(id: &str, trigger: &serde_json::Value, number: usize) -> Schedule {
    let json = json!({
        "id": id,
        "trigger": trigger,
        "job": {"task": "count", "args": {"number": number}},
    });
    Schedule::from_json(id, json.to_string().as_bytes()).expect("a valid schedule")
}

async fn make_consumer(client: &Client) {
    let topology = Topology::new(client.namespace().clone(), Layout::default());
    let lane = Lane::normal(QueueName::default());
    eventually(DEADLINE, "the queue's consumer is made", async || {
        let made = topology.ensure_consumer(client.connection(), &lane, None);
        made.await.ok()
    })
    .await;
}

/// Takes jobs for as long as the test runs, over every disturbance of the server.
async fn take(client: Client, taken: Taken) {
    let stream = Place::Jobs.stream(client.namespace());
    loop {
        let consumer = client
            .jetstream()
            .get_consumer_from_stream("default", &stream);
        let consumer: Result<PullConsumer, _> = consumer.await;
        let Ok(consumer) = consumer else { continue };
        let Ok(messages) = consumer.messages().await else {
            continue;
        };
        messages
            .take_while(|message| std::future::ready(message.is_ok()))
            .for_each_concurrent(AT_ONCE, async |message| {
                if let Ok(message) = message {
                    settle(&client, &message, &taken).await;
                }
            })
            .await;
    }
}

/// Notes the job and settles it. Where that fails it is delivered again, under the same sequence.
async fn settle(client: &Client, message: &jetstream::Message, taken: &Taken) {
    let nonce = message.headers.as_ref().and_then(|h| h.get(headers::NONCE));
    let (Some(nonce), Ok(info)) = (nonce, message.info()) else {
        return;
    };
    taken
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(nonce.as_str().to_owned())
        .or_default()
        .insert(info.stream_sequence);
    let outcome = outcome_of(client, message, nonce.as_str());
    if client.publish(&outcome).await.is_ok() {
        let _ = message.ack().await;
    }
}

fn outcome_of(client: &Client, message: &jetstream::Message, nonce: &str) -> Message {
    let address = Address::parse(client.namespace(), Place::Jobs, &message.subject);
    let mut event = JobEvent::new(EventKind::Succeeded, 1, "test", repull::clock::now());
    event.nonce = Some(nonce.to_owned());
    Message {
        subject: address
            .expect("a job's subject")
            .subject(client.namespace(), Place::Results),
        headers: event.encode_headers(),
        body: bytes::Bytes::new(),
        id: format!("{nonce}:1:succeeded"),
        expect: Expect::Anything,
    }
}
