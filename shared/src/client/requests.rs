//! Requests with many under way at once, over one subscription for the answers.
//!
//! The client library's own requests wait one by one, each in a task and with a timer of its own,
//! which costs several times what the request itself does. Here the caller keeps up to a window of
//! them under way and gets each answer with the item it belongs to.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use async_nats::{HeaderMap, Subject, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};

use super::{Client, Error};

/// How long one try may take before it counts as unanswered.
const TRY_TIMEOUT: Duration = Duration::from_secs(4);

/// What became of a request.
#[derive(Debug)]
pub enum Reply {
    /// The answer, which may say that nobody is there to answer.
    Came(Box<async_nats::Message>),
    /// None came, and why. The request may have been carried out all the same.
    Lost(String),
}

/// Requests under way, each with the item that it stands for.
pub struct Requests<T> {
    client: Client,
    inbox: String,
    answers: Subscriber,
    flights: Vec<Flight<T>>,
    free: Vec<u32>,
    /// In the order of sending: what is at the front times out first.
    sent: VecDeque<(Instant, u32, u32)>,
    connects: u64,
    in_flight: usize,
    /// Replies to be handed out.
    ready: VecDeque<(T, Reply)>,
}

struct Flight<T> {
    /// Told apart from an earlier use of the same place, whose answer may still come.
    serial: u32,
    item: Option<T>,
}

impl<T> Requests<T> {
    /// Nothing is under way yet.
    pub async fn new(client: Client) -> Result<Self, Error> {
        let inbox = client.nats().new_inbox();
        let answers = client
            .nats()
            .subscribe(format!("{inbox}.*"))
            .await
            .map_err(|error| client.failed("subscribe to the answers of requests", error))?;
        let connects = connects(&client);
        Ok(Self {
            client,
            inbox,
            answers,
            flights: Vec::new(),
            free: Vec::new(),
            sent: VecDeque::new(),
            connects,
            in_flight: 0,
            ready: VecDeque::new(),
        })
    }

    /// How many wait for their answer, or for their answer to be taken.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether a request handed over now goes out now.
    pub fn connected(&self) -> bool {
        self.client.nats().connection_state() == async_nats::connection::State::Connected
    }

    /// Sends a request; its reply comes out of [`Requests::next`] with `item`.
    pub async fn send(
        &mut self,
        item: T,
        subject: impl Into<Subject>,
        headers: Option<HeaderMap>,
        body: Bytes,
    ) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.flights.push(Flight {
                serial: 0,
                item: None,
            });
            (self.flights.len() - 1) as u32
        });
        let flight = &mut self.flights[place as usize];
        flight.serial = flight.serial.wrapping_add(1);
        flight.item = Some(item);
        let serial = flight.serial;
        self.in_flight += 1;
        let reply = format!("{}.{place}-{serial}", self.inbox);
        let (nats, subject) = (self.client.nats(), subject.into());
        let sent = match headers {
            Some(headers) => {
                nats.publish_with_reply_and_headers(subject, reply, headers, body)
                    .await
            }
            None => nats.publish_with_reply(subject, reply, body).await,
        };
        let deadline = match sent {
            Ok(()) => Instant::now() + TRY_TIMEOUT,
            // The client is closed: unanswered at once.
            Err(_) => Instant::now(),
        };
        self.sent.push_back((deadline, place, serial));
    }

    /// The next reply. Waits for ever where nothing is under way.
    pub async fn next(&mut self) -> (T, Reply) {
        loop {
            if let Some(replied) = self.take_ready() {
                return replied;
            }
            self.drop_answered();
            let Some(&(deadline, ..)) = self.sent.front() else {
                std::future::pending::<()>().await;
                continue;
            };
            tokio::select! {
                biased;
                answer = self.answers.next() => match answer {
                    Some(message) => self.answered(message),
                    None => self.give_up("the connection is closed"),
                },
                () = tokio::time::sleep_until(deadline.into()) => self.expire(),
            }
        }
    }

    /// A reply that is there already.
    pub fn try_next(&mut self) -> Option<(T, Reply)> {
        loop {
            if let Some(replied) = self.take_ready() {
                return Some(replied);
            }
            match self.answers.next().now_or_never() {
                Some(Some(message)) => self.answered(message),
                Some(None) | None => return None,
            }
        }
    }

    /// Counts everything under way as lost where the connection is another one than when it was
    /// sent: what was in its buffers is gone, and so are the answers.
    pub fn look_at_connection(&mut self) {
        let connects = connects(&self.client);
        if connects != self.connects {
            self.connects = connects;
            self.give_up("the connection was lost before the answer came");
        }
    }

    /// Forgets all that is under way; answers that still come are dropped.
    pub fn abandon(&mut self) {
        for (place, flight) in self.flights.iter_mut().enumerate() {
            if flight.item.take().is_some() {
                self.free.push(place as u32);
            }
        }
        self.sent.clear();
        self.ready.clear();
        self.in_flight = 0;
    }

    fn take_ready(&mut self) -> Option<(T, Reply)> {
        let replied = self.ready.pop_front()?;
        self.in_flight -= 1;
        Some(replied)
    }

    fn answered(&mut self, message: async_nats::Message) {
        let token = message.subject.as_str().rsplit('.').next();
        let Some((place, serial)) = token.and_then(read_token) else {
            return;
        };
        if let Some(item) = self.land(place, serial) {
            self.ready.push_back((item, Reply::Came(Box::new(message))));
        }
    }

    fn land(&mut self, place: u32, serial: u32) -> Option<T> {
        let flight = self.flights.get_mut(place as usize)?;
        if flight.serial != serial {
            return None;
        }
        let landed = flight.item.take()?;
        self.free.push(place);
        Some(landed)
    }

    fn drop_answered(&mut self) {
        while let Some(&(_, place, serial)) = self.sent.front() {
            let flight = &self.flights[place as usize];
            if flight.serial == serial && flight.item.is_some() {
                return;
            }
            self.sent.pop_front();
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        while let Some(&(deadline, place, serial)) = self.sent.front() {
            if deadline > now {
                return;
            }
            self.sent.pop_front();
            self.lost(place, serial, "no answer in time");
        }
    }

    fn give_up(&mut self, reason: &str) {
        for (_, place, serial) in std::mem::take(&mut self.sent) {
            self.lost(place, serial, reason);
        }
    }

    fn lost(&mut self, place: u32, serial: u32, reason: &str) {
        if let Some(item) = self.land(place, serial) {
            // A refused permission is told only as an event; the caller sees silence.
            let reason = self
                .client
                .connection()
                .refusal()
                .unwrap_or_else(|| reason.to_owned());
            self.ready.push_back((item, Reply::Lost(reason)));
        }
    }
}

fn connects(client: &Client) -> u64 {
    client
        .nats()
        .statistics()
        .connects
        .load(std::sync::atomic::Ordering::Relaxed)
}

fn read_token(token: &str) -> Option<(u32, u32)> {
    let (place, serial) = token.split_once('-')?;
    Some((place.parse().ok()?, serial.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_token_names_the_place_and_its_use() {
        assert_eq!(read_token("12-3"), Some((12, 3)));
        assert_eq!(read_token("12"), None);
        assert_eq!(read_token("-3"), None);
    }
}
