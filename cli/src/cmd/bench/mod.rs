//! `repull bench`: what this machine and these servers give.

use std::process::ExitCode;

use clap::Args;
use repull::connect::ConnectArgs;

/// The options of `repull bench`.
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the measurement.
pub(crate) async fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    let settings = args.connect.resolve()?;
    anyhow::bail!(
        "`repull bench` is not part of this build (it would use {})",
        settings.servers_redacted()
    )
}
