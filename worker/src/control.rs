//! What reaches the worker's loop beside jobs and answers: each kind is watched by a task of its
//! own that never ends while the worker runs, and that starts again where its source breaks off.

use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::kv;
use futures_util::StreamExt;
use repull::client::Client;
use repull::id::{Lane, QueueName};
use repull::queue::QueueSettings;
use repull::topology::Bucket;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::crew::Queues;
use crate::engine::{Backlog, Epoch, QueueIx};
use crate::inbox::Inbox;

/// A message to the loop.
pub(crate) enum Control {
    /// A queue's settings changed.
    QueueChanged(QueueName),
    /// Somebody wants a job cancelled.
    CancelJob {
        id: String,
        reason: String,
        reply: Option<Subject>,
    },
    /// New subscriptions are in place.
    EpochOpened(Inbox),
    /// They could not be made.
    EpochFailed(Epoch),
    /// A consumer that nobody answered for was found or made again, or why not.
    ConsumerSought(QueueIx, Result<(), String>),
    /// A consumer's numbers.
    Backlog(QueueIx, Backlog),
}

/// How many control messages may wait for the loop.
pub(crate) const CONTROL_CAPACITY: usize = 256;

/// How long to wait before a broken watch is made anew.
const AGAIN: Duration = Duration::from_secs(1);

/// Reads the settings of the queues that a worker serves. Without the bucket they are the defaults.
pub(crate) async fn load_settings(
    client: &Client,
    queues: &Queues,
    names: impl Iterator<Item = &QueueName>,
) {
    let bucket = Bucket::Queues.name(client.namespace());
    let Ok(store) = client.jetstream().get_key_value(&bucket).await else {
        return;
    };
    for name in names {
        if let Ok(Some(value)) = store.get(name.as_str()).await {
            apply(queues, name, &value);
        }
    }
}

/// Takes a value from the bucket; returns whether the settings changed. What can't be read changes
/// nothing.
fn apply(queues: &Queues, name: &QueueName, value: &[u8]) -> bool {
    match serde_json::from_slice::<QueueSettings>(value) {
        Ok(settings) => queues.set(name.clone(), settings),
        Err(error) => {
            warn!(queue = %name, %error, "the queue's settings can't be read; keeping the old ones");
            false
        }
    }
}

/// Watches the settings of all queues.
pub(crate) async fn watch_settings(client: Client, queues: Queues, control: mpsc::Sender<Control>) {
    let bucket = Bucket::Queues.name(client.namespace());
    loop {
        if let Err(error) = follow_settings(&client, &bucket, &queues, &control).await {
            debug!(%bucket, error, "watching the queues' settings broke off; starting again");
        }
        if control.is_closed() {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn follow_settings(
    client: &Client,
    bucket: &str,
    queues: &Queues,
    control: &mpsc::Sender<Control>,
) -> Result<(), String> {
    let store = client
        .jetstream()
        .get_key_value(bucket)
        .await
        .map_err(|error| error.to_string())?;
    let mut changes = store
        .watch_with_history(">")
        .await
        .map_err(|error| error.to_string())?;
    while let Some(entry) = changes.next().await {
        let entry = entry.map_err(|error| error.to_string())?;
        let Ok(name) = QueueName::new(&entry.key) else {
            continue;
        };
        let changed = match entry.operation {
            kv::Operation::Put => apply(queues, &name, &entry.value),
            kv::Operation::Delete | kv::Operation::Purge => {
                queues.set(name.clone(), QueueSettings::default())
            }
        };
        if changed && control.send(Control::QueueChanged(name)).await.is_err() {
            return Ok(());
        }
    }
    Err("the watch ended".to_owned())
}

/// The subject on which the cancelling of running jobs is asked for.
pub(crate) fn cancel_subject(client: &Client) -> String {
    format!("{}.control.cancel.*", client.namespace())
}

/// Listens for requests to cancel running jobs.
pub(crate) async fn listen_for_cancels(client: Client, control: mpsc::Sender<Control>) {
    let subject = cancel_subject(&client);
    loop {
        match client.nats().subscribe(subject.clone()).await {
            Ok(mut requests) => {
                while let Some(request) = requests.next().await {
                    let id = request
                        .subject
                        .rsplit('.')
                        .next()
                        .unwrap_or_default()
                        .to_owned();
                    let reason = String::from_utf8_lossy(&request.payload)
                        .chars()
                        .take(200)
                        .collect();
                    if control
                        .send(Control::CancelJob {
                            id,
                            reason,
                            reply: request.reply,
                        })
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            }
            Err(error) => debug!(%subject, %error, "can't listen for cancels"),
        }
        if control.is_closed() {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Asks for a consumer's numbers, and tells the loop where there is an answer.
pub(crate) async fn ask_backlog(
    client: Client,
    queue: QueueIx,
    lane: Lane,
    control: mpsc::Sender<Control>,
) {
    let info = match client.lane_info(&lane).await {
        Ok(Some(info)) => info,
        // Its pulls say so too, and then it is looked for.
        Ok(None) => return,
        Err(error) => {
            warn!(%lane, %error, "can't ask for the backlog");
            return;
        }
    };
    let backlog = Backlog {
        pending: info.num_pending,
        ack_pending: u64::try_from(info.num_ack_pending).unwrap_or(u64::MAX),
        ack_pending_max: u64::try_from(info.config.max_ack_pending)
            .ok()
            .filter(|limit| *limit > 0),
        waiting: u64::try_from(info.num_waiting).unwrap_or(u64::MAX),
        paused: false,
    };
    let _ = control.send(Control::Backlog(queue, backlog)).await;
}
