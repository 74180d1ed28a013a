//! `repull dev`: a server, a scheduler and a worker in one process.

use std::process::ExitCode;

use clap::Args;

/// The options of `repull dev`.
#[derive(Args, Debug)]
pub(crate) struct DevArgs {}

/// Runs until it is interrupted.
pub(crate) async fn run(_args: DevArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`repull dev` is not part of this build")
}
