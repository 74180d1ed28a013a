//! What a process tells of itself: logs on stderr, metrics and health over HTTP.

mod http;
mod logs;

pub use http::{Health, HttpError, serve};
pub use logs::{LogArgs, LogFormat, init};
