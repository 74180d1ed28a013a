//! A handler's future whose panics end as values, wherever they happen.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Poll, ready};

use tracing::error;

use super::handler::{Handler, HandlerFuture};
use super::{Context, Output, TaskError};

/// How a handler's code ended: what it returned, or what it panicked with.
pub(super) type Finish = Result<Result<Output, TaskError>, String>;

/// A handler that was called.
///
/// Its future is dropped the moment it ends, with a panic of the drop caught: what a handler leaves
/// behind can't take the worker's loop down.
pub(super) struct Guard {
    future: Option<HandlerFuture>,
}

impl Guard {
    /// Calls the handler, up to its first await.
    pub(super) fn call(handler: &Handler, context: Context) -> Result<Self, String> {
        let called = catch_unwind(AssertUnwindSafe(|| handler(context)));
        Ok(Self {
            future: Some(called.map_err(describe)?),
        })
    }

    /// Polls the handler. Not to be called again after it was ready.
    pub(super) fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Finish> {
        let Some(future) = &mut self.future else {
            return Poll::Ready(Err("it was polled after its end".to_owned()));
        };
        let finish = match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => Ok(ready!(poll)),
            Err(payload) => Err(describe(payload)),
        };
        self.drop_future();
        Poll::Ready(finish)
    }

    fn drop_future(&mut self) {
        let Some(future) = self.future.take() else {
            return;
        };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(future))) {
            error!(panic = %describe(payload), "a handler panicked while it was dropped");
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.drop_future();
    }
}

/// A panic's message.
fn describe(payload: Box<dyn Any + Send>) -> String {
    let message = match payload.downcast_ref::<&'static str>() {
        Some(text) => Some((*text).to_owned()),
        None => payload.downcast_ref::<String>().cloned(),
    };
    // A payload of another type may itself panic when dropped.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    message.unwrap_or_else(|| "a value that is no text".to_owned())
}
