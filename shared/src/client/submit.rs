//! One submit: how a job gets to its place once, and what becomes of it where another is there.
//!
//! The broker itself refuses a second message of a job's subject in one place. That a job waits in
//! the other place, or has ended, is looked up before, in the order later, work queue, outcomes: that
//! is the order in which nothing slips through, for a job is stored in its next place before it
//! leaves the one before, and a retry is told of among the outcomes before the message goes.

use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;

use super::enqueue::{Enqueued, Prepared};
use super::publish::{Expect, PublishError, Published};
use super::{Client, Error};
use crate::unique::OnConflict;
use crate::wire::{self, Place};

/// How often a submit that finds the ground moving looks again.
const TRIES_MAX: u32 = 8;

/// A job about to be stored.
pub(super) struct Submit<'c> {
    pub(super) client: &'c Client,
    pub(super) job: Prepared,
    pub(super) on_conflict: OnConflict,
}

/// A job of the same id.
struct Holder {
    place: Place,
    nonce: Option<String>,
    /// Its message, where it has not ended.
    message: Option<StreamMessage>,
}

impl Submit<'_> {
    /// A job with an id of nobody's choosing.
    pub(super) async fn plainly(self) -> Result<Enqueued, PublishError> {
        match self.client.publish(&self.job.message).await? {
            Published::Stored { .. } => Ok(self.enqueued(false)),
            // Its own message, from an earlier try that had no clear answer.
            Published::Unexpected { .. } => {
                let found = self.on(self.job.place).await.ok().flatten();
                Ok(self.kept(found.as_ref(), self.job.place))
            }
        }
    }

    /// A job that is there once while it is queued, running or later.
    pub(super) async fn uniquely(self) -> Result<Enqueued, PublishError> {
        // Without an answer the work queue's own refusal must do.
        let elsewhere = self.on(self.other_place()).await.ok().flatten();
        if let Some(holder) = elsewhere {
            return self.meet(holder).await;
        }
        match self.client.publish(&self.job.message).await? {
            Published::Stored { .. } => Ok(self.enqueued(false)),
            Published::Unexpected { .. } => match self.on(self.job.place).await {
                Ok(Some(holder)) => self.meet(holder).await,
                // It ran between the refusal and our look.
                _ => self.met(None).await,
            },
        }
    }

    /// A job that is there once in its period, also when it has ended.
    ///
    /// A job that came and ended since the look was published under the same message id, which the
    /// stream knows for longer than there is between a look and a publish.
    pub(super) async fn once(mut self) -> Result<Enqueued, PublishError> {
        let found = self.anywhere().await.map_err(|error| self.unseen(&error))?;
        if let Some(holder) = found {
            return self.meet(holder).await;
        }
        self.job.message.id = format!("once:{}", self.job.message.subject);
        match self.client.publish(&self.job.message).await? {
            Published::Stored {
                duplicate: false, ..
            } => Ok(self.enqueued(false)),
            Published::Stored {
                duplicate: true, ..
            }
            | Published::Unexpected { .. } => {
                let found = self.anywhere().await.map_err(|error| self.unsure(&error))?;
                match found {
                    Some(holder) => self.meet(holder).await,
                    None => self.met(None).await,
                }
            }
        }
    }

    /// Does what the submit says about a job that is there.
    async fn meet(self, holder: Holder) -> Result<Enqueued, PublishError> {
        if holder.nonce.as_ref() == Some(&self.job.nonce) {
            // It is ours, from a try that had no clear answer.
            return Ok(self.enqueued(false));
        }
        if self.on_conflict == OnConflict::Replace {
            return self.replace(holder).await;
        }
        self.met(Some(&holder)).await
    }

    /// Leaves the job that is there alone.
    async fn met(&self, holder: Option<&Holder>) -> Result<Enqueued, PublishError> {
        match self.on_conflict {
            OnConflict::Refuse => Err(PublishError::Taken {
                subject: match holder {
                    Some(holder) => self.subject(holder.place),
                    None => self.job.message.subject.clone(),
                },
            }),
            OnConflict::Keep | OnConflict::Replace => Ok(self.kept(holder, self.job.place)),
        }
    }

    /// Takes the place of a job that waits. Stored first, removed then: were it the other way round,
    /// a crash in between would lose both.
    async fn replace(mut self, mut holder: Holder) -> Result<Enqueued, PublishError> {
        for _ in 0..TRIES_MAX {
            let Some(waiting) = self.waiting(&holder).await? else {
                return Ok(self.kept(Some(&holder), holder.place));
            };
            self.job.message.expect = match holder.place == self.job.place {
                true => Expect::Last(waiting.sequence),
                false => Expect::Nothing,
            };
            self.job.message.id.clone_from(&self.job.nonce);
            match self.client.publish(&self.job.message).await? {
                Published::Stored { .. } => {
                    let replaced = self.remove(&holder, &waiting).await?;
                    return Ok(self.enqueued(replaced));
                }
                Published::Unexpected { .. } => {}
            }
            // It started, ended or was replaced by another: whatever is there now.
            let found = match self.on(Place::Later).await {
                Ok(None) => self.on(Place::Jobs).await,
                found => found,
            };
            match found.map_err(|error| self.unsure(&error))? {
                Some(found) if found.nonce.as_ref() == Some(&self.job.nonce) => {
                    return Ok(self.enqueued(false));
                }
                Some(found) => holder = found,
                None => holder.message = None,
            }
        }
        Ok(self.kept(Some(&holder), holder.place))
    }

    /// The holder's message, where it waits and no worker has it.
    async fn waiting(&self, holder: &Holder) -> Result<Option<StreamMessage>, PublishError> {
        let Some(message) = &holder.message else {
            return Ok(None);
        };
        let is_delivered = holder.place == Place::Jobs
            && self
                .client
                .is_delivered(&self.job.address.lane, message.sequence)
                .await
                .map_err(|error| self.unseen(&error))?;
        Ok((!is_delivered).then(|| message.clone()))
    }

    /// Removes a job that was replaced, and says so as its outcome; false where it has gone its way.
    async fn remove(&self, holder: &Holder, message: &StreamMessage) -> Result<bool, PublishError> {
        let client = self.client;
        // Of later messages the stream keeps one a subject: the publish itself replaced it.
        let is_removed = match (holder.place, self.job.place) {
            (Place::Later, Place::Later) => Ok(true),
            (place, _) => client.remove_message(place, message.sequence).await,
        };
        let half_replaced = |error: Error| PublishError::HalfReplaced {
            subject: self.job.message.subject.clone(),
            reason: error.to_string(),
        };
        if !is_removed.map_err(half_replaced)? {
            return Ok(false);
        }
        let reason = "replaced by a later submit";
        let address = &self.job.address;
        let told = client.tell_cancelled(address, message, reason).await;
        told.map_err(half_replaced)?;
        Ok(true)
    }

    /// The job of this id, waiting, running or ended.
    async fn anywhere(&self) -> Result<Option<Holder>, Error> {
        for place in [Place::Later, Place::Jobs, Place::Results] {
            if let Some(holder) = self.on(place).await? {
                return Ok(Some(holder));
            }
        }
        Ok(None)
    }

    /// The job of this id in a place.
    async fn on(&self, place: Place) -> Result<Option<Holder>, Error> {
        let subject = self.subject(place);
        let found = self.client.last_on_subject(place, &subject).await?;
        Ok(found.map(|message| Holder {
            place,
            nonce: message
                .headers
                .get_last(wire::headers::NONCE)
                .map(ToString::to_string),
            message: (place != Place::Results).then_some(message),
        }))
    }

    fn subject(&self, place: Place) -> String {
        self.job.address.subject(self.client.namespace(), place)
    }

    fn other_place(&self) -> Place {
        match self.job.place {
            Place::Jobs => Place::Later,
            _ => Place::Jobs,
        }
    }

    fn enqueued(&self, replaced: bool) -> Enqueued {
        Enqueued {
            address: self.job.address.clone(),
            is_new: true,
            replaced,
            place: self.job.place,
            nonce: Some(self.job.nonce.clone()),
        }
    }

    /// The job that is there; ours, where an earlier try stored it without telling us.
    fn kept(&self, holder: Option<&Holder>, place: Place) -> Enqueued {
        let nonce = holder.and_then(|holder| holder.nonce.clone());
        Enqueued {
            is_new: nonce.as_ref() == Some(&self.job.nonce),
            place: holder.map_or(place, |holder| holder.place),
            nonce,
            ..self.enqueued(false)
        }
    }

    /// Whether another is there is not known, and ours was not published.
    fn unseen(&self, error: &Error) -> PublishError {
        PublishError::Unseen {
            subject: self.job.message.subject.clone(),
            reason: error.to_string(),
        }
    }

    /// Whether ours is there is not known.
    fn unsure(&self, error: &Error) -> PublishError {
        PublishError::Unconfirmed {
            subject: self.job.message.subject.clone(),
            waited: Duration::ZERO,
            reason: error.to_string(),
        }
    }
}
