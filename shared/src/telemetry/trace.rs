//! Traces of a job's way: made by its submitter or by a schedule, sent on by the scheduler, run by a
//! worker.
//!
//! The context of whoever made the job travels with it in the headers `traceparent` and
//! `tracestate` (W3C), unchanged through retries and waiting. What is done with the job later is a
//! trace of its own that links back: hours may lie between, and one submitter may make thousands.
//!
//! All of this is compiled with the feature `otel` alone, and does nothing until
//! [`init`](super::init) finds a collector named in the environment, or [`turn_on`] was called.

use async_nats::HeaderMap;
use tracing::Span;

use crate::job::Job;
use crate::wire::Address;

/// What is done with a job that gets a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A submitter enqueues it.
    Send,
    /// A schedule's fire makes it.
    Create,
    /// The scheduler moves it to the work queue once its time has come.
    Forward,
}

/// Makes the span of `step`, from which the job's headers take their context.
///
/// A job that brings a context of its own keeps it: the step then links to it.
pub fn publish(step: Step, address: &Address, headers: &mut HeaderMap) -> Span {
    imp::publish(step, address, headers)
}

/// Makes the span of an attempt that of a consumer, and links it to whoever made the job.
///
/// The span must have been made with the fields `otel.name` and `otel.kind` empty.
pub fn process(span: &Span, job: &Job, attempt: u32) {
    imp::process(span, job, attempt);
}

/// Notes on a span that it ended with an error of this kind.
pub fn failed(span: &Span, kind: &'static str) {
    imp::failed(span, kind);
}

/// The headers `traceparent` and `tracestate` for what a handler calls: its own attempt's context,
/// else what the job brought along.
pub fn handed_on(job: &HeaderMap) -> Vec<(&'static str, String)> {
    let own = imp::current();
    if !own.is_empty() {
        return own;
    }
    [TRACEPARENT, TRACESTATE]
        .into_iter()
        .filter_map(|name| Some((name, job.get(name)?.as_str().to_owned())))
        .collect()
}

/// Whether spans are made at all: to spare the work of telling what they are about.
pub fn is_on() -> bool {
    imp::is_on()
}

/// Makes spans also where [`init`](super::init) did not start the export: for programs with a
/// subscriber of their own that has OpenTelemetry's layer.
pub fn turn_on() {
    imp::turn_on();
}

/// The header of a context.
const TRACEPARENT: &str = "traceparent";
/// The header of what vendors add to it.
const TRACESTATE: &str = "tracestate";

#[cfg(not(feature = "otel"))]
mod imp {
    use super::{Address, HeaderMap, Job, Span, Step};

    pub(super) fn is_on() -> bool {
        false
    }
    pub(super) fn publish(_: Step, _: &Address, _: &mut HeaderMap) -> Span {
        Span::none()
    }
    pub(super) fn process(_: &Span, _: &Job, _: u32) {}
    pub(super) fn failed(_: &Span, _: &'static str) {}
    pub(super) fn current() -> Vec<(&'static str, String)> {
        Vec::new()
    }
    pub(super) fn turn_on() {}
}

#[cfg(feature = "otel")]
mod imp {
    use std::sync::atomic::{AtomicBool, Ordering};

    use crate::id::{JobId, TaskName};
    use async_nats::header::HeaderName;
    use opentelemetry::Context;
    use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
    use opentelemetry::trace::{SpanContext, Status, TraceContextExt};
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use tracing::info_span;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    use super::{Address, HeaderMap, Job, Span, Step, TRACEPARENT, TRACESTATE};

    static ON: AtomicBool = AtomicBool::new(false);

    pub(super) fn is_on() -> bool {
        ON.load(Ordering::Relaxed)
    }

    pub(super) fn turn_on() {
        ON.store(true, Ordering::Relaxed);
    }

    pub(super) fn publish(step: Step, address: &Address, headers: &mut HeaderMap) -> Span {
        if !is_on() {
            return Span::none();
        }
        let (word, kind) = match step {
            Step::Send => ("send", "send"),
            Step::Create => ("create", "create"),
            Step::Forward => ("forward", "send"),
        };
        let queue = address.lane.to_string();
        let span = info_span!(
            target: "repull::trace",
            "publish",
            otel.name = format!("{word} {queue}"),
            otel.kind = "producer",
            messaging.operation.type = kind,
        );
        describe(&span, word, &queue, &address.id, &address.task);
        match context_in(headers) {
            Some(brought) => span.add_link(brought),
            None => {
                let mut carrier = Carrier(headers);
                TraceContextPropagator::new().inject_context(&span.context(), &mut carrier);
            }
        }
        span
    }

    pub(super) fn process(span: &Span, job: &Job, attempt: u32) {
        if !is_on() {
            return;
        }
        let queue = job.lane().to_string();
        span.record("otel.name", format!("process {queue}"));
        span.record("otel.kind", "consumer");
        describe(span, "process", &queue, &job.id, &job.task);
        span.set_attribute("messaging.operation.type", "process");
        span.set_attribute("repull.attempt", i64::from(attempt));
        if let Some(made_by) = context_in(&job.headers) {
            span.add_link(made_by);
        }
    }

    fn describe(span: &Span, operation: &'static str, queue: &str, id: &JobId, task: &TaskName) {
        span.set_attribute("messaging.system", "nats");
        span.set_attribute("messaging.operation.name", operation);
        span.set_attribute("messaging.destination.name", queue.to_owned());
        span.set_attribute("messaging.message.id", id.to_string());
        span.set_attribute("repull.task", task.to_string());
    }

    pub(super) fn failed(span: &Span, kind: &'static str) {
        if is_on() {
            span.set_attribute("error.type", kind);
            span.set_status(Status::error(kind));
        }
    }

    pub(super) fn current() -> Vec<(&'static str, String)> {
        let mut headers = HeaderMap::new();
        if is_on() {
            let context = Span::current().context();
            TraceContextPropagator::new().inject_context(&context, &mut Carrier(&mut headers));
        }
        [TRACEPARENT, TRACESTATE]
            .into_iter()
            .filter_map(|name| Some((name, headers.get(name)?.as_str().to_owned())))
            .collect()
    }

    /// The context that headers carry, where it is a valid one.
    fn context_in(headers: &HeaderMap) -> Option<SpanContext> {
        let found =
            TraceContextPropagator::new().extract_with_context(&Context::new(), &Reader(headers));
        let context = found.span().span_context().clone();
        context.is_valid().then_some(context)
    }

    struct Carrier<'h>(&'h mut HeaderMap);

    impl Injector for Carrier<'_> {
        fn set(&mut self, key: &str, value: String) {
            // An empty `tracestate` says nothing.
            if !value.is_empty()
                && let Ok(name) = key.parse::<HeaderName>()
            {
                self.0.insert(name, value);
            }
        }
    }

    struct Reader<'h>(&'h HeaderMap);

    impl Extractor for Reader<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            // Lower case by the specification; some clients write it otherwise.
            let found = self.0.iter().find(|(name, _)| {
                let name: &str = name.as_ref();
                name.eq_ignore_ascii_case(key)
            });
            found
                .and_then(|(_, values)| values.last())
                .map(|value| value.as_str())
        }

        fn keys(&self) -> Vec<&str> {
            self.0.iter().map(|(name, _)| name.as_ref()).collect()
        }
    }
}
