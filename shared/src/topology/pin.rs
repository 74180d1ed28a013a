//! The pin: a message at the head of the work queue that is no job and stays there.
//!
//! Where the next message of a consumer may be the first of the stream, nats-server holds the
//! consumer's filter against every subject that the stream has (`LoadNextMsg` in its
//! `server/filestore.go`, 2.10.26 to 2.15.2). Each job has a subject of its own, and a worker that has
//! settled all that it was sent asks for just such a message, so that with few slots every pull cost
//! time in proportion to the jobs that wait. An older message that nobody consumes ends that: the
//! search then begins after it, where the consumer stands (`docs/decisions/0011-the-pin.md`).

use async_nats::HeaderMap;
use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use async_nats::jetstream::context::PublishErrorKind;
use tracing::debug;

use super::Topology;
use crate::connect::Connection;
use crate::id::Namespace;
use crate::wire::Place;

/// What the pin says to whoever finds it.
const BODY: &str = "This is no job. It stays at the head of the work queue, so that the server finds the next job \
     without looking at all of them. Where it is removed, the scheduler puts another in its place.";

impl Topology {
    /// The pin's subject: one token after the place's, which no consumer's filter matches.
    pub fn pin_subject(namespace: &Namespace) -> String {
        format!("{namespace}.{}.pin", Place::Jobs.token())
    }

    /// Puts the pin into the work queue where none is. Streams in memory get none: there the server
    /// searches in another way, and would remember each message that is removed behind it.
    ///
    /// Everything works without it, only slower, so that a failure is told in the log alone.
    pub async fn ensure_pin(&self, connection: &Connection) {
        if self.layout.in_memory {
            return;
        }
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
        let publish = connection.jetstream.publish_with_headers(
            Self::pin_subject(&self.namespace),
            headers,
            BODY.into(),
        );
        let stored = match publish.await {
            Ok(stored) => stored.await,
            Err(error) => Err(error),
        };
        match stored {
            Ok(_) => {}
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {}
            Err(error) => debug!(%error, "the work queue's pin can't be stored"),
        }
    }
}
