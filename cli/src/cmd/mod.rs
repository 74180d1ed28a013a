//! The commands: one module a noun.

pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod dead;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod job;
pub(crate) mod queue;
pub(crate) mod schedule;
pub(crate) mod topology;
pub(crate) mod worker;

use std::process::ExitCode;

use repull::client::Client;
use repull::connect::ConnectArgs;
use repull::telemetry::{self, LogArgs, LogFormat};

use crate::cli::{Cli, Command, Global};
use crate::ui::report;

/// Runs one command. `dev` and `bench` start their own logging.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let Global { connect, verbose } = cli.global;
    let command = match cli.command {
        Command::Dev(args) => return dev::run(*args, &connect.namespace, verbose).await,
        Command::Bench(args) => return bench::run(*args, &connect).await,
        command => command,
    };
    log(verbose)?;
    match command {
        Command::Job(command) => job::run(command, &connect).await,
        Command::Schedule(command) => schedule::run(command, &connect).await,
        Command::Queue(command) => queue::run(command, &connect).await,
        Command::Worker(command) => worker::run(command, &connect).await,
        Command::Dead(command) => dead::run(command, &connect).await,
        Command::Topology(command) => topology::run(command, &connect).await,
        Command::Doctor(args) => doctor::run(args, &connect).await,
        Command::Completions(args) => completions::run(&args),
        Command::Dev(_) | Command::Bench(_) => Ok(ExitCode::SUCCESS),
    }
}

/// Errors are told by the command itself, so nothing is logged unless it is asked for.
fn log(verbose: u8) -> anyhow::Result<()> {
    let filter = std::env::var("REPULL_LOG").unwrap_or_else(|_| {
        match verbose {
            0 => "off",
            1 => "info",
            _ => "debug",
        }
        .to_owned()
    });
    let args = LogArgs {
        filter,
        format: LogFormat::Text,
    };
    telemetry::init(&args).map_err(report::usage)
}

/// Connects as the options and the environment say.
pub(crate) async fn connect(args: &ConnectArgs) -> anyhow::Result<Client> {
    let settings = args.resolve()?;
    Ok(Client::connect_as(&settings, "repull-cli").await?)
}

/// Who is at the keyboard, for what is stored with a pause.
pub(crate) fn operator() -> String {
    let user = ["REPULL_OPERATOR", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    user.unwrap_or_else(|| "an operator".to_owned())
}
