//! What an operator's tools ask beside jobs and queues: streams, leases and watermarks.

use std::ops::ControlFlow;

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::stream::Info;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use serde::Deserialize;

use super::scan::Scan;
use super::{Client, Error};
use crate::topology::{Bucket, Topology};
use crate::wire::Place;

/// Who leads, and how far fires are published.
#[derive(Debug, Clone, Default)]
pub struct Leases {
    /// Schedulers that hold a lease, each once.
    pub holders: Vec<String>,
    /// The watermarks by their keys.
    pub watermarks: Vec<(String, Option<DateTime<Utc>>)>,
}

#[derive(Deserialize)]
struct Holder {
    scheduler: String,
}

#[derive(Deserialize)]
struct Watermark {
    up_to: DateTime<Utc>,
}

impl Client {
    /// What the server says of each of our streams, those behind buckets included.
    pub async fn stream_infos(&self) -> Result<Vec<Info>, Error> {
        let namespace = self.namespace();
        let places = Place::ALL.map(|place| place.stream(namespace));
        let buckets = Bucket::ALL.map(|bucket| bucket.stream(namespace));
        let mut infos = Vec::new();
        for name in places
            .iter()
            .chain([&Topology::ledger(namespace)])
            .chain(&buckets)
        {
            let stream = self.stream_handle(name).await?;
            let info = stream
                .get_info()
                .await
                .map_err(|error| self.failed(format!("look up stream `{name}`"), error))?;
            infos.push(info);
        }
        Ok(infos)
    }

    /// How many messages the work queue holds beside its pin: jobs, and what is none although somebody
    /// published it there.
    pub async fn work_queue_messages(&self) -> Result<u64, Error> {
        let name = Place::Jobs.stream(self.namespace());
        let pin = Topology::pin_subject(self.namespace());
        let page = self.stream_handle(&name).await?;
        let page = page
            .info_with_subjects(&pin)
            .await
            .map_err(|error| self.failed(format!("look up stream `{name}`"), error))?;
        let messages = page.info.state.messages;
        let pins: usize = page
            .try_fold(0, |sum, (_, count)| std::future::ready(Ok(sum + count)))
            .await
            .map_err(|error| self.failed(format!("count the pins of stream `{name}`"), error))?;
        Ok(messages.saturating_sub(pins as u64))
    }

    /// Who leads, and how far fires are published.
    pub async fn leases(&self) -> Result<Leases, Error> {
        let mut leases = Leases::default();
        for (_, value) in self.bucket_values(Bucket::Leader).await? {
            if let Ok(holder) = serde_json::from_slice::<Holder>(&value)
                && !leases.holders.contains(&holder.scheduler)
            {
                leases.holders.push(holder.scheduler);
            }
        }
        for (key, value) in self.bucket_values(Bucket::Watermark).await? {
            let watermark = serde_json::from_slice::<Watermark>(&value).ok();
            leases
                .watermarks
                .push((key, watermark.map(|watermark| watermark.up_to)));
        }
        leases.holders.sort();
        Ok(leases)
    }

    async fn bucket_values(&self, bucket: Bucket) -> Result<Vec<(String, bytes::Bytes)>, Error> {
        let prefix = format!("$KV.{}.", bucket.name(self.namespace()));
        let scan = Scan {
            stream: bucket.stream(self.namespace()),
            filter: format!("{prefix}>"),
            from: DeliverPolicy::LastPerSubject,
            headers_only: false,
        };
        let mut values = Vec::new();
        self.scan(scan, |entry| {
            let key = entry.subject.strip_prefix(&prefix).map(str::to_owned);
            // Tombstones have an empty body.
            values.extend(
                key.filter(|_| !entry.body.is_empty())
                    .map(|key| (key, entry.body)),
            );
            ControlFlow::Continue(())
        })
        .await?;
        Ok(values)
    }
}
