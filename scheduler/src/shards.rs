//! The number of shards, written down so that all schedulers of an installation split alike.

use std::collections::BTreeMap;

use async_nats::jetstream::kv::{self, CreateErrorKind};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::config::SHARDS_MAX;
use crate::error::Error;
use crate::watermark::Watermark;

/// The key in the bucket of watermarks.
const KEY: &str = "shards";

#[derive(Debug, Serialize, Deserialize)]
struct Shards {
    count: u16,
}

/// The key of a shard's watermark, and with a prefix of its lease. Names the count, so that another
/// split begins with watermarks of its own.
pub(crate) fn key(index: u16, count: u16) -> String {
    format!("{index}-of-{count}")
}

/// Writes the number down where none is, and gives the one that holds.
pub(crate) async fn agree(bucket: &kv::Store, wanted: u16) -> Result<u16, Error> {
    let failed = |reason: String| Error::Bucket {
        action: "read the number of shards in",
        bucket: bucket.name.clone(),
        reason,
    };
    let value = serde_json::to_vec(&Shards { count: wanted }).unwrap_or_default();
    match bucket.create(KEY, value.into()).await {
        Ok(_) => return Ok(wanted),
        Err(error) if error.kind() == CreateErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error.to_string())),
    }
    let entry = bucket
        .get(KEY)
        .await
        .map_err(|error| failed(error.to_string()))?
        .unwrap_or_default();
    let found: Shards =
        serde_json::from_slice(&entry).map_err(|error| failed(error.to_string()))?;
    if !(1..=SHARDS_MAX).contains(&found.count) {
        return Err(failed(format!(
            "it is {}, expected 1 to {SHARDS_MAX}",
            found.count
        )));
    }
    if found.count != wanted {
        warn!(
            shards = found.count,
            wanted, "the installation has another number of shards; that one holds"
        );
    }
    Ok(found.count)
}

/// The watermarks of shards under another count: where an operator changed it.
async fn others(bucket: &kv::Store, count: u16) -> Result<Vec<(String, Watermark)>, Error> {
    let failed = |reason: String| Error::Bucket {
        action: "list the watermarks in",
        bucket: bucket.name.clone(),
        reason,
    };
    let keys = bucket
        .keys()
        .await
        .map_err(|error| failed(error.to_string()))?;
    let keys: Vec<String> = keys
        .try_collect()
        .await
        .map_err(|error| failed(error.to_string()))?;
    let own = format!("-of-{count}");
    let mut others = Vec::new();
    for key in keys {
        if !key.contains("-of-") || key.ends_with(&own) {
            continue;
        }
        let value = bucket
            .get(&key)
            .await
            .map_err(|error| failed(error.to_string()))?;
        if let Some(watermark) = value.and_then(|value| serde_json::from_slice(&value).ok()) {
            others.push((key, watermark));
        }
    }
    Ok(others)
}

/// What a shard of a new count goes on from: the least that all shards of the old one have settled.
pub(crate) async fn inherit(bucket: &kv::Store, count: u16) -> Result<Option<Watermark>, Error> {
    let others = others(bucket, count).await?;
    Ok(others
        .into_iter()
        .map(|(_, watermark)| watermark)
        .reduce(|one, other| Watermark {
            up_to: one.up_to.min(other.up_to),
            horizon: one.horizon.max(other.horizon),
            known: one.known.min(other.known),
            held: one
                .held
                .into_iter()
                .chain(other.held)
                .collect::<BTreeMap<_, _>>(),
            ..one
        }))
}

/// Removes the watermarks of another count, once there are those of this one.
pub(crate) async fn forget_others(bucket: &kv::Store, count: u16) -> Result<(), Error> {
    for (key, _) in others(bucket, count).await? {
        info!(
            key,
            shards = count,
            "removed the watermark of another number of shards"
        );
        if let Err(error) = bucket.delete(&key).await {
            warn!(key, %error, "the watermark of another number of shards could not be removed");
        }
    }
    Ok(())
}
