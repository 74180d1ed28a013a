//! Reads a stream from its beginning and then live, for as long as the process runs.
//!
//! The client library's ordered consumer makes itself anew after a gap, a missed heartbeat or a new
//! connection. What it does not notice is added here: a stream that was deleted and made again, and
//! a consumer that has fallen silent while the stream goes on.
//!
//! A message that no client can be sent ends the connection that it comes over, each time anew. So
//! each reader has a connection of its own, and looks over the scheduler's whether its next message
//! is one of those before it begins, and whenever its connection was lost.

use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream;
use async_nats::jetstream::consumer::{DeliverPolicy, push};
use futures_util::StreamExt;
use repull::client::{Client, Stored};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How often the stream itself is asked whether we have all of it.
const CHECK_EVERY: Duration = Duration::from_secs(20);

/// What the server shows as the name of a reader's connection.
const READER: &str = "repull-scheduler reader";

/// Which stream, and how much of each message.
#[derive(Debug)]
pub(crate) struct Source {
    /// The stream's name.
    pub(crate) stream: String,
    /// Headers without bodies.
    pub(crate) headers_only: bool,
    /// Where it is told up to which sequence all has been handed over.
    pub(crate) position: watch::Sender<u64>,
}

/// Takes what is read.
pub(crate) trait Sink: Send {
    /// How the stream is laid out and how full it is, before reading and from time to time.
    fn looked_at(&mut self, _info: &jetstream::stream::Info) {}
    /// The next message.
    fn message(&mut self, message: jetstream::Message) -> impl Future<Output = ()> + Send;
    /// All that was there at the start has been handed over. Said once for each beginning.
    fn caught_up(&mut self) -> impl Future<Output = ()> + Send;
    /// The stream is another one than before: what was read is void, and all of it comes again.
    fn restarted(&mut self) -> impl Future<Output = ()> + Send;
    /// A message that can't be read, and is passed over once this has succeeded.
    fn unreadable(
        &mut self,
        found: &Stored,
    ) -> impl Future<Output = Result<(), repull::client::Error>> + Send;
}

struct Follower<S> {
    client: Client,
    /// The connection that is read over, while there is one.
    reader: Option<Client>,
    source: Source,
    sink: S,
    /// The last sequence handed over or known not to be for us.
    position: u64,
    /// The stream's age: another one means another stream.
    created: Option<chrono::DateTime<chrono::Utc>>,
    caught_up: bool,
}

/// Reads until stopped. Never fails: what goes wrong is logged and tried again.
pub(crate) async fn follow<S: Sink>(
    client: Client,
    source: Source,
    sink: S,
    stop: CancellationToken,
) {
    let mut follower = Follower {
        client,
        reader: None,
        source,
        sink,
        position: 0,
        created: None,
        caught_up: false,
    };
    let mut pause = Duration::from_millis(50);
    loop {
        let started = Instant::now();
        tokio::select! {
            ended = follower.read() => {
                if let Err(error) = ended {
                    follower.reader = None;
                    warn!(stream = %follower.source.stream, %error, "reading the stream was interrupted; starting again");
                }
            }
            () = stop.cancelled() => return,
        }
        if started.elapsed() > Duration::from_secs(10) {
            pause = Duration::from_millis(50);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(2)),
            () = stop.cancelled() => return,
        }
    }
}

impl<S: Sink> Follower<S> {
    /// Reads with one consumer until something is wrong with it.
    async fn read(&mut self) -> Result<(), async_nats::Error> {
        self.connected().await;
        self.pass_unreadable().await?;
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => self.client.another(READER).await?,
        };
        let mut connection = reader.connection().changes();
        connection.mark_unchanged();
        self.reader = Some(reader.clone());
        let stream = reader.jetstream().get_stream(&self.source.stream).await?;
        let info = stream.cached_info().clone();
        self.compare(&info).await;
        let deliver_policy = match self.position {
            0 => DeliverPolicy::All,
            position => DeliverPolicy::ByStartSequence {
                start_sequence: position + 1,
            },
        };
        let config = push::OrderedConfig {
            deliver_subject: reader.nats().new_inbox(),
            description: Some("Repull: scheduler".to_owned()),
            headers_only: self.source.headers_only,
            deliver_policy,
            ..push::OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await?;
        if consumer.cached_info().num_pending == 0 {
            // What the stream held at the end and deleted since is not for us either.
            self.move_to(self.position.max(info.state.last_sequence));
            self.told_all().await;
        }
        let mut messages = consumer.messages().await?;
        let mut check = tokio::time::interval_at(Instant::now() + CHECK_EVERY, CHECK_EVERY);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut behind_since = None;
        loop {
            tokio::select! {
                biased;
                message = messages.next() => match message {
                    Some(Ok(message)) => self.take(message).await?,
                    // It makes itself anew when polled again.
                    Some(Err(error)) => debug!(stream = %self.source.stream, %error, "the consumer is made anew"),
                    None => return Err("the subscription ended".into()),
                },
                Ok(()) = connection.changed() => {
                    debug!(stream = %self.source.stream, "the reader's connection was lost or came back");
                    return Ok(());
                }
                _ = check.tick() => {
                    let info = stream.get_info().await?;
                    if self.compare(&info).await {
                        return Ok(());
                    }
                    let behind = info.state.last_sequence > self.position;
                    if behind && behind_since == Some(self.position) {
                        // Either the newest messages were deleted before we got them, or the
                        // consumer fell silent; a new one tells which.
                        return Ok(());
                    }
                    behind_since = behind.then_some(self.position);
                }
            }
        }
    }

    /// Waits for the scheduler's own connection.
    async fn connected(&self) {
        let mut changes = self.client.connection().changes();
        while self.client.nats().connection_state() != State::Connected {
            let _ = tokio::time::timeout(Duration::from_secs(1), changes.changed()).await;
        }
    }

    /// Passes over what comes next and can't be read.
    async fn pass_unreadable(&mut self) -> Result<(), repull::client::Error> {
        while let Some(found) = self
            .client
            .stored_from(&self.source.stream, ">", self.position + 1)
            .await?
        {
            let Err(reason) = found.read_headers() else {
                break;
            };
            warn!(stream = %self.source.stream, sequence = found.sequence, %reason, "passing over a message that can't be read");
            self.sink.unreadable(&found).await?;
            self.move_to(found.sequence);
        }
        Ok(())
    }

    async fn take(&mut self, message: jetstream::Message) -> Result<(), async_nats::Error> {
        let info = message.info()?;
        let (sequence, pending) = (info.stream_sequence, info.pending);
        if sequence > self.position {
            self.sink.message(message).await;
            self.move_to(sequence);
        }
        if pending == 0 {
            self.told_all().await;
        }
        Ok(())
    }

    fn move_to(&mut self, position: u64) {
        self.position = position;
        self.source.position.send_replace(position);
    }

    async fn told_all(&mut self) {
        if !self.caught_up {
            self.caught_up = true;
            self.sink.caught_up().await;
        }
    }

    /// Whether the stream is another one than before.
    async fn compare(&mut self, info: &jetstream::stream::Info) -> bool {
        let other = self.created.is_some_and(|created| created != info.created)
            || info.state.last_sequence < self.position;
        self.created = Some(info.created);
        self.sink.looked_at(info);
        if other {
            info!(stream = %self.source.stream, "the stream was made anew; reading all of it again");
            self.move_to(0);
            self.caught_up = false;
            self.sink.restarted().await;
        }
        other
    }
}
