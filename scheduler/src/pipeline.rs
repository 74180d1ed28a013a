//! Publishing with many messages in flight over one subscription for the answers.
//!
//! [`Client::publish`](repull::client::Client::publish) waits for one answer at a time and repeats
//! by itself. Here the caller keeps up to a window of messages in flight, gets each answer with the
//! item it belongs to, and decides what to do about those that leave it open.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use async_nats::Subscriber;
use futures_util::StreamExt;
use repull::client::{Answer, Client, Message, read_answer};

/// How long one try may take before it counts as unanswered.
const TRY_TIMEOUT: Duration = Duration::from_secs(4);

/// Messages in flight, each with the item that it stands for.
pub(crate) struct Pipeline<T> {
    client: Client,
    inbox: String,
    answers: Subscriber,
    flights: Vec<Flight<T>>,
    free: Vec<u32>,
    /// In the order of sending: what is at the front times out first.
    sent: VecDeque<(Instant, u32, u32)>,
    connects: u64,
    in_flight: usize,
    /// Answers that were found without the stream, to be handed out first.
    ready: VecDeque<(T, Answer)>,
}

struct Flight<T> {
    /// Told apart from an earlier use of the same place, whose answer may still come.
    serial: u32,
    item: Option<(T, String)>,
}

impl<T> Pipeline<T> {
    /// A pipeline with nothing in flight.
    pub(crate) async fn new(client: Client) -> Result<Self, repull::client::Error> {
        let inbox = client.nats().new_inbox();
        let answers = client
            .nats()
            .subscribe(format!("{inbox}.*"))
            .await
            .map_err(|error| client.failed("subscribe to the answers of publishes", error))?;
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

    /// How many messages wait for their answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether a message handed over now goes out now.
    pub(crate) fn connected(&self) -> bool {
        self.client.nats().connection_state() == async_nats::connection::State::Connected
    }

    /// Sends a message; its answer comes out of [`Pipeline::next`] with `item`.
    pub(crate) async fn send(&mut self, item: T, mut message: Message) {
        if let Err(error) = self.client.check_message(&message) {
            self.in_flight += 1;
            self.ready.push_back((item, Answer::Final(error)));
            return;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.flights.push(Flight {
                serial: 0,
                item: None,
            });
            (self.flights.len() - 1) as u32
        });
        let flight = &mut self.flights[place as usize];
        flight.serial = flight.serial.wrapping_add(1);
        let serial = flight.serial;
        let reply = format!("{}.{place}-{serial}", self.inbox);
        let headers = message.take_wire_headers();
        flight.item = Some((item, message.subject.clone()));
        self.in_flight += 1;
        let sent = self
            .client
            .nats()
            .publish_with_reply_and_headers(message.subject, reply, headers, message.body)
            .await;
        let deadline = match sent {
            Ok(()) => Instant::now() + TRY_TIMEOUT,
            // The client is closed: unanswered at once.
            Err(_) => Instant::now(),
        };
        self.sent.push_back((deadline, place, serial));
    }

    /// The next answer. Waits for ever where nothing is in flight.
    pub(crate) async fn next(&mut self) -> (T, Answer) {
        loop {
            if let Some(answered) = self.ready.pop_front() {
                self.in_flight -= 1;
                return answered;
            }
            self.drop_answered();
            let Some(&(deadline, ..)) = self.sent.front() else {
                std::future::pending::<()>().await;
                continue;
            };
            tokio::select! {
                biased;
                answer = self.answers.next() => match answer {
                    Some(message) => self.answered(&message),
                    None => self.give_up("the connection is closed"),
                },
                () = tokio::time::sleep_until(deadline.into()) => self.expire(),
            }
        }
    }

    /// An answer that is there already.
    pub(crate) fn try_next(&mut self) -> Option<(T, Answer)> {
        use futures_util::FutureExt;
        loop {
            if let Some(answered) = self.ready.pop_front() {
                self.in_flight -= 1;
                return Some(answered);
            }
            match self.answers.next().now_or_never() {
                Some(Some(message)) => self.answered(&message),
                Some(None) | None => return None,
            }
        }
    }

    /// Counts everything in flight as unanswered where the connection is another one than when it
    /// was sent: what was in its buffers is lost, and so are the answers.
    pub(crate) fn look_at_connection(&mut self) {
        let connects = connects(&self.client);
        if connects != self.connects {
            self.connects = connects;
            self.give_up("the connection was lost before the answer came");
        }
    }

    /// Forgets all that is in flight; answers that still come are dropped.
    pub(crate) fn abandon(&mut self) {
        for (place, flight) in self.flights.iter_mut().enumerate() {
            if flight.item.take().is_some() {
                self.free.push(place as u32);
            }
        }
        self.sent.clear();
        self.ready.clear();
        self.in_flight = 0;
    }

    fn answered(&mut self, message: &async_nats::Message) {
        let token = message.subject.as_str().rsplit('.').next();
        let Some((place, serial)) = token.and_then(read_token) else {
            return;
        };
        let Some((item, subject)) = self.land(place, serial) else {
            return;
        };
        let answer = read_answer(&subject, message.status, &message.payload);
        self.ready.push_back((item, answer));
    }

    fn land(&mut self, place: u32, serial: u32) -> Option<(T, String)> {
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
            self.unanswered(place, serial, "no answer in time");
        }
    }

    fn give_up(&mut self, reason: &str) {
        for (_, place, serial) in std::mem::take(&mut self.sent) {
            self.unanswered(place, serial, reason);
        }
    }

    fn unanswered(&mut self, place: u32, serial: u32, reason: &str) {
        if let Some((item, _)) = self.land(place, serial) {
            // A refused permission is told only as an event; the caller sees silence.
            let reason = self
                .client
                .connection()
                .refusal()
                .unwrap_or_else(|| reason.to_owned());
            self.ready.push_back((item, Answer::Again { reason }));
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
