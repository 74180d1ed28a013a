//! The command line of `repull-worker`: what is given, and the config it makes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use clap::builder::BoolishValueParser;
use repull::connect::ConnectArgs;
use repull::id::WorkerId;
use repull::telemetry::LogArgs;
use repull::topology::Layout;
use repull_worker::WorkerConfig;
use repull_worker::config::{Order, ServedQueue};
use repull_worker::tasks::{TaskFile, TaskFileError};

/// Pulls as many jobs as it has free slots, runs them, settles them, pulls again.
///
/// Its tasks come from a file (`--config`): programs to run and URLs to call. Without one it serves
/// `echo`, `sleep` and `fail`, for trying things out. The first SIGTERM or SIGINT drains it, the
/// second stops it at once.
#[derive(Parser, Debug)]
#[command(name = "repull-worker", version)]
pub(crate) struct Args {
    /// Queues to serve, in order of preference; `name` or `name=weight`
    #[arg(
        long = "queue",
        short,
        env = "REPULL_QUEUES",
        value_name = "QUEUES",
        value_delimiter = ',',
        default_value = "default"
    )]
    queues: Vec<ServedQueue>,
    /// Jobs that may run at once, over all queues
    #[arg(long, env = "REPULL_SLOTS", value_name = "N", default_value_t = 100)]
    slots: u32,
    /// File of tasks (TOML)
    #[arg(long, env = "REPULL_WORKER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// How long running jobs may go on after the first signal
    #[arg(long, env = "REPULL_DRAIN", value_name = "TIME", default_value = "25s", value_parser = humantime::parse_duration)]
    drain: Duration,
    /// How queues with a backlog share the slots
    #[arg(
        long,
        env = "REPULL_ORDER",
        value_name = "ORDER",
        default_value = "weighted"
    )]
    order: Order,
    /// How long a handler may take to end by itself once it is cancelled
    #[arg(long, env = "REPULL_CANCEL_GRACE", value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    cancel_grace: Duration,
    /// How long slots may be idle beside a backlog before something is done about it
    #[arg(long, env = "REPULL_WATCHDOG", value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    watchdog: Duration,
    /// Give the slot of a handler that ignores its cancellation to another job
    #[arg(long, env = "REPULL_REPLACE_STUCK", value_parser = BoolishValueParser::new())]
    replace_stuck: bool,
    /// How long to wait at the start for the server, the streams and the consumers; 0s: not at all
    #[arg(long, env = "REPULL_START_TIMEOUT", value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    start_timeout: Duration,
    /// Copies of each stream, where the worker makes it: 1 on a single server, 3 on a cluster
    #[arg(
        long,
        env = "REPULL_REPLICAS",
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u8).range(1..=5)
    )]
    replicas: u8,
    /// Store no outcomes, unless a job or its task says so
    #[arg(long, env = "REPULL_NO_RESULTS", value_parser = BoolishValueParser::new())]
    no_results: bool,
    /// The largest value that is stored with an outcome, in bytes
    #[arg(long, env = "REPULL_VALUE_BYTES_MAX", value_name = "BYTES", default_value_t = repull_worker::config::VALUE_BYTES_MAX_DEFAULT)]
    value_bytes_max: usize,
    /// Id under which the worker is listed [default: the host's name and a random part]
    #[arg(long, env = "REPULL_ID", value_name = "ID")]
    id: Option<WorkerId>,
    /// Where to serve /metrics, /healthz and /readyz, such as 0.0.0.0:8080
    #[arg(long, env = "REPULL_HTTP", value_name = "ADDRESS")]
    http: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

impl Args {
    /// The worker's config.
    pub(crate) fn config(&self) -> WorkerConfig {
        WorkerConfig {
            id: self.id.clone().unwrap_or_else(WorkerId::generate),
            queues: self.queues.clone(),
            order: self.order,
            slots: self.slots,
            drain_timeout: self.drain,
            cancel_grace: self.cancel_grace,
            replace_stuck: self.replace_stuck,
            watchdog: self.watchdog,
            results_default: !self.no_results,
            value_bytes_max: self.value_bytes_max,
            start_timeout: self.start_timeout,
            layout: Layout {
                replicas: usize::from(self.replicas),
                ..Layout::default()
            },
            http: self.http,
        }
    }

    /// The tasks: the file's, or the built-in ones where no file is given.
    pub(crate) fn tasks(&self) -> Result<Option<TaskFile>, TaskFileError> {
        self.config.as_deref().map(TaskFile::read).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn the_defaults_are_those_of_the_library() {
        let config = Args::parse_from(["repull-worker"]).config();
        let library = WorkerConfig {
            id: config.id.clone(),
            ..WorkerConfig::default()
        };
        assert_eq!(config, library);
    }

    #[test]
    fn queues_are_a_list_and_add_up() {
        let args = Args::parse_from(["repull-worker", "-q", "a,b=3", "--queue", "c"]);
        let queues: Vec<String> = args.queues.iter().map(ToString::to_string).collect();
        assert_eq!(queues, ["a", "b=3", "c"]);
    }
}
