//! The subscriptions of one connection epoch: pulls are answered here, and so are publishes and acks.
//!
//! A data message does not say which pull it answers (it carries the job's own subject), but the
//! subscription that it arrives on does: each *lane* is a subscription of its own, and a queue has
//! at most one open pull per lane. Answers to publishes, acks and keep-alives come to one more.
//!
//! An epoch has a fresh inbox because a server goes on serving the pulls of an old one if it sees
//! the same inbox subscribed again in time, so that twice as many jobs would come as were asked for.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use async_nats::{Client, Message, SubscribeError, Subscriber};
use futures_util::{FutureExt, Stream};

use crate::engine::{Epoch, Lane, PullId};

/// One epoch's subscriptions.
pub(crate) struct Inbox {
    pub(crate) epoch: Epoch,
    prefix: String,
    /// The lanes; none in place of one that has been drained.
    lanes: Vec<Option<Subscriber>>,
    /// None once it has been drained.
    answers: Option<Subscriber>,
    draining: bool,
    /// The lane that is read first, so that none is always read last.
    first: usize,
}

/// Something that arrived.
pub(crate) enum Arrival {
    /// An answer to a pull: a job, or a status.
    OnLane(Epoch, Lane, Message),
    /// An answer to a publish, an ack or a keep-alive.
    Answer(Message),
}

/// What an answer is for; the last tokens of its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// A publish of a job's plan.
    Publish { sequence: u64, index: usize },
    /// The last ack of a turn.
    Acks { queue: usize, batch: u64 },
    /// One ack that is confirmed by itself.
    Ack { sequence: u64 },
    /// The last of a batch of keep-alives.
    KeepAlive { queue: usize, batch: u64 },
    /// A job that was given back.
    Back { sequence: u64 },
}

impl Token {
    fn write(self, prefix: &str) -> String {
        match self {
            Self::Publish { sequence, index } => format!("{prefix}.a.p.{sequence}.{index}"),
            Self::Acks { queue, batch } => format!("{prefix}.a.b.{queue}.{batch}"),
            Self::Ack { sequence } => format!("{prefix}.a.c.{sequence}.0"),
            Self::KeepAlive { queue, batch } => format!("{prefix}.a.k.{queue}.{batch}"),
            Self::Back { sequence } => format!("{prefix}.a.h.{sequence}.0"),
        }
    }

    /// Reads the subject of an answer.
    pub(crate) fn read(subject: &str) -> Option<Self> {
        let mut tokens = subject.rsplit('.');
        let (second, first, kind) = (tokens.next()?, tokens.next()?, tokens.next()?);
        let first: u64 = first.parse().ok()?;
        Some(match kind {
            "p" => Self::Publish {
                sequence: first,
                index: second.parse().ok()?,
            },
            "b" => Self::Acks {
                queue: usize::try_from(first).ok()?,
                batch: second.parse().ok()?,
            },
            "c" => Self::Ack { sequence: first },
            "k" => Self::KeepAlive {
                queue: usize::try_from(first).ok()?,
                batch: second.parse().ok()?,
            },
            "h" => Self::Back { sequence: first },
            _ => return None,
        })
    }
}

impl Inbox {
    /// Subscribes. The server has the subscriptions before anything that is published after.
    pub(crate) async fn open(
        client: &Client,
        epoch: Epoch,
        lanes: u32,
    ) -> Result<Self, SubscribeError> {
        let prefix = client.new_inbox();
        let mut subscribers = Vec::with_capacity(lanes as usize);
        for lane in 0..lanes {
            subscribers.push(Some(client.subscribe(format!("{prefix}.{lane}.*")).await?));
        }
        let answers = client.subscribe(format!("{prefix}.a.>")).await?;
        Ok(Self {
            epoch,
            prefix,
            lanes: subscribers,
            answers: Some(answers),
            draining: false,
            first: 0,
        })
    }

    /// The reply subject of a pull.
    pub(crate) fn pull_reply(&self, lane: Lane, pull: PullId) -> String {
        format!("{}.{}.{}", self.prefix, lane.0, pull.0)
    }

