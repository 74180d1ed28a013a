//! What a handler says when it is not done: try again, give up, later, or cancelled.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::{CancelReason, Ending};
use crate::error::chain;

/// Any error, as `tower` layers pass it on.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why a handler did not succeed, and what shall follow.
///
/// Any error converts into one that is tried again, with its causes in the text, so `?` works:
///
/// ```
/// use std::time::Duration;
/// use repull_worker::TaskError;
///
/// fn port(text: &str) -> Result<u16, TaskError> {
///     if text.is_empty() {
///         return Err(TaskError::permanent("no port was given"));
///     }
///     if text == "soon" {
///         return Err(TaskError::snooze(Duration::from_secs(60)));
///     }
///     Ok(text.parse()?)
/// }
///
/// assert!(port("").unwrap_err().is_permanent());
/// assert_eq!(port("x").unwrap_err().to_string(), "invalid digit found in string");
/// ```
///
/// Errors of `anyhow` and boxed ones are no `std::error::Error` themselves; name the constructor:
/// `.map_err(TaskError::retry)?`.
pub struct TaskError {
    kind: Kind,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Retry { delay: Option<Duration> },
    Permanent,
    Snooze { delay: Duration },
    Cancelled,
}

impl TaskError {
    /// Failed; try again when the backoff says so. Takes a text or any error.
    pub fn retry(error: impl Into<BoxError>) -> Self {
        Self::of(Kind::Retry { delay: None }, error.into())
    }

    /// Failed; try again after `delay` instead of the backoff's.
    pub fn retry_in(delay: Duration, error: impl Into<BoxError>) -> Self {
        Self::of(Kind::Retry { delay: Some(delay) }, error.into())
    }

    /// Failed for good: the job goes to the dead letters without another attempt.
    pub fn permanent(error: impl Into<BoxError>) -> Self {
        Self::of(Kind::Permanent, error.into())
    }

    /// Not failed: run again after `delay`. Uses no attempt.
    pub fn snooze(delay: Duration) -> Self {
        Self {
            kind: Kind::Snooze { delay },
            text: format!("snoozed for {}", humantime::format_duration(delay)),
        }
    }

    /// The job ends as cancelled, because of `reason`.
    pub fn cancelled(reason: impl Into<String>) -> Self {
        Self {
            kind: Kind::Cancelled,
            text: reason.into(),
        }
    }

    /// The same outcome with `context` before its text, as in `context: text`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.text = format!("{context}: {}", self.text);
        self
    }

    /// Whether no further attempt follows.
    pub fn is_permanent(&self) -> bool {
        self.kind == Kind::Permanent
    }

    /// Whether it is a failure at all, and neither a snooze nor a cancellation.
    pub fn is_failure(&self) -> bool {
        matches!(self.kind, Kind::Retry { .. } | Kind::Permanent)
    }

    fn of(kind: Kind, error: BoxError) -> Self {
        let text = chain(&*error);
        Self { kind, text }
    }

    /// What came through a layer that passes on any error: the handler's own word where it is one,
    /// else a failure of the layer's that is tried again.
    pub fn unbox(error: BoxError) -> Self {
        match error.downcast::<Boxed>() {
            Ok(boxed) => boxed.0,
            Err(error) => Self::retry(error),
        }
    }

    pub(super) fn into_ending(self) -> Ending {
        let error = self.text;
        match self.kind {
            Kind::Retry { delay: None } => Ending::Failed { error },
            Kind::Retry { delay: Some(delay) } => Ending::RetryIn { error, delay },
            Kind::Permanent => Ending::Permanent { error },
            Kind::Snooze { delay } => Ending::Snoozed { delay },
            Kind::Cancelled => Ending::Cancelled {
                reason: CancelReason::Requested(error),
            },
        }
    }
}

// `TaskError` itself is deliberately no `std::error::Error`: that is what allows this.
impl<E: Error> From<E> for TaskError {
    fn from(error: E) -> Self {
        Self {
            kind: Kind::Retry { delay: None },
            text: chain(&error),
        }
    }
}

/// A [`TaskError`] on its way through layers that want an error.
#[derive(Debug)]
struct Boxed(TaskError);

impl fmt::Display for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Boxed {}

impl From<TaskError> for BoxError {
    fn from(error: TaskError) -> Self {
        Box::new(Boxed(error))
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskError")
            .field("kind", &self.kind)
            .field("text", &self.text)
            .finish()
    }
}
