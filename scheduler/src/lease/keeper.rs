//! The shell of the lease: asks the bucket and tells the shard.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::kv::{self, CreateErrorKind, Operation, UpdateErrorKind};
use futures_util::StreamExt;
use repull::clock;
use repull::id::WorkerId;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Ask, Balance, Lease};

/// What a shard may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tenure {
    /// The revision under which this stretch of leadership began.
    pub(crate) term: u64,
    /// When it ends unless it is renewed.
    pub(crate) acting_until: Instant,
    /// It is given back: another scheduler shall lead the shard. The shard gets confirmed what it has
    /// in hand and then says so.
    pub(crate) leaving: bool,
}

impl Tenure {
    /// Whether it holds now.
    pub(crate) fn holds(self) -> bool {
        Instant::now() < self.acting_until
    }
}

/// The entry in the bucket.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    scheduler: String,
    host: String,
    /// The revision of the entry that this holder made first; none in that first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    term: Option<u64>,
    at: chrono::DateTime<chrono::Utc>,
}

/// What a keeper needs.
pub(crate) struct Keeper {
    /// The bucket of leases.
    pub(crate) bucket: kv::Store,
    /// The entry's key.
    pub(crate) key: String,
    /// This scheduler.
    pub(crate) id: WorkerId,
    /// The bucket's max age.
    pub(crate) length: Duration,
    /// Where the shard learns of it.
    pub(crate) tenure: watch::Sender<Option<Tenure>>,
    /// Where the shard says that it has left.
    pub(crate) left: Arc<Notify>,
    /// Which of the shards are this scheduler's.
    pub(crate) balance: Arc<Balance>,
    /// Whether the last renewal failed.
    pub(crate) is_troubled: bool,
    /// Ended before the keeper: the shard has published what it had in hand and gives up the lease.
    pub(crate) stop: CancellationToken,
}

/// Asks for the lease, renews it, and gives it back when stopped or when it is another's turn.
pub(crate) async fn keep(mut keeper: Keeper) {
    let mut lease = Lease::new(keeper.length, Instant::now());
    let mut freed: Option<kv::Watch> = None;
    let mut vacant_since: Option<Instant> = None;
    while !keeper.stop.is_cancelled() {
        let is_held = lease.held().is_some();
        keeper.balance.set_held(&keeper.key, is_held);
        let leaving = is_held && keeper.balance.should_leave(&keeper.key);
        keeper.tell(&lease, leaving);
        let until = match lease.ask(Instant::now()) {
            Ask::Create => {
                if keeper.may_take(&mut vacant_since).await {
                    keeper.create(&mut lease).await;
                } else {
                    lease.refused(Instant::now(), crate::random::unit());
                }
                continue;
            }
            Ask::Renew { revision } => {
                keeper.renew(&mut lease, revision).await;
                continue;
            }
            Ask::Nothing { until } => until,
        };
        // A standby waits for a deletion as well; an entry that expires tells nobody.
        if is_held {
            freed = None;
        } else if freed.is_none() {
            freed = keeper.bucket.watch(&keeper.key).await.ok();
        }
        tokio::select! {
            () = tokio::time::sleep_until(until.into()) => {}
            () = keeper.stop.cancelled() => {}
            () = keeper.left.notified(), if leaving => {
                keeper.give_back(&lease).await;
                lease.refused(Instant::now() + keeper.length, 0.0);
            }
            change = next_change(&mut freed) => match change {
                Some(Operation::Put) => {}
                Some(_) => lease.freed(Instant::now()),
                None => freed = None,
            },
        }
    }
    keeper.give_back(&lease).await;
}

async fn next_change(watch: &mut Option<kv::Watch>) -> Option<Operation> {
    match watch {
        Some(watch) => Some(watch.next().await?.ok()?.operation),
        None => std::future::pending().await,
    }
}

impl Keeper {
    fn tell(&mut self, lease: &Lease, leaving: bool) {
        let tenure = lease.tenure().map(|(term, acting_until)| Tenure {
            term,
            acting_until,
            leaving,
        });
        self.tenure.send_if_modified(|told| {
            let changed = *told != tenure;
            *told = tenure;
            changed
        });
    }

    fn entry(&self, term: Option<u64>) -> bytes::Bytes {
        let holder = Holder {
            scheduler: self.id.to_string(),
            host: std::env::var("HOSTNAME").unwrap_or_default(),
            term,
            at: clock::now(),
        };
        serde_json::to_vec(&holder).unwrap_or_default().into()
    }

    /// Whether to try for the lease: where this scheduler has its share, only one that nobody has
    /// taken for a while.
    async fn may_take(&self, vacant_since: &mut Option<Instant>) -> bool {
        if self.balance.wants_more() {
            *vacant_since = None;
            return true;
        }
        let entry = tokio::time::timeout(self.patience(), self.bucket.entry(&self.key)).await;
        let Ok(Ok(entry)) = entry else { return false };
        if entry.is_some_and(|entry| entry.operation == Operation::Put) {
            *vacant_since = None;
            return false;
        }
        vacant_since.get_or_insert_with(Instant::now).elapsed() >= self.length
    }

