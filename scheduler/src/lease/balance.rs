//! Spreads the leases of several shards over the schedulers that are there.
//!
//! Each scheduler shows itself in the bucket of leases and counts the others. One that holds more
//! than its share gives back one lease at a time, and one that holds its share leaves free leases to
//! the others, for a while.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::kv;
use futures_util::TryStreamExt;
use repull::client::Client;
use repull::clock;
use repull::id::WorkerId;
use repull::topology::Bucket;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// The share of one scheduler.
#[derive(Debug)]
pub(crate) struct Balance {
    shards: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Schedulers, this one among them.
    members: usize,
    /// The leases that this one holds.
    held: BTreeSet<String>,
    /// The one of them that it is giving back.
    leaving: Option<String>,
}

impl Balance {
    /// The balance of this many shards, with no other scheduler known yet.
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            shards,
            state: Mutex::new(State {
                members: 1,
                held: BTreeSet::new(),
                leaving: None,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many leases are this scheduler's share.
    fn share(&self, members: usize) -> usize {
        self.shards.div_ceil(members.max(1))
    }

    /// Notes how many schedulers there are.
    pub(crate) fn set_members(&self, members: usize) {
        self.state().members = members.max(1);
    }

    /// Notes whether this scheduler holds a lease.
    pub(crate) fn set_held(&self, key: &str, is_held: bool) {
        let mut state = self.state();
        if is_held {
            if !state.held.contains(key) {
                state.held.insert(key.to_owned());
            }
            return;
        }
        state.held.remove(key);
        if state.leaving.as_deref() == Some(key) {
            state.leaving = None;
        }
    }

    /// Whether this scheduler should take another lease.
    pub(crate) fn wants_more(&self) -> bool {
        let state = self.state();
        state.held.len() < self.share(state.members)
    }

    /// Whether this lease is to be given back, because others have less than their share. Only one
    /// at a time.
    pub(crate) fn should_leave(&self, key: &str) -> bool {
        let mut state = self.state();
        let has_more = state.held.len() > self.share(state.members);
        if has_more && state.leaving.is_none() && state.held.contains(key) {
            state.leaving = Some(key.to_owned());
        }
        state.leaving.as_deref() == Some(key)
    }
}

/// Shows this scheduler to the others and counts them, until stopped.
pub(crate) async fn attend(
    client: Client,
    bucket: kv::Store,
    id: WorkerId,
    lease: Duration,
    balance: std::sync::Arc<Balance>,
    stop: CancellationToken,
) {
    let mut every = tokio::time::interval(lease / 3);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let key = format!("member.{id}");
    let host = std::env::var("HOSTNAME").unwrap_or_default();
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = stop.cancelled() => return,
        }
        let value = json!({ "member": id, "host": host, "at": clock::now() });
        if let Err(error) = bucket.put(&key, value.to_string().into()).await {
            debug!(%error, "this scheduler could not show itself to the others");
        }
        match count(&client).await {
            Ok(members) => balance.set_members(members),
            Err(error) => debug!(%error, "the other schedulers could not be counted"),
        }
    }
}

async fn count(client: &Client) -> Result<usize, async_nats::Error> {
    let filter = format!("$KV.{}.member.*", Bucket::Leader.name(client.namespace()));
    let stream = client
        .stream_handle(&Bucket::Leader.stream(client.namespace()))
        .await?;
    let members = stream.info_with_subjects(&filter).await?;
    Ok(members
        .try_fold(0, |count, _| std::future::ready(Ok(count + 1)))
        .await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheduler_takes_its_share_and_gives_back_what_is_more() {
        let balance = Balance::new(4);
        for key in ["0", "1", "2", "3"] {
            assert!(balance.wants_more());
            balance.set_held(key, true);
        }
        assert!(!balance.wants_more());
        assert!(!balance.should_leave("0"));
        balance.set_members(2);
        assert!(balance.should_leave("1"));
        assert!(!balance.should_leave("2"), "one at a time");
        assert!(balance.should_leave("1"));
        balance.set_held("1", false);
        assert!(balance.should_leave("2"));
        balance.set_held("2", false);
        assert!(!balance.should_leave("0") && !balance.should_leave("3"));
        assert!(!balance.wants_more());
        balance.set_members(1);
        assert!(balance.wants_more());
    }

    #[test]
    fn one_shard_is_anybodys() {
        let balance = Balance::new(1);
        balance.set_members(3);
        assert!(balance.wants_more());
        balance.set_held("0", true);
        assert!(!balance.should_leave("0"));
    }
}
