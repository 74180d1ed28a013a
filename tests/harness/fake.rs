//! A fake NATS server that answers by a script, for what no real server can be made to show.
//!
//! Without a script it is core NATS: what is published goes to those who subscribed, and a request
//! that nobody listens to is answered with 503. It has no JetStream; a script that wants to be
//! asked for jobs answers `$JS.API.…` itself. Where a real server should do most of the work, use an
//! [`Interceptor`](crate::Interceptor).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use crate::protocol::{Frame, Message, read_frame};
use crate::sessions::{Sessions, Toward, Verdict};
use crate::{port, runtime};

type Script = dyn Fn(&Message) -> Verdict + Send + Sync;

/// A scripted server. Ends with its connections on drop.
pub struct FakeServer {
    port: u16,
    sessions: Arc<Sessions>,
    accepting: JoinHandle<()>,
}

/// Sets up a [`FakeServer`].
pub struct FakeServerBuilder {
    info: Value,
}

impl FakeServerBuilder {
    /// The version it claims.
    #[must_use]
    pub fn version(self, version: &str) -> Self {
        self.info("version", version)
    }

    /// A field of the `INFO` it greets with.
    #[must_use]
    pub fn info(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.info[field] = value.into();
        self
    }

    /// Starts it; `script` is asked about every message that a client publishes.
    pub fn start(
        mut self,
        script: impl Fn(&Message) -> Verdict + Send + Sync + 'static,
    ) -> FakeServer {
        let port = port::reserve();
        self.info["port"] = port.into();
        let listener = runtime::listen(port)
            .unwrap_or_else(|error| panic!("the fake server cannot listen on {port}: {error}"));
        let sessions = Arc::new(Sessions::new());
        let greeting = Bytes::from(format!("INFO {}\r\n", self.info));
        let accepting = runtime::spawn(accept(
            listener,
            greeting,
            Arc::clone(&sessions),
            Arc::new(script),
        ));
        FakeServer {
            port,
            sessions,
            accepting,
        }
    }
}

impl FakeServer {
    /// Starts one that claims to be a current server with JetStream.
    pub fn start(script: impl Fn(&Message) -> Verdict + Send + Sync + 'static) -> Self {
        Self::builder().start(script)
    }

    /// Sets up one.
    pub fn builder() -> FakeServerBuilder {
        let info = json!({
            "server_id": "FAKE",
            "server_name": "fake",
            "version": "2.12.12",
            "proto": 1,
            "host": "127.0.0.1",
            "headers": true,
            "jetstream": true,
            "max_payload": 1_048_576,
        });
        FakeServerBuilder { info }
    }

    /// `nats://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Delivers a message to everyone who listens to its subject; answers how many that were.
    pub fn deliver(&self, message: &Message) -> usize {
        self.sessions.deliver(message)
    }

    /// What clients published on subjects that match.
    pub fn published(&self, pattern: &str) -> Vec<Message> {
        self.sessions.seen(Toward::Server, pattern)
    }

    /// Waits until clients have published that many messages on subjects that match.
    pub async fn wait_for(&self, pattern: &str, count: usize, within: Duration) -> Vec<Message> {
        self.sessions
            .wait_for(Toward::Server, pattern, count, within)
            .await
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    greeting: Bytes,
    sessions: Arc<Sessions>,
    script: Arc<Script>,
) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (greeting, sessions, script) =
            (greeting.clone(), Arc::clone(&sessions), Arc::clone(&script));
        connections.spawn(async move {
            // A client that goes away is no fault of the server.
            let _ = serve(stream, greeting, &sessions, &*script).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(
    stream: TcpStream,
    greeting: Bytes,
    sessions: &Sessions,
    script: &Script,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.into_split();
    let (sender, mut outgoing) = mpsc::unbounded_channel::<Bytes>();
    let id = sessions.open(sender.clone());
    let writing = async {
        writer.write_all(&greeting).await?;
        while let Some(bytes) = outgoing.recv().await {
            writer.write_all(&bytes).await?;
        }
        Ok(())
    };
    let reading = async {
        let mut reader = BufReader::new(reader);
        while let Some(frame) = read_frame(&mut reader).await? {
            match frame {
                Frame::Ping => {
                    let _ = sender.send(Bytes::from_static(b"PONG\r\n"));
                }
                Frame::Subscribe { subject, sid, .. } => sessions.subscribe(id, sid, subject),
                Frame::Unsubscribe { sid, .. } => sessions.unsubscribe(id, &sid),
                Frame::Publish(message) => publish(&message, sessions, script),
                Frame::Deliver { .. } | Frame::Other(_) => {}
            }
        }
        Ok(())
    };
    let ended = tokio::select! {
        ended = writing => ended,
        ended = reading => ended,
    };
    sessions.close(id);
    ended
}

fn publish(message: &Message, sessions: &Sessions, script: &Script) {
    sessions.remember(Toward::Server, message);
    match script(message) {
        Verdict::Pass => {
            let listeners = sessions.deliver(message);
            if let (0, Some(reply)) = (listeners, &message.reply) {
                sessions.deliver(&Message::status(reply, 503, "No Responders"));
            }
        }
        Verdict::Swallow => {}
        Verdict::Instead(messages) => {
            for message in &messages {
                sessions.deliver(message);
            }
        }
    }
}
