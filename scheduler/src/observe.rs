//! The metrics of queues, as the broker and the workers' beacons have them.

use std::collections::BTreeSet;

use async_nats::jetstream::consumer::Info;
use repull::beacon::Beacon;
use repull::client::{Client, Error};
use repull::clock;
use repull::id::Lane;
use repull::wire::Place;

use crate::metrics::{Metrics, QueueLabels};
use crate::queues::AllSettings;

/// Looks at all queues once. `told` are the lanes that were there the last time.
pub(crate) async fn queues(
    client: &Client,
    metrics: &Metrics,
    settings: &AllSettings,
    told: &mut BTreeSet<Lane>,
) -> Result<(), Error> {
    let consumers = client.lane_consumers().await?;
    let beacons = client.workers().await?;
    let lanes: BTreeSet<Lane> = consumers.keys().cloned().collect();
    for gone in std::mem::replace(told, lanes).difference(told) {
        metrics.queues.forget(&labels(gone));
    }
    for (lane, info) in &consumers {
        tell(metrics, lane, info, &beacons);
        let paused = settings
            .get(&lane.queue)
            .is_some_and(|settings| settings.paused.is_some());
        let labels = labels(lane);
        metrics
            .queues
            .paused
            .get_or_create(&labels)
            .set(i64::from(paused));
        let age = oldest_ready_age(client, lane, info).await?;
        metrics
            .queues
            .oldest_ready_age
            .get_or_create(&labels)
            .set(age);
    }
    let dead = Place::Dead.stream(client.namespace());
    let info = client
        .stream_handle(&dead)
        .await?
        .get_info()
        .await
        .map_err(|error| client.failed(format!("look up stream `{dead}`"), error))?;
    metrics.dead_jobs.set(count(info.state.messages));
    Ok(())
}

fn labels(lane: &Lane) -> QueueLabels {
    QueueLabels {
        queue: lane.to_string(),
    }
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn tell(metrics: &Metrics, lane: &Lane, info: &Info, beacons: &[Beacon]) {
    let labels = labels(lane);
    let queues = &metrics.queues;
    queues
        .ready
        .get_or_create(&labels)
        .set(count(info.num_pending));
    queues
        .running
        .get_or_create(&labels)
        .set(count(info.num_ack_pending as u64));
    queues
        .waiting_pulls
        .get_or_create(&labels)
        .set(count(info.num_waiting as u64));
    queues
        .ack_pending_limit
        .get_or_create(&labels)
        .set(info.config.max_ack_pending);
    let serving = beacons.iter().filter(|beacon| beacon.serves(lane));
    let (mut workers, mut slots) = (0, 0);
    for beacon in serving {
        workers += 1;
        slots += i64::from(beacon.slots);
    }
    queues.workers.get_or_create(&labels).set(workers);
    queues.worker_slots.get_or_create(&labels).set(slots);
    // There from the start, so that an alert on it has something to compare with.
    drop(queues.orphans.get_or_create(&labels));
}

/// For how long the first job that was never delivered has waited. A job that was handed back waits
/// too and is not seen here: the server does not tell which those are.
async fn oldest_ready_age(client: &Client, lane: &Lane, info: &Info) -> Result<f64, Error> {
    if info.num_pending == 0 {
        return Ok(0.0);
    }
    let stream = Place::Jobs.stream(client.namespace());
    let filter = Place::Jobs.lane_wildcard(client.namespace(), lane);
    let from = info.delivered.stream_sequence + 1;
    let first = client.next_message(&stream, &filter, from).await?;
    Ok(first.map_or(0.0, |first| {
        let age = clock::now() - first.time;
        age.to_std().unwrap_or_default().as_secs_f64()
    }))
}
