//! `repull queue set`: what holds for jobs that do not say it themselves.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use repull::client::Client;
use repull::connect::ConnectArgs;
use repull::id::{Priority, QueueName};
use repull::retry::Backoff;

use crate::cmd;
use crate::ui::{out, report};

/// The options of `repull queue set`.
#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    /// The queue
    name: QueueName,
    /// Attempts of jobs that do not say, or `none`
    #[arg(long, value_name = "N", value_parser = or_none::<std::num::NonZeroU32>)]
    max_attempts: Option<OrNone<std::num::NonZeroU32>>,
    /// Wait between attempts of jobs that do not say, such as `1s,2,6h`, or `none`
    #[arg(long, value_parser = or_none::<Backoff>)]
    backoff: Option<OrNone<Backoff>>,
    /// Whether it has the lanes `high` and `low` beside the normal one; workers see it when they start
    #[arg(long, value_name = "on|off")]
    lanes: Option<Switch>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A value, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
struct OrNone<T>(Option<T>);

fn or_none<T: std::str::FromStr>(text: &str) -> Result<OrNone<T>, String>
where
    T::Err: std::fmt::Display,
{
    match text {
        "none" => Ok(OrNone(None)),
        _ => match text.parse() {
            Ok(value) => Ok(OrNone(Some(value))),
            Err(error) => Err(format!("{error}; `none` takes the setting away")),
        },
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// Sets.
pub(crate) async fn run(args: SetArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    if args.max_attempts.is_none() && args.backoff.is_none() && args.lanes.is_none() {
        return Err(report::hinted(
            report::usage("nothing is to be set"),
            "give --max-attempts, --backoff or --lanes; limits and pauses have verbs of their own",
        ));
    }
    let client = cmd::connect(connect).await?;
    client
        .change_queue(&args.name, |settings| {
            if let Some(max_attempts) = args.max_attempts {
                settings.max_attempts = max_attempts.0.map(std::num::NonZeroU32::get);
            }
            if let Some(backoff) = args.backoff {
                settings.backoff = backoff.0;
            }
            if let Some(lanes) = args.lanes {
                settings.lanes = lanes == Switch::On;
            }
        })
        .await?;
    if args.json {
        out::json(&client.queue_settings(&args.name).await?)?;
    } else {
        report::note(format_args!("queue `{}` is set", args.name));
        if args.lanes.is_some() {
            report::hint("workers see a change of lanes when they start");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses a lane that no worker will ever look at.
pub(crate) async fn check_lane(
    client: &Client,
    queue: &QueueName,
    priority: Priority,
) -> anyhow::Result<()> {
    if priority == Priority::Normal || client.queue_settings(queue).await?.lanes {
        return Ok(());
    }
    Err(report::hinted(
        anyhow::anyhow!("queue `{queue}` has no lane but the normal one"),
        format!("`repull queue set {queue} --lanes on`, then restart its workers"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_can_be_taken_away() {
        assert_eq!(or_none::<Backoff>("none").unwrap(), OrNone(None));
        assert!(or_none::<Backoff>("1s,2,1h").unwrap().0.is_some());
        let error = or_none::<Backoff>("soon").unwrap_err();
        assert!(error.contains("soon") && error.contains("none"), "{error}");
        assert!(or_none::<std::num::NonZeroU32>("0").is_err());
    }
}
