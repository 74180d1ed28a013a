//! Whether a message in the work queue is of a job that is done, or that went on elsewhere.
//!
//! A worker may have died between the end of a job and its ack, and a server may have kept a message
//! whose ack it confirmed. Either message looks as if its job waited.

use super::{Client, Error};
use crate::job::Job;
use crate::wire::{self, Address, JobEvent, Place};

impl Client {
    /// Whether the job of the work queue's message `sequence` must not be run for it (any more): its
    /// outcome is stored, a newer message of it waits, or it was cancelled, or retried later.
    ///
    /// Of a job whose outcome is not kept, nothing tells that it succeeded: this answers false.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn is_superseded(&self, job: &Job, sequence: u64) -> Result<bool, Error> {
        let address = Address {
            lane: job.lane(),
            task: job.task.clone(),
            id: job.id.clone(),
        };
        let subject = |place| address.subject(self.namespace(), place);
        let last = self
            .last_on_subject(Place::Jobs, &subject(Place::Jobs))
            .await?;
        // Put back (a newer message), or cancelled while it was on its way (none).
        if last.is_none_or(|message| message.sequence != sequence) {
            return Ok(true);
        }
        let is_its_end =
            |event: &JobEvent| event.sequence == Some(sequence) && event.kind.is_outcome();
        if let Some(last) = self.last_event(&address).await? {
            // What a worker told that lost the job may have come after its outcome.
            let ended = is_its_end(&last) || {
                let events = self.events(&address).await?;
                events.iter().any(|(_, event)| is_its_end(event))
            };
            if ended {
                return Ok(true);
            }
        }
        let later = self
            .last_on_subject(Place::Later, &subject(Place::Later))
            .await?;
        let Some(message) = later else {
            return Ok(false);
        };
        let later = wire::decode(
            self.namespace(),
            Place::Later,
            &message.subject,
            Some(&message.headers),
            message.payload.clone(),
        );
        Ok(later
            .is_ok_and(|later| later.nonce == job.nonce && later.attempts_used > job.attempts_used))
    }
}
