//! Structured logs on stderr; stdout is for data.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// How a process logs.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Logs")]
pub struct LogArgs {
    /// What is logged, such as `info` or `repull_worker=debug`
    #[arg(
        long = "log",
        env = "REPULL_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub filter: String,
    /// How a log line is written
    #[arg(
        long = "log-format",
        env = "REPULL_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging, and the export of traces where the environment names a collector. A second call
/// changes nothing.
///
/// # Errors
/// Says what is wrong with the filter, or with what is said of the collector.
pub fn init(args: &LogArgs) -> Result<(), String> {
    let filter = EnvFilter::try_new(&args.filter)
        .map_err(|error| format!("log filter `{}` is not valid: {error}, expected one such as `info,repull_worker=debug`", args.filter))?;
    let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    #[cfg(feature = "otel")]
    if super::otlp::is_wanted() {
        return with_traces(args.format, filter, ansi);
    }
    let builder = fmt::Subscriber::builder()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi);
    let _ = match args.format {
        LogFormat::Text => tracing::subscriber::set_global_default(builder.finish()),
        LogFormat::Json => {
            tracing::subscriber::set_global_default(builder.json().flatten_event(true).finish())
        }
    };
    #[cfg(not(feature = "otel"))]
    if std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_some() {
        tracing::warn!(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, and this program was built without the feature `otel`"
        );
    }
    Ok(())
}

/// Logs as ever, and beside them the layer that makes spans of OpenTelemetry.
#[cfg(feature = "otel")]
fn with_traces(format: LogFormat, filter: EnvFilter, ansi: bool) -> Result<(), String> {
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::SubscriberExt;
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(ansi);
    let lines = match format {
        LogFormat::Text => lines.with_filter(filter).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    };
    let subscriber = tracing_subscriber::registry()
        .with(lines)
        .with(super::otlp::layer()?);
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

/// Sends the traces that are left. The last thing a program does; without traces, nothing.
pub fn finish() {
    #[cfg(feature = "otel")]
    super::otlp::finish();
}
