//! One attempt under its limits: time, cancellation, panics.
//!
//! Light on purpose, for tens of thousands of short jobs a second: nothing is spawned, and a timer
//! exists only for a handler that was not done at its first poll.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use repull::client::Client;
use repull::job::Timeout;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use super::events::Events;
use super::guard::{Finish, Guard};
use super::{Attempt, CancelReason, Context, Ending, Registry, Task};

/// Runs one attempt to its end. Never panics, whatever the handler does.
///
/// The attempt's time is the job's timeout, else the task's, else an hour, and never beyond the
/// job's deadline. When it is up, or when the attempt is cancelled, the handler's token fires and it
/// gets the worker's grace to end by itself; then it is dropped where it awaits. A handler that
/// blocks its thread can't be dropped: the attempt ends when the handler comes back.
pub async fn attempt(registry: &Registry, client: &Client, attempt: Attempt) -> Ending {
    let Some(task) = registry.find(&attempt.job.task) else {
        return Ending::UnknownTask;
    };
    let limit = Limit::of(task, &attempt);
    let cancel = attempt.cancel.clone();
    if let Some(reason) = cancel.reason() {
        return Ending::Cancelled { reason };
    }
    if let Some(limit) = &limit
        && limit.after.is_zero()
        && limit.is_deadline
    {
        return Ending::Permanent {
            error: format!("{}, before the attempt started", CancelReason::Deadline),
        };
    }
    let context = Context::new(
        registry,
        task,
        client,
        attempt,
        limit.as_ref().map(|limit| limit.at),
    );
    let closing = Events::close_on_drop(&context);
    let grace = registry.limits().cancel_grace;
    let (finish, timed_out) = match Guard::call(&task.handler, context) {
        Ok(handler) => run(handler, &cancel, limit.as_ref(), grace).await,
        Err(panic) => (Some(Err(panic)), None),
    };
    // A job that is with another worker by now is that worker's to tell about.
    let is_ours = cancel.reason() != Some(CancelReason::LeaseLost);
    closing.close(is_ours).await;
    conclude(finish, cancel.reason(), timed_out, grace)
}

/// When an attempt's time is up, and by what.
struct Limit {
    after: Duration,
    is_deadline: bool,
    at: DateTime<Utc>,
}

impl Limit {
    fn of(task: &Task, attempt: &Attempt) -> Option<Self> {
        let started_at = attempt.started_at;
        let timeout = match task.options.timeout_of(&attempt.job) {
            Timeout::Never => None,
            Timeout::After(after) => Some(Self {
                after,
                is_deadline: false,
                at: TimeDelta::from_std(after)
                    .ok()
                    .and_then(|after| started_at.checked_add_signed(after))
                    .unwrap_or(DateTime::<Utc>::MAX_UTC),
            }),
        };
        let deadline = attempt.job.deadline.map(|at| Self {
            after: (at - started_at).to_std().unwrap_or_default(),
            is_deadline: true,
            at,
        });
        match (timeout, deadline) {
            (Some(timeout), Some(deadline)) if timeout.after < deadline.after => Some(timeout),
            (timeout, deadline) => deadline.or(timeout),
        }
    }
}

/// Runs the handler to its end, or to the end of its grace (none). The second value is the timeout
/// that was exceeded.
async fn run(
    mut handler: Guard,
    cancel: &super::Cancel,
    limit: Option<&Limit>,
    grace: Duration,
) -> (Option<Finish>, Option<Duration>) {
    let mut timed_out = None;
    let after = limit.map(|limit| limit.after);
    match watch(&mut handler, || cancel.token(), after).await {
        Watched::Finished(finish) => return (Some(finish), None),
        Watched::Fired => {}
        Watched::TimeIsUp => match limit {
            Some(limit) if limit.is_deadline => cancel.cancel(CancelReason::Deadline),
            limit => {
                timed_out = limit.map(|limit| limit.after);
                cancel.time_out();
            }
        },
    }
    match watch(&mut handler, || cancel.at_once(), Some(grace)).await {
        Watched::Finished(finish) => (Some(finish), timed_out),
        Watched::Fired | Watched::TimeIsUp => (None, timed_out),
    }
}

enum Watched {
    Finished(Finish),
    Fired,
    TimeIsUp,
}

/// Polls the handler until it ends, `token` fires or `limit` is over. The handler comes first: what
/// it finished in the same turn counts, and one that is done at once costs neither token nor timer.
async fn watch<'t>(
    handler: &mut Guard,
    token: impl FnOnce() -> &'t CancellationToken,
    limit: Option<Duration>,
) -> Watched {
    let started = Instant::now();
    if let Poll::Ready(finish) = poll_fn(|cx| Poll::Ready(handler.poll(cx))).await {
        return Watched::Finished(finish);
    }
    let mut fired = pin!(token().cancelled());
    let mut timer: Option<std::pin::Pin<Box<Sleep>>> = None;
    let mut has_just_been_polled = true;
    poll_fn(|cx| {
        if !std::mem::take(&mut has_just_been_polled)
            && let Poll::Ready(finish) = handler.poll(cx)
        {
            return Poll::Ready(Watched::Finished(finish));
        }
        if fired.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Watched::Fired);
        }
        let Some(limit) = limit else {
            return Poll::Pending;
        };
        let timer = timer.get_or_insert_with(|| {
            Box::pin(tokio::time::sleep(limit.saturating_sub(started.elapsed())))
        });
        timer.as_mut().poll(cx).map(|()| Watched::TimeIsUp)
    })
    .await
}

/// What the attempt's end means, by how the handler ended (none: it was dropped) and why it was
/// told to.
fn conclude(
    finish: Option<Finish>,
    reason: Option<CancelReason>,
    timed_out: Option<Duration>,
    grace: Duration,
) -> Ending {
    if let Some(reason @ (CancelReason::LeaseLost | CancelReason::Requested(_))) = reason {
        return Ending::Cancelled { reason };
    }
    let ending = match finish {
        Some(Ok(Ok(output))) => {
            // Done is done, also in the last moment.
            return Ending::Succeeded {
                value: output.body,
                content_type: output.content_type,
            };
        }
        Some(Ok(Err(error))) => error.into_ending(),
        Some(Err(panic)) => Ending::Failed {
            error: format!("the handler panicked: {panic}"),
        },
        None => Ending::Failed {
            error: format!(
                "the handler did not end within {} of its cancellation",
                humantime::format_duration(grace)
            ),
        },
    };
    let cause = match (&reason, timed_out) {
        (Some(CancelReason::Deadline), _) => CancelReason::Deadline.to_string(),
        (None, Some(limit)) => {
            format!("timed out after {}", humantime::format_duration(limit))
        }
        _ => String::new(),
    };
    match (ending, reason) {
        (Ending::Snoozed { delay }, _) => Ending::Snoozed { delay },
        (Ending::Cancelled { reason }, _) => Ending::Cancelled { reason },
        // Whatever failed while it was told to end failed because of that.
        (_, Some(reason @ (CancelReason::Drain | CancelReason::Stop))) => {
            Ending::Cancelled { reason }
        }
        (
            Ending::Failed { error } | Ending::RetryIn { error, .. } | Ending::Permanent { error },
            Some(_),
        ) => Ending::Permanent {
            error: format!("{cause}: {error}"),
        },
        (Ending::Failed { error }, None) if !cause.is_empty() => Ending::Failed {
            error: format!("{cause}: {error}"),
        },
        (ending, _) => ending,
    }
}
