//! Progress and log lines of a running job, published as events of the job.
//!
//! A handler may tell as much as it likes: what it tells is kept, the latest progress and the end of
//! the log, and one short-lived task per job publishes it at its own pace. When the attempt ends, what
//! is left of the log is published before the ending is known to anybody, and nothing is after: the
//! last event of a job must be its outcome.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use repull::client::{Expect, Message};
use repull::clock;
use repull::wire::{Address, EventKind, JobEvent, Place};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::Context;
use super::context::Inner;

/// The shortest time between two progress events of one job.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// The shortest time between two log events of one job: only its last events are kept, so fewer
/// and longer ones keep more of the log.
const LOG_INTERVAL: Duration = Duration::from_secs(2);

/// The most log text in one event; of more, the end is kept.
const LOG_BYTES_MAX: usize = 8 * 1024;

/// How long the end of an attempt waits for its last events. They only wait where the connection is
/// down, and then a slot is worth more than a log line.
const CLOSE_PATIENCE: Duration = Duration::from_millis(250);

/// What a job has to tell.
pub(super) struct Events {
    /// Where the publishing task is spawned; none where the job's results are off.
    runtime: Option<Handle>,
    state: Mutex<State>,
    /// Tells the publishing task that the attempt has ended.
    closing: Notify,
}

#[derive(Default)]
struct State {
    progress: Option<(f64, String)>,
    log: String,
    /// Bytes of the log that were dropped before `log` since the last publish.
    log_bytes_cut: usize,
    /// From when on progress and log may be published again; none: at once.
    progress_from: Option<Instant>,
    log_from: Option<Instant>,
    publisher: Option<AbortOnDropHandle<()>>,
    is_closed: bool,
}

impl Events {
    pub(super) fn new(keep: bool) -> Self {
        Self {
            runtime: keep.then(Handle::current),
            state: Mutex::default(),
            closing: Notify::new(),
        }
    }

    pub(super) fn progress(context: &Arc<Inner>, fraction: f64, text: String) {
        #[cfg(feature = "test")]
        if Self::note(context, EventKind::Progress, Some(fraction), &text) {
            return;
        }
        Self::tell(context, |state| state.progress = Some((fraction, text)));
    }

    pub(super) fn log(context: &Arc<Inner>, line: &str) {
        debug!(target: "repull_worker::job", job = %context.attempt.job.id, "{line}");
        #[cfg(feature = "test")]
        if Self::note(context, EventKind::Log, None, line) {
            return;
        }
        Self::tell(context, |state| state.push_line(line));
    }

    /// Changes what is to be told and sees to it that it will be.
    fn tell(context: &Arc<Inner>, change: impl FnOnce(&mut State)) {
        let events = &context.events;
        let Some(runtime) = &events.runtime else {
            return;
        };
        let mut state = events.lock();
        if state.is_closed {
            return;
        }
        change(&mut state);
        if state.publisher.is_none() {
            let publisher = runtime.spawn(publish(context.clone()));
            state.publisher = Some(AbortOnDropHandle::new(publisher));
        }
    }

    /// Keeps all that is told where the streams are in memory; false where they are not.
    #[cfg(feature = "test")]
    fn note(context: &Inner, kind: EventKind, progress: Option<f64>, text: &str) -> bool {
        let Some(memory) = context.client.memory() else {
            return false;
        };
        if context.events.runtime.is_some() && !context.events.lock().is_closed {
            let message = message(context, kind, progress, text.to_owned(), memory.now());
            memory.put(&message);
        }
        true
    }

