//! Moves messages that no client can be sent to the dead jobs, with what is wrong with them.
//!
//! A worker that is sent one loses its connection, and with it what was on its way; so does a
//! scheduler that reads one in a stream. Whoever finds one takes it out of the way: the sweep in the
//! work queue, the followers in what they read.

use async_nats::HeaderMap;
use async_nats::jetstream::message::StreamMessage;
use chrono::SecondsFormat;
use repull::client::{Client, Error, Expect, Message, Stored};
use repull::clock;
use repull::id::Lane;
use repull::wire::{Place, headers, read_headers};
use tracing::error;

/// The queue of dead messages whose own names none.
const NO_QUEUE: &str = "malformed";

/// Moves a message that is no job, or can't be read at all, to the dead jobs.
pub(crate) async fn bury(client: &Client, stream: &str, found: Found<'_>) -> Result<(), Error> {
    let (subject, sequence) = (found.subject.to_owned(), found.sequence);
    let reason = found.reason.clone();
    client.publish(&found.dead(client)).await?;
    let handle = client.stream_handle(stream).await?;
    handle.delete_message(sequence).await.map_err(|error| {
        client.failed(format!("delete message {sequence} of `{stream}`"), error)
    })?;
    error!(
        subject,
        sequence, reason, "moved a message to the dead jobs"
    );
    Ok(())
}

/// What is to be moved.
pub(crate) struct Found<'a> {
    subject: &'a str,
    sequence: u64,
    headers: HeaderMap,
    body: bytes::Bytes,
    reason: String,
    /// Tells its message id from those of other streams.
    place: Place,
}

impl<'a> Found<'a> {
    /// A message that can be read, and is no job.
    pub(crate) fn message(found: &'a StreamMessage, reason: &str) -> Self {
        Self {
            subject: &found.subject,
            sequence: found.sequence,
            headers: found.headers.clone(),
            body: found.payload.clone(),
            reason: reason.to_owned(),
            place: Place::Jobs,
        }
    }

    /// A message that can't be read; none where it can.
    pub(crate) fn unreadable(found: &'a Stored, place: Place) -> Option<Self> {
        let reason = found.read_headers().err()?.to_string();
        Some(Self {
            subject: &found.subject,
            sequence: found.sequence,
            headers: readable_lines(&found.headers),
            body: found.body.clone(),
            reason,
            place,
        })
    }

    /// As a dead message, in the form in which workers bury what they can't read.
    fn dead(self, client: &Client) -> Message {
        let namespace = client.namespace();
        let mut dead_headers = HeaderMap::new();
        for (name, values) in self.headers.iter() {
            let text: &str = name.as_ref();
            if !text.starts_with(headers::SERVER_PREFIX) {
                for value in values {
                    dead_headers.append(name.clone(), value.clone());
                }
            }
        }
        let died_at = clock::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        dead_headers.insert(headers::REASON, self.reason);
        dead_headers.insert(headers::DIED_AT, died_at);
        dead_headers.insert(headers::FOUND_ON, self.subject);
        let token = self.subject.split('.').nth(2).unwrap_or_default();
        let lane = token
            .parse::<Lane>()
            .map_or(NO_QUEUE.to_owned(), |lane| lane.to_string());
        let id = match self.place {
            Place::Jobs => format!("dead:{}", self.sequence),
            place => format!("dead:{}:{}", place.token(), self.sequence),
        };
        Message {
            subject: format!(
                "{namespace}.{}.{lane}.undecodable.{}",
                Place::Dead.token(),
                self.sequence
            ),
            headers: dead_headers,
            body: self.body,
            id,
            expect: Expect::Anything,
        }
    }
}

/// The lines of a block of headers that can be read by themselves.
fn readable_lines(block: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in block.split(|byte| *byte == b'\n').skip(1) {
        let alone = read_headers(&[b"NATS/1.0\r\n", line, b"\n"].concat()).unwrap_or_default();
        for (name, values) in alone.iter() {
            for value in values {
                headers.append(name.clone(), value.clone());
            }
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_of_headers_is_kept() {
        let block = b"NATS/1.0\r\nA: 1\r\nName: M\xfcller\r\nno colon\r\nB: x\ry\r\nC: 2\r\n\r\n";
        let headers = readable_lines(block);
        assert_eq!(headers.len(), 2);
        assert_eq!(headers.get("A").unwrap().as_str(), "1");
        assert_eq!(headers.get("C").unwrap().as_str(), "2");
    }
}
