//! Reading a stream through: what listings are made of.
//!
//! An ordered consumer of the server's, without acks, from a point in the stream to where it ended
//! when we came by. It disturbs nobody; on a work queue, which allows no such reader, messages are
//! fetched one by one instead.

use std::ops::ControlFlow;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{DeliverPolicy, ReplayPolicy, push};
use async_nats::jetstream::stream::Stream;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::json;

use super::{Client, Error};
use crate::wire::Place;

/// After how long without a message a scan asks whether there is one left.
const QUIET: Duration = Duration::from_secs(2);

/// How often a scan may find itself without the message that is there before it gives up.
const QUIET_MAX: u32 = 10;

/// What a scan yields.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) subject: String,
    pub(crate) sequence: u64,
    pub(crate) stored_at: DateTime<Utc>,
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) body: Bytes,
}

/// What a scan reads.
#[derive(Debug, Clone)]
pub(crate) struct Scan {
    pub(crate) stream: String,
    pub(crate) filter: String,
    pub(crate) from: DeliverPolicy,
    pub(crate) headers_only: bool,
}

impl Client {
    /// A stream to ask things of, without asking it anything yet.
    pub async fn stream_handle(&self, name: &str) -> Result<Stream<()>, Error> {
        self.jetstream()
            .get_stream_no_info(name)
            .await
            .map_err(|error| self.failed(format!("use stream `{name}`"), error))
    }

    /// Reads what `scan` says, oldest first, until its end or until `each` breaks.
    pub(crate) async fn scan<F>(&self, scan: Scan, mut each: F) -> Result<(), Error>
    where
        F: FnMut(Scanned) -> ControlFlow<()>,
    {
        let what = || format!("read stream `{}`", scan.stream);
        let consumer = self
            .stream_handle(&scan.stream)
            .await?
            .create_consumer(push::OrderedConfig {
                deliver_subject: self.nats().new_inbox(),
                description: Some("Repull: a listing".to_owned()),
                filter_subject: scan.filter.clone(),
                replay_policy: ReplayPolicy::Instant,
                deliver_policy: scan.from,
                headers_only: scan.headers_only,
                ..push::OrderedConfig::default()
            })
            .await
            .map_err(|error| self.failed(what(), error))?;
        if consumer.cached_info().num_pending == 0 {
            return Ok(());
        }
        let mut messages = consumer
            .messages()
            .await
            .map_err(|error| self.failed(what(), error))?;
        let (mut last, mut quiet) = (0, 0);
        loop {
            let Ok(next) = tokio::time::timeout(QUIET, messages.next()).await else {
                // What was pending when we came may have been removed meanwhile.
                quiet += 1;
                let left = self
                    .next_message(&scan.stream, &scan.filter, last + 1)
                    .await?;
                if left.is_none() {
                    return Ok(());
                }
                if quiet == QUIET_MAX {
                    return Err(self.failed(what(), "the server stopped sending"));
                }
                continue;
            };
            let Some(next) = next else { return Ok(()) };
            let message = next.map_err(|error| self.failed(what(), error))?;
            let info = message.info().map_err(|error| self.failed(what(), error))?;
            (last, quiet) = (info.stream_sequence, 0);
            let (sequence, stored_at, pending) =
                (info.stream_sequence, info.published, info.pending);
            let message = message.message;
            let flow = each(Scanned {
                subject: message.subject.into_string(),
                sequence,
                stored_at,
                headers: message.headers,
                body: message.payload,
            });
            if pending == 0 || flow.is_break() {
                return Ok(());
            }
        }
    }

    /// Removes a message; false where it was not there any more.
    pub(super) async fn remove_message(&self, place: Place, sequence: u64) -> Result<bool, Error> {
        #[cfg(feature = "test")]
        if let Some(memory) = self.memory() {
            return Ok(memory.delete(place, sequence));
        }
        let name = place.stream(self.namespace());
        let stream = self.stream_handle(&name).await?;
        match stream.delete_message(sequence).await {
            Ok(_) => Ok(true),
            Err(error) => match self.message_at(&name, sequence).await? {
                None => Ok(false),
                Some(_) => {
                    Err(self.failed(format!("remove message {sequence} of `{name}`"), error))
                }
            },
        }
    }

    /// All subjects of a stream that match, with their counts. Pages of 100,000: not for hot paths.
    pub async fn subjects(
        &self,
        stream: &str,
        filter: &str,
    ) -> Result<Vec<(String, usize)>, Error> {
        let what = || format!("list the subjects of stream `{stream}`");
        let mut page = self
            .stream_handle(stream)
            .await?
            .info_with_subjects(filter)
            .await
            .map_err(|error| self.failed(what(), error))?;
        let mut subjects = Vec::new();
        while let Some(subject) = page.next().await {
            subjects.push(subject.map_err(|error| self.failed(what(), error))?);
        }
        Ok(subjects)
    }

    /// How many subjects of a stream match. The server counts; nothing is listed.
    pub async fn count_subjects(&self, stream: &str, filter: &str) -> Result<u64, Error> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            total: u64,
            error: Option<async_nats::jetstream::Error>,
        }
        let what = || format!("count the subjects of stream `{stream}`");
        // An offset behind the last subject asks for none of them, and the total comes with any page.
        let question = json!({ "subjects_filter": filter, "offset": i32::MAX });
        let answer: Answer = self
            .jetstream()
            .request(format!("STREAM.INFO.{stream}"), &question)
            .await
            .map_err(|error| self.failed(what(), error))?;
        match answer.error {
            Some(error) => Err(self.failed(what(), error)),
            None => Ok(answer.total),
        }
    }
}
