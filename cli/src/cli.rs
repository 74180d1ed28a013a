//! The command line as clap reads it: global options and the tree of nouns and verbs.

use clap::{Args, Parser, Subcommand};
use repull::connect::ConnectArgs;

use crate::cmd;

/// Run, inspect and steer jobs over NATS JetStream.
#[derive(Parser, Debug)]
#[command(
    name = "repull",
    version,
    about,
    propagate_version = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    /// Say more on stderr: once for what happens, twice for details (REPULL_LOG overrides)
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
}

/// The nouns.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run a server, a scheduler and a worker in one process, for trying things out
    Dev(Box<cmd::dev::DevArgs>),
    /// Submit, find, follow and cancel jobs
    #[command(subcommand)]
    Job(cmd::job::JobCommand),
    /// Add, explain and steer schedules
    #[command(subcommand)]
    Schedule(cmd::schedule::ScheduleCommand),
    /// See and steer queues
    #[command(subcommand)]
    Queue(cmd::queue::QueueCommand),
    /// See the fleet
    #[command(subcommand)]
    Worker(cmd::worker::WorkerCommand),
    /// Look through dead letters, retry or delete them
    #[command(subcommand)]
    Dead(cmd::dead::DeadCommand),
    /// Print, create or check the streams and buckets
    #[command(subcommand)]
    Topology(cmd::topology::TopologyCommand),
    /// Find what is wrong, and name the cure
    Doctor(cmd::doctor::DoctorArgs),
    /// Measure what this machine and these servers give
    Bench(Box<cmd::bench::BenchArgs>),
    /// Print the completions for a shell
    Completions(cmd::completions::CompletionsArgs),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_tree_of_commands_holds_together() {
        Cli::command().debug_assert();
    }
}
