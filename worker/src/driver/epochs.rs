//! From one inbox to the next: after a reconnect, when pulls go unanswered, when a queue is paused,
//! and from the last one to none when the worker drains.
//!
//! A job that was sent to an inbox and not read from it comes again after its lease, as another
//! attempt. So an inbox that is left is read to its end: what has arrived counts against the pulls
//! that asked for it, and what still comes is run if a slot is free and handed back if not. And it
//! stays subscribed for a moment: the client stops listening to a subscription before the server
//! confirms its end, so a job that is on its way just then would be lost. Where jobs stream in, the
//! old pulls are filled by then; where none do, none is on its way.

use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::{Driver, TURN_MAX};
use crate::control::Control;
use crate::engine::{Epoch, Event};
use crate::inbox::{Arrival, Inbox};

/// How long the open pulls of an inbox that is left may still be filled.
const LEAVE_WITHIN: Duration = Duration::from_millis(250);

/// The most inboxes that are read besides the current one.
const RETIRED_MAX: usize = 4;

/// An inbox that was left.
pub(super) struct Retired {
    inbox: Inbox,
    /// When its subscriptions are given up; none once they are.
    leave_at: Option<Instant>,
}

impl Driver {
    /// Notices a connection that was lost or came back. Read from the client's own count, since its
    /// events can be lost.
    pub(super) fn check_connection(&mut self) {
        let nats = self.client.nats();
        let connects = nats.statistics().connects.load(Ordering::Relaxed);
        let connected = nats.connection_state() == async_nats::connection::State::Connected;
        if connected != self.was_connected {
            self.was_connected = connected;
            self.metrics.connected.set(connected.into());
            self.pulse.connected(connected);
            if !connected {
                self.tell(Event::Disconnected);
            }
        }
        if !connected {
            self.check_credentials();
        }
        if connects != self.connects && connected {
            self.connects = connects;
            self.metrics.reconnects.inc();
            self.book.disconnected();
            warn!("the connection came back; starting a new epoch");
            self.pulls_are_void = true;
            self.open_epoch();
        }
    }

    /// Makes fresh subscriptions, off the loop. Until they are there the old ones stay.
    pub(super) fn open_epoch(&mut self) {
        self.epoch = Epoch(self.epoch.0 + 1);
        if self.draining {
            // Answers go on over the old inbox, which the client has subscribed again by itself.
            self.tell(Event::EpochChanged { epoch: self.epoch });
            return;
        }
        self.opening = true;
        let (epoch, lanes, nats) = (self.epoch, self.inbox_lanes, self.client.nats().clone());
        let control = self.control_sender.clone();
        tokio::spawn(async move {
            let message = match Inbox::open(&nats, epoch, lanes).await {
                Ok(inbox) => Control::EpochOpened(inbox),
                Err(_) => Control::EpochFailed(epoch),
            };
            let _ = control.send(message).await;
        });
    }

    /// The subscriptions that were asked for are there, unless even newer ones were asked for since.
    pub(super) async fn on_epoch_opened(&mut self, inbox: Inbox) {
        if inbox.epoch != self.epoch || self.draining {
            return;
        }
        let mut arrivals = self.inbox.take_buffered();
        self.take_arrivals(&mut arrivals).await;
        self.opening = false;
        // A server to which the client came back may serve the old pulls on, beside the new ones.
        let grace = match std::mem::take(&mut self.pulls_are_void) {
            true => Duration::ZERO,
            false => LEAVE_WITHIN,
        };
        let old = std::mem::replace(&mut self.inbox, inbox);
        if self.retired.len() == RETIRED_MAX {
            self.retired.remove(0);
        }
        self.retired.push(Retired {
            inbox: old,
            leave_at: Some(Instant::now() + grace),
        });
        self.leave_lanes();
        self.tell(Event::EpochChanged { epoch: self.epoch });
    }

    pub(super) fn on_epoch_failed(&mut self, epoch: Epoch) {
        if epoch == self.epoch && !self.draining {
            self.open_epoch();
        }
    }

    /// Reads the current inbox, and those that were left until they are empty.
    ///
    /// # Errors
    /// The client is dead for good.
    pub(super) fn poll_inboxes(
        &mut self,
        context: &mut Context<'_>,
        arrivals: &mut Vec<Arrival>,
    ) -> Result<usize, crate::inbox::Closed> {
        let before = arrivals.len();
        self.retired.retain_mut(|old| {
            let inbox = &mut old.inbox;
            let alive = inbox.poll_arrivals(context, arrivals, TURN_MAX).is_ok();
            alive && !inbox.is_drained()
        });
        self.inbox.poll_arrivals(context, arrivals, TURN_MAX)?;
        Ok(arrivals.len() - before)
    }

    /// Takes no more jobs. What is on its way still arrives, and is handed back.
    pub(super) fn begin_drain(&mut self) {
        self.draining = true;
        self.leave_by = Some(Instant::now() + LEAVE_WITHIN);
        self.pulse.draining();
        info!(
            running = self.slots.stats().running,
            "draining: taking no more jobs"
        );
        self.tell(Event::Drain);
    }

    /// Gives up the subscriptions of inboxes that were left, and of a draining worker's lanes, when
    /// their open pulls have had the time to be filled.
    pub(super) fn leave_lanes(&mut self) {
        for old in &mut self.retired {
            if old.leave_at.is_some_and(|at| Instant::now() >= at) {
                old.leave_at = None;
                old.inbox.retire();
            }
        }
        let Some(leave_by) = self.leave_by else {
            return;
        };
        let coming = self.slots.has_backlog() && self.slots.stats().promised > 0;
        if !coming || !self.was_connected || Instant::now() >= leave_by {
            self.leave_by = None;
            self.inbox.drain_lanes();
        }
    }

    /// When [`Self::leave_lanes`] has something to do.
    pub(super) fn next_leave(&self) -> Option<Instant> {
        let retired = self.retired.iter().filter_map(|old| old.leave_at);
        retired.chain(self.leave_by).min()
    }

    /// Whether the lanes have been drained to their end and the engine does not know yet.
    pub(super) fn has_unseen_drain(&self) -> bool {
        self.draining && !self.opening && self.inbox.is_drained()
    }

    /// Tells the engine that nothing more can come.
    pub(super) fn see_drain(&mut self) {
        if self.has_unseen_drain() {
            self.epoch = Epoch(self.epoch.0 + 1);
            self.inbox.epoch = self.epoch;
            self.opening = true;
            self.tell(Event::EpochChanged { epoch: self.epoch });
        }
    }
}