    /// The reply subject of something that is to be confirmed.
    pub(crate) fn reply(&self, token: Token) -> String {
        token.write(&self.prefix)
    }

    /// The pull that a status is about.
    pub(crate) fn pull_of(subject: &str) -> Option<PullId> {
        subject.rsplit('.').next()?.parse().ok().map(PullId)
    }

    /// Asks for no more jobs: unsubscribes the lanes, whose last messages still arrive. Answers go on.
    pub(crate) fn drain_lanes(&mut self) {
        self.draining = true;
        for lane in &mut self.lanes {
            drain(lane);
        }
    }

    /// Leaves the inbox as a whole; what was sent to it before still arrives.
    pub(crate) fn retire(&mut self) {
        self.drain_lanes();
        drain(&mut self.answers);
    }

    /// Whether every lane has been drained to its end.
    pub(crate) fn is_drained(&self) -> bool {
        self.draining && self.lanes.iter().all(Option::is_none)
    }

    /// Everything that has arrived by now, without asking to be woken for more.
    pub(crate) fn take_buffered(&mut self) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        while let Ok(1..) = self.poll_arrivals(&mut context, &mut arrivals, usize::MAX) {}
        arrivals
    }

    /// Takes what has arrived, `max` at most, and returns how much. When nothing has, the task is
    /// woken as soon as something does.
    ///
    /// # Errors
    /// The client has ended its subscriptions: it is dead for good.
    pub(crate) fn poll_arrivals(
        &mut self,
        context: &mut Context<'_>,
        arrivals: &mut Vec<Arrival>,
        max: usize,
    ) -> Result<usize, Closed> {
        let before = arrivals.len();
        // Answers first: they free what is being settled.
        while let Some(answers) = &mut self.answers
            && arrivals.len() - before < max
        {
            match Pin::new(answers).poll_next(context) {
                Poll::Ready(Some(message)) => arrivals.push(Arrival::Answer(message)),
                Poll::Ready(None) if self.draining => self.answers = None,
                Poll::Ready(None) => return Err(Closed),
                Poll::Pending => break,
            }
        }
        let count = self.lanes.len();
        for offset in 0..count {
            let lane = (self.first + offset) % count;
            let Some(slot) = self.lanes.get_mut(lane) else {
                break;
            };
            while let Some(subscriber) = slot
                && arrivals.len() - before < max
            {
                match Pin::new(subscriber).poll_next(context) {
                    Poll::Ready(Some(message)) => {
                        let lane = Lane(u8::try_from(lane).unwrap_or(u8::MAX));
                        arrivals.push(Arrival::OnLane(self.epoch, lane, message));
                    }
                    Poll::Ready(None) if self.draining => *slot = None,
                    Poll::Ready(None) => return Err(Closed),
                    Poll::Pending => break,
                }
            }
        }
        self.first = (self.first + 1) % count.max(1);
        Ok(arrivals.len() - before)
    }
}

/// Unsubscribes, so that what is buffered and on its way can still be read. Where the client takes no
/// orders at the moment there is no connection, and nothing on its way.
fn drain(subscriber: &mut Option<Subscriber>) {
    let told = subscriber
        .as_mut()
        .and_then(|subscriber| subscriber.drain().now_or_never());
    if !matches!(told, Some(Ok(()))) {
        *subscriber = None;
    }
}

/// The client has ended the subscriptions.
#[derive(Debug)]
pub(crate) struct Closed;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_read_back_what_they_write() {
        for token in [
            Token::Publish {
                sequence: 7,
                index: 1,
            },
            Token::Acks { queue: 2, batch: 9 },
            Token::Ack { sequence: 3 },
            Token::KeepAlive { queue: 0, batch: 4 },
            Token::Back { sequence: 5 },
        ] {
            assert_eq!(Token::read(&token.write("_INBOX.x")), Some(token));
        }
        assert_eq!(Token::read("_INBOX.x.0.77"), None);
    }
}
