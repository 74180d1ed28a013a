//! The commands: one module a noun.

pub(crate) mod bench;
pub(crate) mod dev;

use std::process::ExitCode;

use crate::cli::{Cli, Command};

/// Runs one command. `dev` and `bench` start their own logging.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Dev(args) => dev::run(*args).await,
        Command::Bench(args) => bench::run(*args, &cli.global.connect).await,
    }
}