    /// Closes the events of `context` at the latest when the guard is dropped.
    pub(super) fn close_on_drop(context: &Context) -> Closing {
        Closing {
            context: context.inner.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the events of an attempt.
pub(super) struct Closing {
    context: Arc<Inner>,
}

impl Closing {
    /// Publishes what is left of the log, where `flush` says so, and nothing after that.
    pub(super) async fn close(self, flush: bool) {
        let events = &self.context.events;
        let publisher = {
            let mut state = events.lock();
            state.is_closed = true;
            // The outcome that follows says more than any progress.
            state.progress = None;
            state.publisher.take()
        };
        let Some(publisher) = publisher.filter(|_| flush) else {
            return;
        };
        events.closing.notify_one();
        let _ = tokio::time::timeout(CLOSE_PATIENCE, publisher).await;
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        let mut state = self.context.events.lock();
        state.is_closed = true;
        state.publisher = None;
    }
}

impl State {
    fn push_line(&mut self, line: &str) {
        self.log.push_str(line);
        self.log.push('\n');
        if self.log.len() > 2 * LOG_BYTES_MAX {
            self.cut_log();
        }
    }

    /// Drops the log's beginning, up to the end of a line where there is one.
    fn cut_log(&mut self) {
        let Some(mut surplus) = self.log.len().checked_sub(LOG_BYTES_MAX) else {
            return;
        };
        while !self.log.is_char_boundary(surplus) {
            surplus += 1;
        }
        if let Some(end) = self.log[surplus..self.log.len() - 1].find('\n') {
            surplus += end + 1;
        }
        self.log_bytes_cut += surplus;
        self.log.drain(..surplus);
    }

    /// When something can be published; none where there is nothing.
    fn due(&self, now: Instant) -> Option<Instant> {
        let progress = self.progress.as_ref();
        let progress = progress.map(|_| self.progress_from.unwrap_or(now));
        let log_from = self.log_from.filter(|_| !self.is_closed);
        let log = (!self.log.is_empty()).then(|| log_from.unwrap_or(now));
        [progress, log].into_iter().flatten().min()
    }

    /// Takes what can be published by now.
    fn take(&mut self, now: Instant) -> (Option<(f64, String)>, Option<String>) {
        let is_due = |from: Option<Instant>| from.is_none_or(|from| from <= now);
        let mut told = (None, None);
        if self.progress.is_some() && is_due(self.progress_from) {
            told.0 = self.progress.take();
            self.progress_from = Some(now + PROGRESS_INTERVAL);
        }
        if !self.log.is_empty() && (self.is_closed || is_due(self.log_from)) {
            told.1 = self.take_log();
            self.log_from = Some(now + LOG_INTERVAL);
        }
        told
    }

    fn take_log(&mut self) -> Option<String> {
        if self.log.is_empty() {
            return None;
        }
        self.cut_log();
        let log = std::mem::take(&mut self.log);
        Some(match std::mem::take(&mut self.log_bytes_cut) {
            0 => log,
            cut => format!("({cut} bytes before this are left out)\n{log}"),
        })
    }
}

/// Publishes what there is to tell until nothing is left, and ends.
async fn publish(context: Arc<Inner>) {
    let events = &context.events;
    loop {
        let due = {
            let mut state = events.lock();
            let Some(due) = state.due(Instant::now()) else {
                // Dropping its own handle would abort a task that is ending anyway.
                state.publisher = None;
                return;
            };
            due
        };
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            () = events.closing.notified() => {}
        }
        let (progress, log) = events.lock().take(Instant::now());
        if let Some(log) = log {
            send(&context, EventKind::Log, None, log).await;
        }
        if let Some((fraction, text)) = progress {
            send(&context, EventKind::Progress, Some(fraction), text).await;
        }
    }
}

async fn send(context: &Inner, kind: EventKind, progress: Option<f64>, text: String) {
    let message = message(context, kind, progress, text, clock::now());
    let nats = context.client.nats();
    let published = nats.publish_with_headers(message.subject, message.headers, message.body);
    if let Err(error) = published.await {
        debug!(job = %context.attempt.job.id, %error, "an event was not published");
    }
}

/// What is told, as the job's event.
fn message(
    context: &Inner,
    kind: EventKind,
    progress: Option<f64>,
    text: String,
    now: DateTime<Utc>,
) -> Message {
    let attempt = &context.attempt;
    let job = &attempt.job;
    let address = Address {
        lane: job.lane(),
        task: job.task.clone(),
        id: job.id.clone(),
    };
    let mut event = JobEvent::new(kind, attempt.number, attempt.worker.as_str(), now);
    event.started_at = Some(attempt.started_at);
    event.nonce.clone_from(&job.nonce);
    event.progress = progress;
    Message {
        subject: address.subject(context.client.namespace(), Place::Results),
        headers: event.encode_headers(),
        body: text.into(),
        id: String::new(),
        expect: Expect::Anything,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_progress_wins_and_waits_its_turn() {
        let (mut state, now) = (State::default(), Instant::now());
        assert_eq!(state.due(now), None);
        state.progress = Some((0.1, String::new()));
        assert_eq!(state.due(now), Some(now));
        assert!(state.take(now).0.is_some());
        state.progress = Some((0.2, String::new()));
        state.progress = Some((0.3, String::new()));
        assert_eq!(state.take(now), (None, None));
        let due = now + PROGRESS_INTERVAL;
        assert_eq!(state.due(now), Some(due));
        assert_eq!(state.take(due).0, Some((0.3, String::new())));
    }

    #[test]
    fn the_end_of_the_log_is_kept_and_the_rest_is_counted() {
        let (mut state, now) = (State::default(), Instant::now());
        state.push_line("first");
        assert_eq!(state.take(now).1.as_deref(), Some("first\n"));
        let line = "ä".repeat(50);
        for _ in 0..1000 {
            state.push_line(&line);
        }
        state.push_line("last");
        assert_eq!(state.take(now).1, None, "it waits its turn");
        state.is_closed = true;
        assert_eq!(
            state.due(now),
            Some(now),
            "the end of the attempt is its turn"
        );
        let log = state.take(now).1.unwrap();
        let (head, lines) = log.split_once('\n').unwrap();
        let total = 1000 * (line.len() + 1) + "last\n".len();
        let cut = total - lines.len();
        assert_eq!(head, format!("({cut} bytes before this are left out)"));
        assert!(
            lines.len() <= LOG_BYTES_MAX && lines.starts_with(&line) && lines.ends_with("\nlast\n")
        );
        assert_eq!(state.due(now), None);
    }

    #[test]
    fn one_line_longer_than_the_log_is_cut_too() {
        let mut state = State::default();
        state.push_line(&"ä".repeat(20_000));
        let log = state.take(Instant::now()).1.unwrap();
        assert!(log.len() <= LOG_BYTES_MAX + 60 && log.ends_with("ä\n"));
    }
}
