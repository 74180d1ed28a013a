//! Outcomes and other events of jobs: looked up, or waited for without polling.

use std::time::Duration;

use futures_util::StreamExt;

use super::{Client, Enqueued, Error};
use crate::wire::{Address, JobEvent, Place};

/// When a wait looks at the stream itself for the second time.
///
/// A server hands a message to its subscribers when it arrives and stores it a moment later. One that
/// arrived just before our subscription may not be stored yet when we look first: neither shows it.
const RECHECK_FIRST: Duration = Duration::from_millis(20);

/// The longest time between two looks, in case the message was lost on a broken connection.
const RECHECK_MAX: Duration = Duration::from_secs(10);

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
        let is_outcome = |event: &JobEvent| is_outcome_of(event, nonce);
        #[cfg(feature = "test")]
        if let Some(memory) = self.memory() {
            let mut changes = memory.watch();
            loop {
                if let Some(event) = self.stored_outcome(address, nonce).await? {
                    return Ok(event);
                }
                // The memory lives as long as this client.
                let _ = changes.changed().await;
            }
        }
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
        let mut pause = RECHECK_FIRST;
        loop {
            if let Some(event) = self.stored_outcome(address, nonce).await? {
                return Ok(event);
            }
            let recheck = tokio::time::sleep(pause);
            pause = (pause * 4).min(RECHECK_MAX);
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

    /// The outcome of this enqueue, where it is stored. It is the last event, unless another job of
    /// the same id came after it, or something that was held up in a network.
    async fn stored_outcome(
        &self,
        address: &Address,
        nonce: Option<&str>,
    ) -> Result<Option<JobEvent>, Error> {
        let Some(last) = self.last_event(address).await? else {
            return Ok(None);
        };
        if nonce.is_none() || is_outcome_of(&last, nonce) {
            return Ok(Some(last).filter(|event| is_outcome_of(event, nonce)));
        }
        let events = self.events(address).await?.into_iter();
        let mut events = events.map(|(_, event)| event);
        Ok(events.find(|event| is_outcome_of(event, nonce)))
    }
}

/// Whether an event is an outcome, and of this enqueue where one is named.
fn is_outcome_of(event: &JobEvent, nonce: Option<&str>) -> bool {
    event.kind.is_outcome() && (nonce.is_none() || event.nonce.as_deref() == nonce)
}
