//! `repull dev --demo`: a load that is worked off before one's eyes, and accounted for.
//!
//! A burst of jobs goes onto one worker with far fewer slots, which is what stops a job system whose
//! worker is not woken by a slot that comes free. [`load`] makes the jobs and [`tasks`] does their
//! work on [`files`] of a folder; [`clock`] is a schedule beside them; [`play`] lets a second worker
//! join and takes the first away; [`results`] reads what became of each job into a [`ledger`];
//! [`screen`] shows it while it goes on and [`summary`] at the end.

mod cast;
mod clock;
mod files;
mod ledger;
mod load;
mod play;
mod results;
mod screen;
mod summary;
mod tasks;
mod usage;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use repull::id::Namespace;
use repull_worker::Shutdown;

use super::hand::Hand;
use super::stack::Stack;
use super::{DevArgs, serve, welcome, worker};
use crate::nats_server::{self, DataFolder};
use crate::ui::out;
use crate::ui::report::note;

use files::Files;
use play::{Ended, Play};

/// Jobs of the load unless said otherwise.
pub(super) const JOBS_DEFAULT: u32 = 2_000;

/// The fewest that show anything.
pub(super) const JOBS_MIN: i64 = 20;

/// The most whose account fits into memory without a thought.
pub(super) const JOBS_MAX: i64 = 100_000;

/// Runs the demo. Exit code 1 where anything is not accounted for, or where it was interrupted.
pub(super) async fn run(
    args: &DevArgs,
    folder: Option<&Path>,
    namespace: &Namespace,
    signals: &Shutdown,
) -> anyhow::Result<ExitCode> {
    let folder = folder.map_or_else(files::folder_default, Path::to_owned);
    let files = Arc::new(Files::below(&folder)?);
    let program = nats_server::find().await?;
    let data = match &args.data {
        Some(path) => DataFolder::open(path).await?,
        None => DataFolder::temporary()?,
    };
    let started = Stack::start(program, data, args.port, namespace, signals);
    let Some(mut stack) = started.await? else {
        return Ok(ExitCode::FAILURE);
    };
    note(format_args!(
        "{} jobs for one worker with {} slots: each hashes and counts files of `{}`",
        args.jobs,
        args.slots,
        files.root.display()
    ));
    let played = play_and_clean_up(&mut stack, args, files, signals).await;
    let stopped = stack.stop().await;
    let code = played?;
    stopped?;
    Ok(code)
}

async fn play_and_clean_up(
    stack: &mut Stack,
    args: &DevArgs,
    files: Arc<Files>,
    signals: &Shutdown,
) -> anyhow::Result<ExitCode> {
    let mut play = Play::start(stack, args, files).await?;
    let code = match play_it(&mut play, stack, args, signals).await {
        Ok(code) => code,
        Err(error) => {
            // Something that it needs is gone: nothing is worth waiting for.
            play.abandon().await;
            return Err(error);
        }
    };
    play.finish(signals).await?;
    if !stack.server().folder().is_temporary() {
        play.clean_up(stack.client()).await?;
    }
    Ok(code)
}

async fn play_it(
    play: &mut Play,
    stack: &mut Stack,
    args: &DevArgs,
    signals: &Shutdown,
) -> anyhow::Result<ExitCode> {
    let ended = play.run(stack, signals).await?;
    if ended == Ended::Interrupted {
        note(play.interrupted());
        // Nobody waits for jobs that will be gone with their queue.
        signals.stop();
        return Ok(ExitCode::FAILURE);
    }
    let summary = play.sum_up(stack, ended).await?;
    summary.print()?;
    if args.keep {
        keep(stack, args, signals).await?;
    }
    Ok(if summary.is_even() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Goes on as `repull dev` does, beside what is left of the demo.
async fn keep(stack: &mut Stack, args: &DevArgs, signals: &Shutdown) -> anyhow::Result<()> {
    let worker = worker(stack, args, None).await?;
    out::line("")?;
    welcome::print(stack, args)?;
    serve(stack, Hand::start(worker), signals).await
}
