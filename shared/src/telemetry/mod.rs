//! What a process tells of itself: logs on stderr, metrics and health over HTTP, traces to a
//! collector.

mod http;
mod logs;
#[cfg(feature = "otel")]
mod otlp;
pub mod trace;

pub use http::{Health, HttpError, serve};
pub use logs::{LogArgs, LogFormat, finish, init};
