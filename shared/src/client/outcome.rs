//! Outcomes and other events of jobs: looked up, or waited for without polling.

use std::time::Duration;

use futures_util::StreamExt;

use super::{Client, Enqueued, Error};
use crate::wire::{Address, JobEvent, Place};

/// How often a wait looks at the stream itself, in case the message was lost on a broken connection.
const RECHECK: Duration = Duration::from_secs(10);

impl Client {
    /// The last stored event of a job: its outcome, where it has ended.
    pub async fn last_event(&self, address: &Address) -> Result<Option<JobEvent>, Error> {
        let subject = address.subject(self.namespace(), Place::Results);
        let Some(message) = self.last_on_subject(Place::Results, &subject).await? else {
            return Ok(None);
        };
        JobEvent::decode(Some(&message.headers), message.payload)
            .map(Some)
            .map_err(|error| Error::Invalid(format!("event on `{subject}` can't be read: {error}")))
    }

    /// Waits for the outcome of a job that was enqueued, and of no earlier one of the same id.
    ///
    /// For ever; see [`Client::wait_at`].
    pub async fn wait(&self, enqueued: &Enqueued) -> Result<JobEvent, Error> {
        self.wait_at(&enqueued.address, enqueued.nonce.as_deref())
            .await
    }

    /// Waits for a job's outcome; for ever, so give it a deadline with `tokio::time::timeout`.
    ///
    /// The outcome arrives as a message the moment the worker publishes it. A job whose outcome is
    /// not kept never has one.
    pub async fn wait_at(&self, address: &Address, nonce: Option<&str>) -> Result<JobEvent, Error> {
        let is_outcome = |event: &JobEvent| {
            event.kind.is_outcome()
                && nonce.is_none_or(|nonce| event.nonce.as_deref() == Some(nonce))
        };
        let subject = address.subject(self.namespace(), Place::Results);
        let mut events = self
            .nats()
            .subscribe(subject.clone())
            .await
            .map_err(|error| self.failed(format!("subscribe to `{subject}`"), error))?;
        // The subscription must be with the server before we look at what is stored already.
        self.nats()
            .flush()
            .await
            .map_err(|error| self.failed("flush", error))?;
        loop {
            if let Some(event) = self.last_event(address).await?.filter(is_outcome) {
                return Ok(event);
            }
            let recheck = tokio::time::sleep(RECHECK);
            tokio::pin!(recheck);
            loop {
                tokio::select! {
                    message = events.next() => {
                        let Some(message) = message else {
                            return Err(self.failed(format!("wait for `{subject}`"), "the connection is closed"));
                        };
                        if let Ok(event) = JobEvent::decode(message.headers.as_ref(), message.payload)
                            && is_outcome(&event)
                        {
                            return Ok(event);
                        }
                    }
                    () = &mut recheck => break,
                }
            }
        }
    }
}
