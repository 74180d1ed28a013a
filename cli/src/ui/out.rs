//! Data on stdout.
//!
//! Written with errors handed on, because a reader that goes away (`repull job list | head`) is no
//! failure: see [`super::report`].

use std::io::{self, Write};

use serde::Serialize;

/// Writes one line.
pub(crate) fn line(text: impl AsRef<str>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_ref().as_bytes())?;
    out.write_all(b"\n")
}

/// Writes a value as JSON for people and programs, over several lines.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> anyhow::Result<()> {
    Ok(line(serde_json::to_string_pretty(value)?)?)
}

/// Writes a value as one line of JSON, for output that goes on.
pub(crate) fn json_line<T: Serialize + ?Sized>(value: &T) -> anyhow::Result<()> {
    line(serde_json::to_string(value)?)?;
    Ok(io::stdout().flush()?)
}

/// A number of things: `1 job`, `2 jobs`.
pub(crate) fn counted(count: impl Into<u64>, what: &str) -> String {
    match count.into() {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}
