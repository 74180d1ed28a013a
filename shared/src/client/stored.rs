//! Single messages of a stream, from its leader and as they are stored.
//!
//! They come through the JetStream API, whose answers carry headers in base64: so a message that no
//! client can be sent ([`Unreadable`]) does not end the connection over which it is looked at.

use async_nats::HeaderMap;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::{Client, Error};
use crate::wire::{Unreadable, read_headers};

/// What the API says of things that are not there.
const NOT_FOUND: usize = 404;

/// A message as a stream holds it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Stored {
    /// Its subject; what is not UTF-8 in it is replaced.
    pub subject: String,
    /// Its sequence in the stream.
    #[serde(rename = "seq")]
    pub sequence: u64,
    /// When it was stored, by the server's clock.
    pub time: DateTime<Utc>,
    /// Its block of headers; empty where it has none.
    #[serde(rename = "hdrs", default, deserialize_with = "base64_bytes")]
    pub headers: Bytes,
    /// Its body.
    #[serde(rename = "data", default, deserialize_with = "base64_bytes")]
    pub body: Bytes,
}

/// The answer of `STREAM.MSG.GET` where there is such a message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StoredAnswer {
    /// The message.
    pub message: Stored,
}

fn base64_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = STANDARD.decode(text).map_err(serde::de::Error::custom)?;
    Ok(bytes.into())
}

impl Stored {
    /// Its headers.
    ///
    /// # Errors
    /// The message can't be sent to a client.
    pub fn read_headers(&self) -> Result<HeaderMap, Unreadable> {
        if self.subject.contains(char::REPLACEMENT_CHARACTER) {
            return Err(Unreadable::Subject);
        }
        read_headers(&self.headers)
    }

    /// The message as clients are sent it.
    ///
    /// # Errors
    /// It can't be sent to a client.
    pub fn read(self) -> Result<StreamMessage, Unreadable> {
        let headers = self.read_headers()?;
        Ok(StreamMessage {
            subject: self.subject.into(),
            sequence: self.sequence,
            headers,
            payload: self.body,
            time: self.time,
        })
    }
}

impl Client {
    /// The first message at or after `sequence` whose subject matches, readable or not.
    pub async fn stored_from(
        &self,
        stream: &str,
        filter: &str,
        sequence: u64,
    ) -> Result<Option<Stored>, Error> {
        let question = json!({ "seq": sequence.max(1), "next_by_subj": filter });
        let what = || format!("read stream `{stream}`");
        self.stored(stream, question, what).await
    }

    /// The first message at or after `sequence` whose subject matches, passing over what can't be
    /// read: the scheduler moves that to the dead jobs.
    pub async fn next_message(
        &self,
        stream: &str,
        filter: &str,
        sequence: u64,
    ) -> Result<Option<StreamMessage>, Error> {
        let mut from = sequence;
        while let Some(stored) = self.stored_from(stream, filter, from).await? {
            from = stored.sequence + 1;
            if let Ok(message) = stored.read() {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// The message of this sequence.
    pub async fn message_at(
        &self,
        stream: &str,
        sequence: u64,
    ) -> Result<Option<StreamMessage>, Error> {
        let what = || format!("read message {sequence} of stream `{stream}`");
        let found = self
            .stored(stream, json!({ "seq": sequence }), what)
            .await?;
        self.readable(found, what)
    }

    /// The last message on a subject of a stream.
    pub(super) async fn last_message(
        &self,
        stream: &str,
        subject: &str,
    ) -> Result<Option<StreamMessage>, Error> {
        let what = || format!("read the last message on `{subject}`");
        let question = json!({ "last_by_subj": subject });
        let found = self.stored(stream, question, what).await?;
        self.readable(found, what)
    }

    fn readable(
        &self,
        found: Option<Stored>,
        what: impl FnOnce() -> String,
    ) -> Result<Option<StreamMessage>, Error> {
        let message = found.map(Stored::read).transpose();
        message.map_err(|error| self.failed(what(), error))
    }

    async fn stored(
        &self,
        stream: &str,
        question: Value,
        what: impl Fn() -> String,
    ) -> Result<Option<Stored>, Error> {
        let answer: Response<StoredAnswer> = self
            .jetstream()
            .request(format!("STREAM.MSG.GET.{stream}"), &question)
            .await
            .map_err(|error| self.failed(what(), error))?;
        match answer {
            Response::Ok(answer) => Ok(Some(answer.message)),
            // No such message, or no such stream: one that is being made anew holds nothing yet.
            Response::Err { error } if error.code() == NOT_FOUND => Ok(None),
            Response::Err { error } => Err(self.failed(what(), error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(hdrs: &[u8]) -> Stored {
        let json = json!({
            "subject": "repull.jobs.q.t.j", "seq": 7, "data": "e30=",
            "hdrs": STANDARD.encode(hdrs), "time": "2026-11-23T10:00:00.5Z",
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_message_is_read_from_the_answer_of_the_api() {
        let message = stored(b"NATS/1.0\r\nA: 1\r\n\r\n").read().unwrap();
        assert_eq!((message.sequence, &message.payload[..]), (7, &b"{}"[..]));
        assert_eq!(message.headers.get("A").unwrap().as_str(), "1");
        let bare: Stored = serde_json::from_value(json!({
            "subject": "s", "seq": 1, "time": "2026-11-23T10:00:00Z",
        }))
        .unwrap();
        assert!(bare.read().unwrap().headers.is_empty());
    }

    #[test]
    fn one_that_no_client_can_be_sent_says_why() {
        let bad = stored(b"NATS/1.0\r\nA: \xff\r\n\r\n");
        assert_eq!(bad.read_headers(), Err(Unreadable::NotText));
        let mut bad = stored(b"");
        bad.subject.push(char::REPLACEMENT_CHARACTER);
        assert_eq!(bad.read_headers(), Err(Unreadable::Subject));
    }
}
