//! The streams of a job in memory, for tests of code that enqueues: behind the feature `test`.
//!
//! Holds the messages that a server would hold, and keeps the rules of the streams that jobs depend
//! on: a message id is stored once, a subject holds what a publish expects or refuses it, one later
//! message a subject. Has a clock of its own that moves when it is told to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;

use super::publish::{Expect, Message, PublishError, Published};
use super::{Client, Inner};
use crate::clock;
use crate::connect::Connection;
use crate::id::{Lane, Namespace};
use crate::wire::{Address, Place, headers};

/// For how long a stream knows a message id.
const DUPLICATES_KNOWN: TimeDelta = TimeDelta::minutes(2);

/// What the client says where it is asked for more than a memory has.
pub(super) const NO_SERVER: &str = "this client has no server: its jobs are in memory, for a test";

/// The streams of jobs, later jobs, dead ones and outcomes, in memory.
#[derive(Debug)]
pub struct Memory {
    namespace: Namespace,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    now: DateTime<Utc>,
    /// One count for all streams.
    sequence: u64,
    streams: HashMap<Place, BTreeMap<u64, StreamMessage>>,
    /// Message ids and when they came.
    ids: HashMap<(Place, String), DateTime<Utc>>,
    /// Messages of the work queue that a worker has.
    delivered: HashSet<u64>,
}

impl Client {
    /// A client without a server: what it enqueues stays in a [`Memory`]. It can enqueue, look at
    /// last events and wait for outcomes; anything else fails and says so.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn in_memory(namespace: Namespace) -> Self {
        // A connection that nobody answers: it tries once, and then not again in a test's life.
        let nats = async_nats::ConnectOptions::new()
            .retry_on_initial_connect()
            .reconnect_delay_callback(|tries| match tries {
                0 | 1 => Duration::ZERO,
                _ => Duration::from_secs(24 * 3600),
            })
            .event_callback(|_| std::future::ready(()))
            .connect("127.0.0.1:1")
            .await
            .unwrap_or_else(|error| panic!("a client that need not connect: {error}"));
        let memory = Memory::new(namespace.clone());
        Self {
            inner: Arc::new(Inner {
                connection: Connection::over(nats),
                namespace,
                memory: Some(memory),
            }),
        }
    }

    /// What holds its jobs; none for a client of a server.
    pub fn memory(&self) -> Option<&Memory> {
        self.inner.memory.as_ref()
    }
}

impl Memory {
    fn new(namespace: Namespace) -> Self {
        let state = State {
            now: clock::now(),
            sequence: 0,
            streams: HashMap::new(),
            ids: HashMap::new(),
            delivered: HashSet::new(),
        };
        Self {
            namespace,
            state: Mutex::new(state),
            changes: watch::Sender::new(0),
        }
    }

