//! Logs of the parts that run inside `repull dev`, on stderr beside whatever is shown there.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;

use crate::ui::report::usage;

/// The bars that are on the screen: a line between them must not tear them.
static BARS: Mutex<Option<MultiProgress>> = Mutex::new(None);

/// What needs somebody's attention.
///
/// Signals are none of it: what they start is said without the log.
pub(super) const ATTENTION: &str = "warn,repull_worker::shutdown=error";

/// The same without jobs that fail, for a load of which some shall.
pub(super) const ATTENTION_TO_FAULTS: &str =
    "warn,repull_worker::shutdown=error,repull_worker::job_task=error";

/// Starts logging: `quiet`, or more where asked for.
///
/// # Errors
/// Says what is wrong with the filter.
pub(super) fn init(quiet: &str, verbose: u8) -> anyhow::Result<()> {
    let filter = std::env::var("REPULL_LOG").unwrap_or_else(|_| {
        match verbose {
            0 => quiet,
            1 => "info",
            _ => "debug",
        }
        .to_owned()
    });
    let parsed = EnvFilter::try_new(&filter).map_err(|error| {
        usage(format!(
            "log filter `{filter}` is not valid: {error}, expected one such as `info,repull_worker=debug`"
        ))
    })?;
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_ansi(io::stderr().is_terminal() && !no_color)
        .with_writer(|| BesideBars)
        .finish();
    // A second start in one process keeps the first one's.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

/// Says which bars are on the screen from now on.
pub(super) fn beside(bars: Option<MultiProgress>) {
    *BARS.lock().unwrap_or_else(PoisonError::into_inner) = bars;
}

/// Writes to stderr, above the bars where there are any.
struct BesideBars;

impl Write for BesideBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Cloned, so that nobody waits for the lock while the terminal is slow.
        let bars = BARS.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match bars {
            Some(bars) => bars.suspend(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
