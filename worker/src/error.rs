//! Why a worker did not start or ended before its time.

use std::time::Duration;

use crate::config::Problems;

/// Why a worker did not start, or ended without being told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What it was told is not valid.
    #[error("the worker's config is not valid: {0}")]
    Config(#[from] Problems),
    /// The server could not be asked for something the worker can't do without.
    #[error(transparent)]
    Client(#[from] repull::client::Error),
    /// The server of metrics and health did not start.
    #[error(transparent)]
    Http(#[from] repull::telemetry::HttpError),
    /// What it needs was not there in time.
    #[error("the worker could not start within {} s", .waited.as_secs())]
    NotStarted {
        /// How long it waited.
        waited: Duration,
        /// What was missing.
        #[source]
        source: Box<Error>,
    },
    /// The connection is closed for good.
    #[error("the connection to NATS is closed: {reason}")]
    Disconnected {
        /// What is known of the cause.
        reason: String,
    },
    /// The loop could not start or broke: a bug of ours.
    #[error("the worker's engine failed: {0}")]
    Engine(String),
    /// The watchdog gave up: nothing it tried brought the jobs back.
    #[error("the watchdog ended the worker after {waited:?}: {reason}")]
    Stalled {
        /// For how long it was wrong.
        waited: Duration,
        /// What was wrong.
        reason: String,
    },
}

/// The error and its causes in one line, each once: some libraries print their cause themselves
/// and also return it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !part.is_empty() && !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        source: Option<Box<Link>>,
    }

    fn link(text: &'static str, source: Option<Link>) -> Link {
        let source = source.map(Box::new);
        Link { text, source }
    }

    #[test]
    fn a_repeated_tail_is_told_once() {
        let error = link(
            "send failed: no route",
            Some(link("no route", Some(link("cable", None)))),
        );
        assert_eq!(chain(&error), "send failed: no route: cable");
    }
}
