//! What a handler returns when it is done.

use bytes::Bytes;
use serde::Serialize;

use super::TaskError;

/// The value of a job that succeeded: bytes and what they are.
///
/// A typed handler returns anything that `serde` can write and never sees this; a raw handler and a
/// layer do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// The value.
    pub body: Bytes,
    /// Its media type; none means JSON.
    pub content_type: Option<String>,
}

impl Output {
    /// A value as JSON.
    ///
    /// # Errors
    /// A permanent failure where it can't be written as JSON: no attempt would be better.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, TaskError> {
        match serde_json::to_vec(value) {
            Ok(body) => Ok(Self {
                body: body.into(),
                content_type: None,
            }),
            Err(error) => Err(TaskError::permanent(format!(
                "the task's value can't be written as JSON: {error}"
            ))),
        }
    }

    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::bytes(Bytes::from(text.into()), "text/plain; charset=utf-8")
    }

    /// Bytes of any media type.
    pub fn bytes(body: impl Into<Bytes>, content_type: impl Into<String>) -> Self {
        Self {
            body: body.into(),
            content_type: Some(content_type.into()),
        }
    }
}

impl From<()> for Output {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl From<Bytes> for Output {
    fn from(body: Bytes) -> Self {
        Self::bytes(body, "application/octet-stream")
    }
}

impl From<String> for Output {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}
