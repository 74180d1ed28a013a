//! `repull dead delete`: for good.

use std::process::ExitCode;

use clap::Args;
use repull::connect::ConnectArgs;

use super::pick::{self, PickArgs};
use crate::cmd;
use crate::ui::{out, report};

/// The options of `repull dead delete`.
#[derive(Args, Debug)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    pick: PickArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Deletes.
pub(crate) async fn run(args: DeleteArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let client = cmd::connect(connect).await?;
    let sequences = args.pick.pick(&client, "delete").await?;
    let results = pick::each(sequences, |sequence| client.delete_dead(sequence)).await;
    let (mut deleted, mut failed) = (Vec::new(), 0);
    for (sequence, result) in results {
        match result {
            Ok(()) => deleted.push(sequence),
            Err(error) => {
                failed += 1;
                report::note(format_args!("error: #{sequence}: {error}"));
            }
        }
    }
    if args.json {
        out::json(&deleted)?;
    } else {
        report::note(format_args!("{} deleted", deleted.len()));
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
