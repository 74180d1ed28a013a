//! Handlers of any signature behind one type.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Context, Output, TaskError};

/// What a handler's call gives: the value, or what shall follow instead.
pub(crate) type HandlerFuture =
    Pin<Box<dyn Future<Output = Result<Output, TaskError>> + Send + 'static>>;

/// A task's code.
pub(crate) type Handler = Arc<dyn Fn(Context) -> HandlerFuture + Send + Sync>;

/// A handler of typed arguments and a typed value, both JSON.
pub(crate) fn typed<A, T, F, R>(task: F) -> Handler
where
    F: Fn(Context, A) -> R + Send + Sync + 'static,
    R: Future<Output = Result<T, TaskError>> + Send + 'static,
    A: DeserializeOwned,
    T: Serialize,
{
    Arc::new(move |context: Context| match arguments::<A>(&context) {
        Ok(arguments) => {
            let running = task(context, arguments);
            Box::pin(async move { Output::json(&running.await?) })
        }
        Err(error) => Box::pin(std::future::ready(Err(error))),
    })
}

/// A handler of bytes.
pub(crate) fn raw<T, F, R>(task: F) -> Handler
where
    F: Fn(Context, Bytes) -> R + Send + Sync + 'static,
    R: Future<Output = Result<T, TaskError>> + Send + 'static,
    T: Into<Output>,
{
    Arc::new(move |context: Context| {
        let body = context.job().args.clone();
        let running = task(context, body);
        Box::pin(async move { running.await.map(Into::into) })
    })
}

/// Reads a job's arguments. What can't be read today can't be read tomorrow: a permanent failure.
fn arguments<A: DeserializeOwned>(context: &Context) -> Result<A, TaskError> {
    let job = context.job();
    if let Some(content_type) = &job.content_type
        && !content_type.to_ascii_lowercase().contains("json")
    {
        return Err(TaskError::permanent(format!(
            "arguments of task `{}` are `{content_type}`, expected JSON",
            job.task
        )));
    }
    let result = if job.args.is_empty() {
        // A bare publish without a body: none, or nothing but defaults.
        serde_json::from_slice(b"null").or_else(|_| serde_json::from_slice(b"{}"))
    } else {
        serde_json::from_slice(&job.args)
    };
    result.map_err(|error| {
        let (at, error) = explain::<A>(&job.args, error);
        TaskError::permanent(format!(
            "arguments of task `{}` can't be read: {at}{error}",
            job.task
        ))
    })
}

/// The field that could not be read, and why: `items[2].price: invalid type: …`.
///
/// A second reading that keeps track of the field; the first, of good arguments, has no use for it.
fn explain<A: DeserializeOwned>(args: &[u8], error: serde_json::Error) -> (String, String) {
    let mut reader = serde_json::Deserializer::from_slice(args);
    match serde_path_to_error::deserialize::<_, A>(&mut reader) {
        Err(tracked) if tracked.path().iter().next().is_some() => (
            format!("field `{}`: ", tracked.path()),
            tracked.into_inner().to_string(),
        ),
        _ => (String::new(), error.to_string()),
    }
}
