//! `repull-scheduler`: publishes due fires and later jobs.
//!
//! Reads as its stages: options, signals, connection, scheduler. Exit codes: 0 after a clean stop,
//! 1 failed, 2 wrong usage.

mod startup;

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use prometheus_client::registry::Registry;
use repull::connect::ConnectArgs;
use repull::id::{QueueName, WorkerId};
use repull::telemetry::LogArgs;
use repull::topology::Layout;
use repull_scheduler::Scheduler;
use repull_scheduler::config::Config;
use repull_scheduler::metrics::Metrics;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use startup::Startup;

/// Jobs are many small allocations that one thread makes and another frees; and the C library of the
/// static image has an allocator that is slow at just that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Publishes the due fires of schedules and the jobs whose time has come. Run two or more: one
/// leads, the others stand by and take over within the lease.
#[derive(Debug, Parser)]
#[command(name = "repull-scheduler", version)]
struct Args {
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    log: LogArgs,
    /// How long a dead leader is waited for before a standby takes over
    #[arg(long, env = "REPULL_LEASE", value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    lease: Duration,
    /// Queues whose consumers are made at the start
    #[arg(
        long = "queue",
        env = "REPULL_QUEUES",
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "default"
    )]
    queues: Vec<String>,
    /// Copies of each stream, where it is made: 1 on a single server, 3 on a cluster
    #[arg(
        long,
        env = "REPULL_REPLICAS",
        value_name = "COUNT",
        default_value_t = 1
    )]
    replicas: usize,
    /// Into how many shards schedules are split; the first scheduler of an installation decides
    #[arg(long, env = "REPULL_SHARDS", value_name = "COUNT", default_value = "1")]
    shards: NonZeroU16,
    /// How long to wait at the start for the server; 0s: not at all
    #[arg(long, env = "REPULL_START_TIMEOUT", value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    start_timeout: Duration,
    /// Name of this scheduler [default: the host's name and a random part]
    #[arg(long, env = "REPULL_ID", value_name = "NAME")]
    id: Option<WorkerId>,
    /// Address for /metrics, /healthz and /readyz, such as 0.0.0.0:9090 [default: off]
    #[arg(long, env = "REPULL_HTTP", value_name = "ADDRESS")]
    http: Option<SocketAddr>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let config = match args.config() {
        Ok(config) => config,
        Err(problem) => return wrong_usage(&problem),
    };
    if let Err(problem) = repull::telemetry::init(&args.log) {
        return wrong_usage(&problem);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let code = match runtime.block_on(run(args, config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    };
    repull::telemetry::finish();
    code
}

impl Args {
    /// What the scheduler is told, checked before anything is connected.
    fn config(&self) -> Result<Config, String> {
        let config = Config {
            id: self.id.clone().unwrap_or_else(WorkerId::generate),
            layout: Layout {
                replicas: self.replicas,
                lease: self.lease,
                ..Layout::default()
            },
            queues: self.queues()?,
            shards: self.shards,
        };
        config.check()?;
        Ok(config)
    }

    /// The queues; `name=weight`, as workers take it, is understood.
    fn queues(&self) -> Result<Vec<QueueName>, String> {
        self.queues
            .iter()
            .map(|text| {
                text.split_once('=')
                    .map_or(text.as_str(), |(name, _)| name)
                    .trim()
            })
            .filter(|name| !name.is_empty())
            .map(|name| QueueName::new(name).map_err(|error| error.to_string()))
            .collect()
    }
}

async fn run(args: Args, config: Config) -> anyhow::Result<()> {
    let shutdown = stop_on_signals()?;
    let settings = args.connect.resolve_without_context()?;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let registry = Arc::new(registry);
    let startup = Arc::new(Startup::default());
    if let Some(address) = args.http {
        let (registry, health) = (registry.clone(), startup.clone());
        repull::telemetry::serve(address, registry, health, shutdown.clone()).await?;
    }
    let client = tokio::select! {
        client = startup.connect(&settings, config.id.as_str(), args.start_timeout) => client?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let scheduler = Scheduler::builder(client)
        .config(config)
        .metrics(registry, metrics)
        .build()?;
    startup.is_over(scheduler.health());
    scheduler.run(shutdown).await?;
    info!("stopped");
    Ok(())
}

/// The first signal stops cleanly; a second one stops now.
fn stop_on_signals() -> anyhow::Result<CancellationToken> {
    let context = "can't listen for signals";
    let mut terminate = signal(SignalKind::terminate()).context(context)?;
    let mut interrupt = signal(SignalKind::interrupt()).context(context)?;
    let shutdown = CancellationToken::new();
    let first = shutdown.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first.is_cancelled() {
                error!("second signal: stopping now; a standby settles what was in hand");
                std::process::exit(1);
            }
            info!("stopping");
            first.cancel();
        }
    });
    Ok(shutdown)
}

fn wrong_usage(problem: &str) -> ExitCode {
    eprintln!("error: {problem}");
    ExitCode::from(2)
}

fn failed(error: &anyhow::Error) -> ExitCode {
    error!("{}", chain(error));
    ExitCode::FAILURE
}

/// An error with its causes; a cause that the text before it ends with is not repeated.
fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}