    async fn create(&mut self, lease: &mut Lease) {
        let asked_at = Instant::now();
        let created = self.bucket.create(&self.key, self.entry(None));
        let Ok(created) = tokio::time::timeout(self.patience(), created).await else {
            return lease.unanswered(Instant::now());
        };
        match created {
            Ok(revision) => {
                info!(lease = %self.key, revision, "this scheduler leads");
                lease.granted(asked_at, Instant::now(), revision);
            }
            // Also where an earlier try of ours was stored without our being told.
            Err(error) if error.kind() == CreateErrorKind::AlreadyExists => {
                self.adopt(lease, asked_at).await;
            }
            Err(error) => {
                debug!(lease = %self.key, %error, "no answer to the try for the lease");
                lease.unanswered(Instant::now());
            }
        }
    }

    async fn renew(&mut self, lease: &mut Lease, revision: u64) {
        let asked_at = Instant::now();
        let term = lease.tenure().map(|(term, _)| term);
        let renewed = self.bucket.update(&self.key, self.entry(term), revision);
        let Ok(renewed) = tokio::time::timeout(self.patience(), renewed).await else {
            self.tell_trouble("no answer in time");
            return lease.unanswered(Instant::now());
        };
        match renewed {
            Ok(revision) => {
                if std::mem::take(&mut self.is_troubled) {
                    info!(lease = %self.key, "the lease is renewed again");
                }
                lease.granted(asked_at, Instant::now(), revision);
            }
            Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {
                self.adopt(lease, asked_at).await;
            }
            Err(error) => {
                self.tell_trouble(&error.to_string());
                lease.unanswered(Instant::now());
            }
        }
    }

    /// The bucket holds another revision than expected: ours all the same where it names us.
    async fn adopt(&mut self, lease: &mut Lease, asked_at: Instant) {
        let entry = self.bucket.entry(&self.key);
        let Ok(entry) = tokio::time::timeout(self.patience(), entry).await else {
            return lease.unanswered(Instant::now());
        };
        match entry {
            Ok(Some(entry)) if entry.operation == Operation::Put => {
                let holder = serde_json::from_slice::<Holder>(&entry.value).ok();
                if holder.is_some_and(|holder| holder.scheduler == self.id.as_str()) {
                    // Renewed at once under this revision, which proves that it is still the last.
                    self.renew_adopted(lease, asked_at, entry.revision).await;
                } else {
                    self.lose(lease);
                }
            }
            // It expired, or was given back: made anew at once.
            Ok(_) => {
                lease.refused(Instant::now(), 0.0);
                lease.freed(Instant::now());
            }
            Err(error) => {
                debug!(lease = %self.key, %error, "the lease can't be read");
                lease.unanswered(Instant::now());
            }
        }
    }

    async fn renew_adopted(&mut self, lease: &mut Lease, asked_at: Instant, revision: u64) {
        let entry = self.entry(lease.tenure().map(|(term, _)| term));
        let renewed = self.bucket.update(&self.key, entry, revision);
        match tokio::time::timeout(self.patience(), renewed).await {
            Ok(Ok(revision)) => lease.granted(asked_at, Instant::now(), revision),
            Ok(Err(_)) => self.lose(lease),
            Err(_) => lease.unanswered(Instant::now()),
        }
    }

    fn tell_trouble(&mut self, reason: &str) {
        if std::mem::replace(&mut self.is_troubled, true) {
            debug!(lease = %self.key, reason, "the lease could not be renewed yet");
        } else {
            warn!(lease = %self.key, reason, "the lease could not be renewed; asking again");
        }
    }

    /// How long one question may take: short enough for a second one within the lease.
    fn patience(&self) -> Duration {
        self.length / 4
    }

    fn lose(&self, lease: &mut Lease) {
        if lease.held().is_some() {
            warn!(lease = %self.key, "another scheduler has the lease; this one stands by");
        }
        lease.refused(Instant::now(), crate::random::unit());
    }

    /// A lease that is given back is taken over at once instead of after it expires.
    async fn give_back(&mut self, lease: &Lease) {
        self.tenure.send_replace(None);
        let Some(revision) = lease.held() else { return };
        let deleted = self
            .bucket
            .delete_expect_revision(&self.key, Some(revision));
        match tokio::time::timeout(Duration::from_secs(2), deleted).await {
            Ok(Ok(())) => info!(lease = %self.key, "gave the lease back"),
            Ok(Err(error)) => debug!(lease = %self.key, %error, "the lease was not given back"),
            Err(_) => debug!(lease = %self.key, "the lease was not given back in time"),
        }
    }
}
