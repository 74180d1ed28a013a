//! Publishing with many messages in flight.
//!
//! [`Client::publish`] waits for one answer at a time and repeats by itself. Here the caller keeps up
//! to a window of messages in flight, gets each answer with the item it belongs to, and decides what
//! to do about those that leave it open.

use std::collections::VecDeque;

use super::requests::{Reply, Requests};
use super::{Answer, Client, Error, Message, read_answer};

/// Messages in flight, each with the item that it stands for.
pub struct Pipeline<T> {
    client: Client,
    requests: Requests<(T, String)>,
    /// Answers that were found without the stream, to be handed out first.
    ready: VecDeque<(T, Answer)>,
}

impl<T> Pipeline<T> {
    /// A pipeline with nothing in flight.
    pub async fn new(client: Client) -> Result<Self, Error> {
        Ok(Self {
            requests: Requests::new(client.clone()).await?,
            client,
            ready: VecDeque::new(),
        })
    }

    /// How many messages wait for their answer.
    pub fn in_flight(&self) -> usize {
        self.requests.in_flight() + self.ready.len()
    }

    /// Whether a message handed over now goes out now.
    pub fn connected(&self) -> bool {
        self.requests.connected()
    }

    /// Sends a message; its answer comes out of [`Pipeline::next`] with `item`.
    pub async fn send(&mut self, item: T, mut message: Message) {
        if let Err(error) = self.client.check_message(&message) {
            self.ready.push_back((item, Answer::Final(error)));
            return;
        }
        let headers = message.take_wire_headers();
        let item = (item, message.subject.clone());
        self.requests
            .send(item, message.subject, Some(headers), message.body)
            .await;
    }

    /// The next answer. Waits for ever where nothing is in flight.
    pub async fn next(&mut self) -> (T, Answer) {
        match self.ready.pop_front() {
            Some(answered) => answered,
            None => read(self.requests.next().await),
        }
    }

    /// An answer that is there already.
    pub fn try_next(&mut self) -> Option<(T, Answer)> {
        self.ready
            .pop_front()
            .or_else(|| self.requests.try_next().map(read))
    }

    /// Counts everything in flight as unanswered where the connection is another one than when it
    /// was sent.
    pub fn look_at_connection(&mut self) {
        self.requests.look_at_connection();
    }

    /// Forgets all that is in flight; answers that still come are dropped.
    pub fn abandon(&mut self) {
        self.requests.abandon();
        self.ready.clear();
    }
}

fn read<T>(((item, subject), reply): ((T, String), Reply)) -> (T, Answer) {
    let answer = match reply {
        Reply::Came(message) => read_answer(&subject, message.status, &message.payload),
        Reply::Lost(reason) => Answer::Again { reason },
    };
    (item, answer)
}
