//! Failures on stderr: an `error:` line, and a `hint:` line where the next step is known.

use std::process::ExitCode;

/// Prints the error and says which exit code it means.
pub(crate) fn failure(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
