//! Cancelling an attempt, with the reason why.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio_util::sync::CancellationToken;

/// Why an attempt was cancelled. A later variant outweighs an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelReason {
    /// The job's deadline passed.
    Deadline,
    /// The worker drains and its drain time is over.
    Drain,
    /// The worker stops now: the handler gets no time to end by itself.
    Stop,
    /// Somebody cancelled the job; the text says who or why.
    Requested(String),
    /// The job may be with another worker already.
    LeaseLost,
}

impl CancelReason {
    fn weight(&self) -> u8 {
        match self {
            Self::Deadline => 1,
            Self::Drain => 2,
            Self::Stop => 3,
            Self::Requested(_) => 4,
            Self::LeaseLost => 5,
        }
    }
}

impl fmt::Display for CancelReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline => f.write_str("the job's deadline has passed"),
            Self::Drain => f.write_str("the worker drains"),
            Self::Stop => f.write_str("the worker stops"),
            Self::Requested(text) if text.is_empty() => f.write_str("cancelled"),
            Self::Requested(text) => write!(f, "cancelled: {text}"),
            Self::LeaseLost => f.write_str("the worker lost the job's lease"),
        }
    }
}

/// Cancels one attempt. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    // Made when somebody cancels or waits for it, which for most short jobs is never.
    token: OnceLock<CancellationToken>,
    /// Fires where the handler gets no time to end by itself.
    at_once: OnceLock<CancellationToken>,
    reason: Mutex<Option<CancelReason>>,
}

impl Cancel {
    /// One that has not fired.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels the attempt. Of several reasons the weightiest counts: what a drain began, a lost
    /// lease overrules.
    pub fn cancel(&self, reason: CancelReason) {
        let at_once = reason == CancelReason::Stop;
        {
            let mut slot = self.lock();
            if slot
                .as_ref()
                .is_none_or(|first| first.weight() < reason.weight())
            {
                *slot = Some(reason);
            }
        }
        self.token().cancel();
        if at_once {
            self.at_once().cancel();
        }
    }

    /// Fires the token because the attempt took longer than its timeout, which is no reason from
    /// outside.
    pub(super) fn time_out(&self) {
        self.token().cancel();
    }

    /// Why it was cancelled. None where it was not, or where only its own timeout ended it.
    pub fn reason(&self) -> Option<CancelReason> {
        self.lock().clone()
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        let token = self.inner.token.get();
        token.is_some_and(CancellationToken::is_cancelled)
    }

    /// The token that fires with it.
    pub fn token(&self) -> &CancellationToken {
        self.inner.token.get_or_init(CancellationToken::new)
    }

    /// The token that fires where the handler is to be dropped without waiting for it.
    pub(super) fn at_once(&self) -> &CancellationToken {
        self.inner.at_once.get_or_init(CancellationToken::new)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<CancelReason>> {
        self.inner
            .reason
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weightiest_reason_counts_whatever_came_first() {
        let cancel = Cancel::new();
        assert_eq!(cancel.reason(), None);
        cancel.cancel(CancelReason::Drain);
        cancel.cancel(CancelReason::Deadline);
        assert_eq!(cancel.reason(), Some(CancelReason::Drain));
        cancel.cancel(CancelReason::LeaseLost);
        cancel.cancel(CancelReason::Requested("me".into()));
        assert_eq!(cancel.reason(), Some(CancelReason::LeaseLost));
        assert!(cancel.is_cancelled() && !cancel.at_once().is_cancelled());
        cancel.cancel(CancelReason::Stop);
        assert!(cancel.at_once().is_cancelled());
    }
}
