//! The buckets that a scheduler asks and writes itself.

use std::time::Duration;

use async_nats::jetstream::kv;
use repull::client::Client;
use repull::topology::Bucket;

use crate::error::Error;

/// The buckets that a scheduler writes itself.
pub(crate) struct Buckets {
    pub(crate) leader: kv::Store,
    pub(crate) watermark: kv::Store,
    schedules: kv::Store,
    /// The lease: what the bucket that is there says.
    pub(crate) lease: Duration,
}

impl Buckets {
    pub(crate) async fn open(client: &Client) -> Result<Self, Error> {
        let leader = open(client, Bucket::Leader).await?;
        let lease = leader.stream.cached_info().config.max_age;
        Ok(Self {
            leader,
            watermark: open(client, Bucket::Watermark).await?,
            schedules: open(client, Bucket::Schedules).await?,
            lease,
        })
    }

    /// The newest revision of the bucket of schedules.
    pub(crate) async fn schedules_revision(&self) -> Result<u64, Error> {
        match self.schedules.stream.get_info().await {
            Ok(info) => Ok(info.state.last_sequence),
            Err(error) => Err(Error::Bucket {
                action: "look up",
                bucket: self.schedules.name.clone(),
                reason: error.to_string(),
            }),
        }
    }
}

async fn open(client: &Client, bucket: Bucket) -> Result<kv::Store, Error> {
    let name = bucket.name(client.namespace());
    let store = client.jetstream().get_key_value(&name).await;
    store.map_err(|error| Error::Bucket {
        action: "open",
        bucket: name,
        reason: client
            .connection()
            .refusal()
            .unwrap_or_else(|| error.to_string()),
    })
}
