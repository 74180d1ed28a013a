//! Stands between clients and a real server and decides message by message.
//!
//! A TCP proxy can only treat all bytes alike. This one understands the protocol, so that a test
//! can lose exactly one ack, answer exactly one pull with a status nobody has seen before, or keep
//! silent after it, while everything else is the work of a real server. Plain connections only, no
//! TLS.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::task::{JoinHandle, JoinSet};

use crate::protocol::{Frame, Message, read_frame};
use crate::sessions::{Sessions, Toward, Verdict};
use crate::{port, runtime};

type Judge = dyn Fn(Toward, &Message) -> Verdict + Send + Sync;

struct Shared {
    target: String,
    sessions: Sessions,
    judge: RwLock<Box<Judge>>,
}

/// A man in the middle of a test's own. Ends with its connections on drop.
pub struct Interceptor {
    port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Interceptor {
    /// Starts one before `target` (`host:port`) that lets everything pass.
    pub fn before(target: &str) -> Self {
        let port = port::reserve();
        let listener = runtime::listen(port)
            .unwrap_or_else(|error| panic!("the interceptor cannot listen on {port}: {error}"));
        let shared = Arc::new(Shared {
            target: target.to_owned(),
            sessions: Sessions::new(),
            judge: RwLock::new(Box::new(|_, _| Verdict::Pass)),
        });
        let accepting = runtime::spawn(accept(listener, Arc::clone(&shared)));
        Self {
            port,
            shared,
            accepting,
        }
    }

    /// Asks `judge` about every message from now on.
    pub fn judge(&self, judge: impl Fn(Toward, &Message) -> Verdict + Send + Sync + 'static) {
        let mut place = self
            .shared
            .judge
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *place = Box::new(judge);
    }

    /// Lets everything pass from now on.
    pub fn let_pass(&self) {
        self.judge(|_, _| Verdict::Pass);
    }

    /// `nats://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// `127.0.0.1:<port>`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Delivers a forged message to every client that listens to its subject; answers to how many
    /// subscriptions.
    pub fn deliver(&self, message: &Message) -> usize {
        self.shared.sessions.deliver(message)
    }

    /// What went that way on subjects that match, whatever became of it.
    pub fn seen(&self, toward: Toward, pattern: &str) -> Vec<Message> {
        self.shared.sessions.seen(toward, pattern)
    }

    /// Waits until that many messages went that way on subjects that match.
    pub async fn wait_for(
        &self,
        toward: Toward,
        pattern: &str,
        count: usize,
        within: Duration,
    ) -> Vec<Message> {
        let sessions = &self.shared.sessions;
        sessions.wait_for(toward, pattern, count, within).await
    }
}

impl Drop for Interceptor {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // Either side may go away at any time; the other learns it by its closed connection.
            let _ = carry(client, &shared).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let server = TcpStream::connect(&shared.target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, mut client_writer) = client.into_split();
    let (from_server, mut server_writer) = server.into_split();
    let (to_client, mut for_client) = mpsc::unbounded_channel::<Bytes>();
    let id = shared.sessions.open(to_client.clone());
    let writing = async {
        while let Some(bytes) = for_client.recv().await {
            client_writer.write_all(&bytes).await?;
        }
        Ok(())
    };
    let from_client = async {
        let mut reader = BufReader::new(from_client);
        while let Some(frame) = read_frame(&mut reader).await? {
            if let Some(bytes) = shared.of_client(id, &frame) {
                server_writer.write_all(&bytes).await?;
            }
        }
        Ok(())
    };
    let from_server = async {
        let mut reader = BufReader::new(from_server);
        while let Some(frame) = read_frame(&mut reader).await? {
            shared.of_server(&frame, &to_client);
        }
        Ok(())
    };
    let ended = tokio::select! {
        ended = writing => ended,
        ended = from_client => ended,
        ended = from_server => ended,
    };
    shared.sessions.close(id);
    ended
}

impl Shared {
    /// What the server gets of a client's frame.
    fn of_client(&self, id: u64, frame: &Frame) -> Option<Bytes> {
        match frame {
            Frame::Subscribe { subject, sid, .. } => {
                self.sessions.subscribe(id, sid.clone(), subject.clone());
            }
            Frame::Unsubscribe { sid, .. } => self.sessions.unsubscribe(id, sid),
            Frame::Publish(message) if !self.passes(Toward::Server, message) => return None,
            _ => {}
        }
        Some(frame.encode())
    }

    fn of_server(&self, frame: &Frame, to_client: &UnboundedSender<Bytes>) {
        if let Frame::Deliver { message, .. } = frame
            && !self.passes(Toward::Client, message)
        {
            return;
        }
        // The writer ends only with the connection, and then nobody waits for this.
        let _ = to_client.send(frame.encode());
    }

    fn passes(&self, toward: Toward, message: &Message) -> bool {
        self.sessions.remember(toward, message);
        let verdict = {
            let judge = self.judge.read().unwrap_or_else(PoisonError::into_inner);
            judge(toward, message)
        };
        match verdict {
            Verdict::Pass => true,
            Verdict::Swallow => false,
            Verdict::Instead(messages) => {
                for message in &messages {
                    self.sessions.deliver(message);
                }
                false
            }
        }
    }
}
