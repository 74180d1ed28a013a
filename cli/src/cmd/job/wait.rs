//! `repull job wait`: until the outcome is there, and prints its value.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use repull::client::{Client, EventView};
use repull::connect::ConnectArgs;
use repull::id::JobId;
use repull::wire::{Address, EventKind, JobEvent};

use crate::cmd;
use crate::ui::{out, report, time};

/// How often a wait looks whether the job still is anywhere: one whose outcome is not kept ends
/// without a word.
const PRESENCE_INTERVAL: Duration = Duration::from_secs(5);

/// The options of `repull job wait`.
#[derive(Args, Debug)]
pub(crate) struct WaitArgs {
    /// Jobs to wait for
    #[arg(required = true, value_name = "ID")]
    ids: Vec<JobId>,
    /// Give up after this long
    #[arg(long, value_name = "DURATION", value_parser = time::duration)]
    timeout: Option<Duration>,
    /// Print the whole outcome as JSON, one line a job
    #[arg(long)]
    json: bool,
}

/// Waits for each job in turn; they run side by side all the same.
pub(crate) async fn run(args: WaitArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let client = cmd::connect(connect).await?;
    let mut code = ExitCode::SUCCESS;
    for id in &args.ids {
        let view = client.find_job(id).await?;
        let waiting = Waiting {
            address: &view.address,
            nonce: view.nonce.as_deref(),
            timeout: args.timeout,
            json: args.json,
        };
        let ended = waiting.run(&client).await?;
        if ended != ExitCode::SUCCESS {
            code = ended;
        }
    }
    Ok(code)
}

/// One job that is waited for.
pub(crate) struct Waiting<'a> {
    pub(crate) address: &'a Address,
    pub(crate) nonce: Option<&'a str>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) json: bool,
}

impl Waiting<'_> {
    /// Waits and prints: the value on stdout where it succeeded, the reason on stderr where not.
    pub(crate) async fn run(&self, client: &Client) -> anyhow::Result<ExitCode> {
        let id = &self.address.id;
        let outcome = match self.timeout {
            None => self.outcome(client).await?,
            Some(timeout) => tokio::time::timeout(timeout, self.outcome(client))
                .await
                .map_err(|_| {
                    let error =
                        anyhow::anyhow!("job `{id}` has not ended within {}", time::brief(timeout));
                    report::hinted(error, format!("`repull job show {id}` says where it is"))
                })??,
        };
        if self.json {
            let mut value = serde_json::to_value(EventView::from(&outcome))?;
            value["id"] = id.as_str().into();
            out::json_line(&value)?;
        } else if outcome.kind == EventKind::Succeeded {
            if let Some(reason) = &outcome.value_dropped {
                report::note(format_args!(
                    "the value of job `{id}` was not kept: {reason}"
                ));
            }
            out::line(outcome.value().to_string())?;
        }
        if outcome.kind == EventKind::Succeeded {
            return Ok(ExitCode::SUCCESS);
        }
        if !self.json {
            let text = outcome.text();
            let reason = if text.is_empty() {
                String::new()
            } else {
                format!(": {text}")
            };
            report::note(format_args!("job `{id}` {}{reason}", outcome.kind));
        }
        Ok(ExitCode::FAILURE)
    }

    async fn outcome(&self, client: &Client) -> anyhow::Result<JobEvent> {
        let outcome = client.wait_at(self.address, self.nonce);
        tokio::pin!(outcome);
        let mut was_absent = false;
        loop {
            tokio::select! {
                outcome = &mut outcome => return Ok(outcome?),
                () = tokio::time::sleep(PRESENCE_INTERVAL) => {
                    let view = client.view_job(self.address).await?;
                    let is_absent = view.is_none_or(|view| !view.summary.state.is_live());
                    // Twice, because the outcome may be on its way.
                    if is_absent && was_absent {
                        return Err(self.vanished());
                    }
                    was_absent = is_absent;
                }
            }
        }
    }

    fn vanished(&self) -> anyhow::Error {
        let id = &self.address.id;
        report::hinted(
            anyhow::anyhow!("job `{id}` is gone and left no outcome"),
            "its outcome may not be kept (`--no-result`, or off for its task), or is too old",
        )
    }
}
