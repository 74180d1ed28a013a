//! `repull topology`: the streams, consumers and buckets of an installation.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use repull::connect::ConnectArgs;
use repull::id::{Lane, QueueName};
use repull::topology::{Layout, Topology};

use crate::cmd;
use crate::ui::table::{Cell, Table};
use crate::ui::{out, report, time};

/// The verbs.
#[derive(Subcommand, Debug)]
pub(crate) enum TopologyCommand {
    /// Print what Repull needs, without asking a server
    Print(PrintArgs),
    /// Create what is absent; nothing that exists is changed
    Apply(ApplyArgs),
    /// Compare what is there with what Repull needs
    Check(CheckArgs),
}

/// What an operator decides when the streams are made.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Layout")]
pub(crate) struct LayoutArgs {
    /// Copies of each stream: 1 on a single server, 3 on a cluster
    #[arg(long, env = "REPULL_REPLICAS", value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: u8,
    /// Keep streams in memory: for tests and measurements
    #[arg(long)]
    in_memory: bool,
    /// Lease of a running job: so long after its worker died it runs again
    #[arg(long, value_name = "DURATION", value_parser = time::duration, default_value = "15s")]
    ack_wait: Duration,
    /// How long outcomes are kept
    #[arg(long, value_name = "DURATION", value_parser = time::duration, default_value = "24h")]
    results_age: Duration,
    /// How long dead jobs are kept
    #[arg(long, value_name = "DURATION", value_parser = time::duration, default_value = "90d")]
    dead_age: Duration,
    /// How long the ledger of fires is kept
    #[arg(long, value_name = "DURATION", value_parser = time::duration, default_value = "30d")]
    ledger_age: Duration,
    /// Lease of a scheduler
    #[arg(long, env = "REPULL_LEASE", value_name = "DURATION", value_parser = time::duration,
          default_value = "10s")]
    lease: Duration,
}

impl LayoutArgs {
    fn layout(&self) -> Layout {
        Layout {
            replicas: usize::from(self.replicas),
            in_memory: self.in_memory,
            ack_wait: self.ack_wait,
            results_age: self.results_age,
            dead_age: self.dead_age,
            ledger_age: self.ledger_age,
            lease: self.lease,
        }
    }
}

/// The options of `repull topology print`.
#[derive(Args, Debug)]
pub(crate) struct PrintArgs {
    #[command(flatten)]
    layout: LayoutArgs,
    /// Queues whose consumers are part of it
    #[arg(
        long = "queue",
        short,
        value_name = "QUEUE",
        value_delimiter = ',',
        default_value = "default"
    )]
    queues: Vec<QueueName>,
    /// Print the whole configurations as JSON, as the server takes them
    #[arg(long)]
    json: bool,
}

/// The options of `repull topology apply`.
#[derive(Args, Debug)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    layout: LayoutArgs,
    /// Queues whose consumers are made too
    #[arg(
        long = "queue",
        short,
        value_name = "QUEUE",
        value_delimiter = ',',
        default_value = "default"
    )]
    queues: Vec<QueueName>,
}

/// The options of `repull topology check`.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    layout: LayoutArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs one verb.
pub(crate) async fn run(
    command: TopologyCommand,
    connect: &ConnectArgs,
) -> anyhow::Result<ExitCode> {
    match command {
        TopologyCommand::Print(args) => print(&args, connect),
        TopologyCommand::Apply(args) => apply(&args, connect).await,
        TopologyCommand::Check(args) => check(&args, connect).await,
    }
}

fn print(args: &PrintArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let topology = Topology::new(connect.namespace.clone(), args.layout.layout());
    let (streams, buckets) = (topology.streams(), topology.buckets());
    let lanes = args.queues.iter().cloned().map(Lane::normal);
    let consumers: Vec<_> = lanes.map(|lane| topology.consumer(&lane, None)).collect();
    if args.json {
        out::json(&serde_json::json!({
            "streams": streams,
            "buckets": buckets.iter().map(|bucket| serde_json::json!({
                "bucket": bucket.bucket,
                "description": bucket.description,
                "history": bucket.history,
                "max_age": bucket.max_age.as_nanos() as u64,
                "num_replicas": bucket.num_replicas,
            })).collect::<Vec<_>>(),
            "consumers": consumers,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["NAME", "KIND", "SUBJECTS", "KEPT", "WHAT FOR"]);
    let kept = |age: Duration| match age {
        Duration::ZERO => "until removed".to_owned(),
        age => time::brief(age),
    };
    for stream in &streams {
        table.row([
            stream.name.as_str().into(),
            "stream".into(),
            stream.subjects.join(",").into(),
            kept(stream.max_age).into(),
            purpose(stream.description.as_deref()),
        ]);
    }
    for bucket in &buckets {
        table.row([
            bucket.bucket.as_str().into(),
            "bucket".into(),
            format!("$KV.{}.>", bucket.bucket).into(),
            kept(bucket.max_age).into(),
            purpose(Some(&bucket.description)),
        ]);
    }
    for consumer in &consumers {
        table.row([
            consumer.durable_name.as_deref().unwrap_or_default().into(),
            "consumer".into(),
            consumer.filter_subject.as_str().into(),
            "until removed".into(),
            purpose(consumer.description.as_deref()),
        ]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

fn purpose(description: Option<&str>) -> Cell {
    let text = description.unwrap_or_default();
    text.strip_prefix("Repull: ").unwrap_or(text).into()
}

async fn apply(args: &ApplyArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let client = cmd::connect(connect).await?;
    let topology = Topology::new(connect.namespace.clone(), args.layout.layout());
    let before = topology.check(client.connection()).await?;
    topology.ensure(client.connection()).await?;
    for difference in &before {
        // What was different and not merely absent has stopped us above.
        report::note(format_args!("created {}", difference.asset));
    }
    for queue in &args.queues {
        let limit = client.queue_settings(queue).await?.limit;
        topology
            .ensure_consumer(client.connection(), &Lane::normal(queue.clone()), limit)
            .await?;
    }
    report::note(format_args!(
        "namespace `{}` has all it needs",
        connect.namespace
    ));
    Ok(ExitCode::SUCCESS)
}

async fn check(args: &CheckArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let client = cmd::connect(connect).await?;
    let topology = Topology::new(connect.namespace.clone(), args.layout.layout());
    let differences = topology.check(client.connection()).await?;
    if args.json {
        let shown: Vec<_> = differences
            .iter()
            .map(|difference| {
                serde_json::json!({
                    "asset": difference.asset,
                    "setting": difference.setting,
                    "found": difference.found.trim_matches('`'),
                    "expected": difference.expected.trim_matches('`'),
                })
            })
            .collect();
        out::json(&shown)?;
    } else if !differences.is_empty() {
        let mut table = Table::new(&["NAME", "SETTING", "FOUND", "EXPECTED"]);
        for difference in &differences {
            table.row([
                difference.asset.as_str().into(),
                difference.setting.into(),
                difference.found.trim_matches('`').into(),
                difference.expected.trim_matches('`').into(),
            ]);
        }
        table.print()?;
    }
    if differences.is_empty() {
        report::note(format_args!(
            "namespace `{}` is as it should be",
            connect.namespace
        ));
        return Ok(ExitCode::SUCCESS);
    }
    let absent = differences
        .iter()
        .filter(|difference| difference.setting == "existence")
        .count();
    report::hint(if absent == differences.len() {
        "`repull topology apply` creates what is absent"
    } else {
        "`nats stream edit` changes what is different; nothing is changed behind your back"
    });
    Ok(ExitCode::FAILURE)
}
