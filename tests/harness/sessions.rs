//! The clients of whatever stands in for a server: who listens to what, and what was said.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::protocol::{Message, matches};

/// How many messages are remembered for a test to look at.
const REMEMBERED_MAX: usize = 200_000;

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toward {
    /// Published by a client.
    Server,
    /// Delivered to a client.
    Client,
}

/// What becomes of a message.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It goes its way.
    Pass,
    /// It is gone, and nobody is told.
    Swallow,
    /// It is gone, and these are delivered to the clients that listen to their subjects.
    Instead(Vec<Message>),
}

impl Verdict {
    /// Swallows a message and answers its sender with a status.
    pub fn status(to: &Message, code: u16, description: &str) -> Self {
        match &to.reply {
            Some(reply) => Self::Instead(vec![Message::status(reply, code, description)]),
            None => Self::Swallow,
        }
    }
}

struct Session {
    writer: UnboundedSender<Bytes>,
    subscriptions: HashMap<String, String>,
}

/// The clients that are connected, and every message seen.
pub(crate) struct Sessions {
    sessions: Mutex<HashMap<u64, Session>>,
    seen: Mutex<Vec<(Toward, Message)>>,
    news: watch::Sender<usize>,
    next: AtomicU64,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self {
            sessions: Mutex::default(),
            seen: Mutex::default(),
            news: watch::Sender::new(0),
            next: AtomicU64::new(1),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_seen(&self) -> MutexGuard<'_, Vec<(Toward, Message)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn open(&self, writer: UnboundedSender<Bytes>) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let session = Session {
            writer,
            subscriptions: HashMap::new(),
        };
        self.lock().insert(id, session);
        id
    }

    pub(crate) fn close(&self, id: u64) {
        self.lock().remove(&id);
    }

    pub(crate) fn subscribe(&self, id: u64, sid: String, subject: String) {
        if let Some(session) = self.lock().get_mut(&id) {
            session.subscriptions.insert(sid, subject);
        }
    }

    pub(crate) fn unsubscribe(&self, id: u64, sid: &str) {
        if let Some(session) = self.lock().get_mut(&id) {
            session.subscriptions.remove(sid);
        }
    }

    /// Delivers to every subscription that matches; answers how many there were.
    pub(crate) fn deliver(&self, message: &Message) -> usize {
        let mut delivered = 0;
        for session in self.lock().values() {
            for (sid, pattern) in &session.subscriptions {
                if matches(pattern, &message.subject) {
                    delivered += 1;
                    // A session whose connection is closing misses it, as on a real server.
                    let _ = session.writer.send(message.to_client(sid));
                }
            }
        }
        delivered
    }

    pub(crate) fn remember(&self, toward: Toward, message: &Message) {
        let count = {
            let mut seen = self.lock_seen();
            if seen.len() < REMEMBERED_MAX {
                seen.push((toward, message.clone()));
            }
            seen.len()
        };
        self.news.send_replace(count);
    }

    /// The messages that went that way and whose subject matches.
    pub(crate) fn seen(&self, toward: Toward, pattern: &str) -> Vec<Message> {
        let seen = self.lock_seen();
        let fitting = seen
            .iter()
            .filter(|(way, message)| *way == toward && matches(pattern, &message.subject));
        fitting.map(|(_, message)| message.clone()).collect()
    }

    /// Waits until that many messages went that way; answers them all. Panics at the deadline.
    pub(crate) async fn wait_for(
        &self,
        toward: Toward,
        pattern: &str,
        count: usize,
        within: Duration,
    ) -> Vec<Message> {
        let mut news = self.news.subscribe();
        let waiting = async {
            loop {
                let seen = self.seen(toward, pattern);
                if seen.len() >= count {
                    return seen;
                }
                news.changed().await.expect("the sender lives in self");
            }
        };
        let all = tokio::time::timeout(within, waiting).await;
        all.unwrap_or_else(|_| {
            let seen = self.seen(toward, pattern).len();
            panic!("not within {within:?}: {count} messages on `{pattern}` toward {toward:?}, only {seen}")
        })
    }
}
