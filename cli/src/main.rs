//! `repull`: the operator's command line.
//!
//! Parses, runs one command, and turns what became of it into an exit code: 0 done, 1 failed,
//! 2 wrong usage. Data goes to stdout, everything else to stderr.

mod cli;
mod cmd;
mod nats_server;
mod ui;

use std::process::ExitCode;

use clap::Parser;

use cli::Cli;

/// Jobs are many small allocations that one thread makes and another frees; and the C library of the
/// static image has an allocator that is slow at just that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let code = match cmd::run(cli).await {
        Ok(code) => code,
        Err(error) => ui::report::failure(&error),
    };
    repull::telemetry::finish();
    code
}
