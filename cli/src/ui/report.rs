//! Failures on stderr: an `error:` line, and a `hint:` line where the next step is known.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use repull::client;
use repull::connect::ConnectError;
use repull::topology::TopologyError;

/// The exit code of wrong usage, as clap has it.
const WRONG_USAGE: u8 = 2;

/// Wrong usage that clap can't see.
#[derive(Debug)]
struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Usage {}

/// An error for what was typed: exit code 2.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

/// An error with the next step.
#[derive(Debug)]
struct Hinted {
    error: anyhow::Error,
    hint: String,
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Hinted {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// Adds the next step to an error.
pub(crate) fn hinted(error: impl Into<anyhow::Error>, hint: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Hinted {
        error: error.into(),
        hint: hint.into(),
    })
}

/// Prints a remark that is no data.
pub(crate) fn note(text: impl fmt::Display) {
    eprintln!("{text}");
}

/// Prints the next step after something that went well.
pub(crate) fn hint(text: impl fmt::Display) {
    eprintln!("hint: {text}");
}

/// Prints the error and says which exit code it means.
pub(crate) fn failure(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {}", chain(error));
    if let Some(hint) = hint_for(error) {
        eprintln!("hint: {hint}");
    }
    let inner = error.downcast_ref::<Hinted>().map(|hinted| &hinted.error);
    if error.is::<Usage>() || inner.is_some_and(anyhow::Error::is::<Usage>) {
        ExitCode::from(WRONG_USAGE)
    } else {
        ExitCode::FAILURE
    }
}

/// The reader of our output has gone; it has what it wanted.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// The error and its causes in one line. Some errors print their cause themselves and also name it
/// as their source: a cause that was said already is left out.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text.replace(['\n', '\r'], " ")
}

fn hint_for(error: &anyhow::Error) -> Option<String> {
    if let Some(hinted) = error.downcast_ref::<Hinted>() {
        return Some(hinted.hint.clone());
    }
    if let Some(connect) = error.chain().find_map(as_connect_error) {
        return hint_for_connection(connect).map(str::to_owned);
    }
    if error.chain().any(is_different_topology) {
        return Some("`repull topology check` lists every difference".to_owned());
    }
    hint_for_text(&chain(error)).map(str::to_owned)
}

fn as_connect_error<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a ConnectError> {
    match cause.downcast_ref::<client::Error>() {
        Some(client::Error::Connect(error)) => Some(error),
        _ => cause.downcast_ref(),
    }
}

fn is_different_topology(cause: &(dyn Error + 'static)) -> bool {
    let topology = match cause.downcast_ref::<client::Error>() {
        Some(client::Error::Topology(error)) => Some(error),
        _ => cause.downcast_ref(),
    };
    matches!(topology, Some(TopologyError::Different(_)))
}

fn hint_for_connection(error: &ConnectError) -> Option<&'static str> {
    match error {
        ConnectError::Unreachable { reason, .. } if reason.contains("credentials") => Some(
            "name the right ones with --creds, --user and --password, --nkey, --token or --context",
        ),
        ConnectError::Unreachable { .. } => Some(
            "name a server with --server, NATS_URL or --context; `repull dev` starts one to try things out",
        ),
        ConnectError::TooOld { .. } => Some("upgrade the server; releases are at nats.io"),
        // What the server forbids says by itself what is missing.
        ConnectError::NoJetStream { reason, .. } if reason.contains("Violation") => None,
        ConnectError::NoJetStream { .. } => Some(
            "start the server with `-js`, or enable JetStream for this account in its configuration",
        ),
        ConnectError::Context(_) => Some("`nats context ls` lists the contexts there are"),
        ConnectError::Options(_) | ConnectError::File { .. } => None,
    }
}

/// The servers' own words, where an error has no type of its own.
fn hint_for_text(text: &str) -> Option<&'static str> {
    let text = text.to_lowercase();
    let has = |part: &str| text.contains(part);
    if has("permissions violation") || has("permission violation") {
        Some(
            "the role of these credentials may not do this; the roles are listed in docs/OPERATING.md",
        )
    } else if has("stream not found") || has("no stream takes this subject") {
        Some(
            "the streams of this namespace are not there: start a scheduler, or run `repull topology apply`",
        )
    } else if has("is full") {
        Some("the stream is at a limit and refuses rather than forgets: `repull doctor` says which")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow!("no answer").context("can't read stream `X`: no answer");
        assert_eq!(chain(&error), "can't read stream `X`: no answer");
        let error = anyhow!("file is gone").context("can't read `x.yaml`");
        assert_eq!(chain(&error), "can't read `x.yaml`: file is gone");
    }

    #[test]
    fn a_hint_survives_what_is_wrapped_around_it() {
        let error = hinted(usage("names nothing"), "name one");
        assert_eq!(hint_for(&error).as_deref(), Some("name one"));
        let inner = error.downcast_ref::<Hinted>().unwrap();
        assert!(inner.error.is::<Usage>());
    }

    #[test]
    fn connections_that_fail_name_the_next_step() {
        let refused: Result<(), _> = Err(ConnectError::Unreachable {
            servers: "`nats://a`".into(),
            reason: "the server refused the credentials (x)".into(),
        });
        let hint = hint_for(&refused.context("can't connect").unwrap_err()).unwrap();
        assert!(hint.contains("--creds"), "{hint}");
        let error = client::Error::Connect(ConnectError::NoJetStream {
            servers: "s".into(),
            reason: "r".into(),
        });
        assert!(hint_for(&error.into()).unwrap().contains("-js"));
    }

    #[test]
    fn missing_streams_and_permissions_name_the_next_step() {
        let hint = |text: &str| hint_for(&anyhow!("{text}")).unwrap_or_default();
        assert!(hint("can't x: stream not found").contains("topology apply"));
        assert!(hint("x: Permissions Violation for Publish to y").contains("role"));
        assert_eq!(hint("something else"), "");
    }
}
