//! The number of shards, written down so that all schedulers of an installation split alike.

use async_nats::jetstream::kv::{self, CreateErrorKind};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::config::SHARDS_MAX;
use crate::error::Error;

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
