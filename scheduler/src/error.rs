//! Why a scheduler can't run.

use repull::topology::TopologyError;

/// Why a scheduler did not start or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option is out of its range.
    #[error("the scheduler can't be started: {0}")]
    Config(String),
    /// The streams are not as they must be.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The server could not be asked.
    #[error(transparent)]
    Client(#[from] repull::client::Error),
    /// A bucket can't be used.
    #[error("can't {action} bucket `{bucket}`: {reason}")]
    Bucket {
        /// What was tried.
        action: &'static str,
        /// The bucket.
        bucket: String,
        /// What the server said.
        reason: String,
    },
    /// A part of it ended that never should.
    #[error("{part} ended: {reason}")]
    Ended {
        /// Which part.
        part: &'static str,
        /// Why.
        reason: String,
    },
}