    /// The time by its own clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.lock().now
    }

    /// Moves its clock forward.
    pub fn advance(&self, by: Duration) {
        let now = self.now();
        let by = TimeDelta::from_std(by).ok();
        self.set_now(by.and_then(|by| now.checked_add_signed(by)).unwrap_or(now));
    }

    /// Sets its clock; it never goes back.
    pub fn set_now(&self, now: DateTime<Utc>) {
        let mut state = self.lock();
        state.now = state.now.max(now);
        drop(state);
        self.changed();
    }

    /// Stores a message, or refuses it as a stream would.
    pub(super) fn publish(&self, message: &Message) -> Result<Published, PublishError> {
        let published = self.lock().publish(&self.namespace, message);
        self.changed();
        published
    }

    /// Stores a message that asks for nothing.
    pub fn put(&self, message: &Message) {
        // Its subject is one of ours, or it is not seen again.
        let _ = self.publish(message);
    }

    /// The last message on a subject.
    pub fn last(&self, place: Place, subject: &str) -> Option<StreamMessage> {
        self.lock().last(place, subject).cloned()
    }

    /// All messages of a stream, the oldest first.
    pub fn all(&self, place: Place) -> Vec<StreamMessage> {
        let state = self.lock();
        let messages = state.streams.get(&place);
        messages
            .into_iter()
            .flat_map(|messages| messages.values().cloned())
            .collect()
    }

    /// Removes a message; false where there was none.
    pub fn delete(&self, place: Place, sequence: u64) -> bool {
        let mut state = self.lock();
        state.delivered.remove(&sequence);
        let messages = state.streams.get_mut(&place);
        let was_there = messages.is_some_and(|messages| messages.remove(&sequence).is_some());
        drop(state);
        self.changed();
        was_there
    }

    /// Hands out the first message of the first of these lanes that has one.
    pub fn deliver(&self, lanes: &[Lane]) -> Option<StreamMessage> {
        let mut state = self.lock();
        let found = lanes.iter().find_map(|lane| {
            let prefix = format!("{}.{}.{lane}.", self.namespace, Place::Jobs.token());
            let messages = state.streams.get(&Place::Jobs)?;
            messages
                .values()
                .find(|message| {
                    message.subject.starts_with(&prefix)
                        && !state.delivered.contains(&message.sequence)
                })
                .cloned()
        })?;
        state.delivered.insert(found.sequence);
        Some(found)
    }

    /// Whether a worker has the message.
    pub fn is_delivered(&self, sequence: u64) -> bool {
        self.lock().delivered.contains(&sequence)
    }

    /// Moves later jobs whose time has come to the work queue, as the scheduler does.
    pub fn promote(&self) {
        let mut state = self.lock();
        let now = state.now;
        let mut due: Vec<_> = state
            .waiting()
            .filter(|(at, _)| *at <= now)
            .map(|(at, message)| (at, message.clone()))
            .collect();
        due.sort_by_key(|(at, message)| (*at, message.sequence));
        for (_, later) in due {
            let Ok(address) = Address::parse(&self.namespace, Place::Later, &later.subject) else {
                continue;
            };
            let mut headers = async_nats::HeaderMap::new();
            for (name, values) in later.headers.iter() {
                let name_text: &str = name.as_ref();
                for value in values.iter().filter(|_| name_text != headers::RUN_AT) {
                    headers.append(name.clone(), value.clone());
                }
            }
            let message = Message {
                subject: address.subject(&self.namespace, Place::Jobs),
                headers,
                body: later.payload.clone(),
                id: format!("later:{}", later.sequence),
                expect: Expect::Nothing,
            };
            if let Ok(Published::Stored { .. }) = state.publish(&self.namespace, &message)
                && let Some(messages) = state.streams.get_mut(&Place::Later)
            {
                messages.remove(&later.sequence);
            }
        }
    }

    /// When the next later job is due.
    pub fn next_due(&self) -> Option<DateTime<Utc>> {
        self.lock().waiting().map(|(at, _)| at).min()
    }

    /// Waits for the next change, however it comes about, from when this was called.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The later jobs and when each is due.
    fn waiting(&self) -> impl Iterator<Item = (DateTime<Utc>, &StreamMessage)> {
        let messages = self.streams.get(&Place::Later);
        let messages = messages.into_iter().flat_map(BTreeMap::values);
        messages.map(|message| {
            let at = message.headers.get_last(headers::RUN_AT);
            let at = at.and_then(|at| at.as_str().parse().ok());
            (at.unwrap_or(DateTime::<Utc>::MIN_UTC), message)
        })
    }

    fn last(&self, place: Place, subject: &str) -> Option<&StreamMessage> {
        let messages = self.streams.get(&place)?;
        let mut newest_first = messages.values().rev();
        newest_first.find(|message| message.subject.as_str() == subject)
    }

    fn publish(
        &mut self,
        namespace: &Namespace,
        message: &Message,
    ) -> Result<Published, PublishError> {
        let is_in = |place: &Place| {
            let prefix = format!("{namespace}.{}.", place.token());
            message.subject.starts_with(&prefix)
        };
        let Some(place) = Place::ALL.into_iter().find(is_in) else {
            return Err(PublishError::Refused {
                subject: message.subject.clone(),
                code: 0,
                reason: NO_SERVER.to_owned(),
            });
        };
        let now = self.now;
        self.ids.retain(|_, came| now - *came < DUPLICATES_KNOWN);
        let id = (place, message.id.clone());
        if !message.id.is_empty() && self.ids.contains_key(&id) {
            return Ok(Published::Stored {
                sequence: 0,
                duplicate: true,
            });
        }
        let last = self.last(place, &message.subject).map(|last| last.sequence);
        let is_expected = match message.expect {
            Expect::Anything => true,
            Expect::Nothing => last.is_none(),
            Expect::Last(sequence) => last == Some(sequence),
        };
        if !is_expected {
            return Ok(Published::Unexpected { ambiguous: false });
        }
        self.ids.insert(id, now);
        self.sequence += 1;
        let sequence = self.sequence;
        let messages = self.streams.entry(place).or_default();
        if place == Place::Later {
            messages.retain(|_, other| other.subject.as_str() != message.subject);
        }
        let stored = StreamMessage {
            subject: message.subject.as_str().into(),
            sequence,
            headers: message.wire_headers(),
            payload: message.body.clone(),
            time: now,
        };
        messages.insert(sequence, stored);
        Ok(Published::Stored {
            sequence,
            duplicate: false,
        })
    }
}
