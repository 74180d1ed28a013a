//! Tasks for trying things out.

use std::time::Duration;

use serde::Deserialize;

use crate::run::{Context, Handler, Output, TaskError, raw, typed};

/// Returns its arguments, whatever they are.
pub(super) fn echo() -> Handler {
    raw(|context: Context, body| {
        let content_type = context.job().content_type.clone();
        std::future::ready(Ok(Output { body, content_type }))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sleep {
    ms: u64,
}

/// Does nothing for a while, and ends early when it shall.
pub(super) fn sleep() -> Handler {
    typed(|context: Context, args: Sleep| async move {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(args.ms)) => Ok(()),
            () = context.cancelled() => Err(TaskError::retry("its sleep was interrupted")),
        }
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fail {
    times: u32,
}

/// Fails on its first attempts, then succeeds.
pub(super) fn fail() -> Handler {
    typed(|context: Context, args: Fail| async move {
        let attempt = context.attempt();
        if attempt <= args.times {
            return Err(TaskError::retry(format!(
                "failed as it was told to, {attempt} of {} times",
                args.times
            )));
        }
        Ok(())
    })
}
