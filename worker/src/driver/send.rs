//! Sending without waiting: while the connection is down, what would be sent is dropped.
//!
//! The client would otherwise queue it and send it after a reconnect, when the pulls are void and
//! the acks stale. Everything is said again by the engine's timers and at the new epoch.

use std::future::Future;
use std::task::Poll;
use std::time::Duration;

use async_nats::{PublishError, Subject};
use bytes::Bytes;
use repull::client::Message;
use tracing::debug;

use super::Driver;

/// How long the loop lets a connection catch up that takes less than the loop sends.
const BACK_PRESSURE: Duration = Duration::from_millis(500);

impl Driver {
    /// As of the beginning of this turn.
    fn is_connected(&self) -> bool {
        self.was_connected
    }

    /// Sends a message that asks for nothing.
    pub(super) async fn send(&self, subject: Subject, body: Bytes) {
        if self.is_connected() {
            sent(self.client.nats().publish(subject, body)).await;
        }
    }

    /// Sends a message and asks for a reply; false where it was not sent.
    pub(super) async fn send_for_reply(
        &self,
        subject: Subject,
        reply: String,
        body: Bytes,
    ) -> bool {
        self.is_connected()
            && sent(self.client.nats().publish_with_reply(subject, reply, body)).await
    }

    /// Publishes to a stream and asks for its confirmation.
    pub(super) async fn publish(&self, mut message: Message, reply: String) -> bool {
        if !self.is_connected() {
            return false;
        }
        let headers = message.take_wire_headers();
        sent(self.client.nats().publish_with_reply_and_headers(
            message.subject,
            reply,
            headers,
            message.body,
        ))
        .await
    }
}

async fn sent(publish: impl Future<Output = Result<(), PublishError>>) -> bool {
    let mut publish = std::pin::pin!(publish);
    // The client's queue has room nearly always: then no timer is made.
    let result = match futures_util::poll!(publish.as_mut()) {
        Poll::Ready(result) => Ok(result),
        Poll::Pending => tokio::time::timeout(BACK_PRESSURE, publish).await,
    };
    match result {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            debug!(%error, "can't send");
            false
        }
        Err(_) => {
            debug!("the connection takes nothing; dropped a message that will be sent again");
            false
        }
    }
}
