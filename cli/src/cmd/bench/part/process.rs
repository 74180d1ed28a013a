//! The other end: starts such a process, hears what it says, and ends it.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use repull::connect::Settings;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, oneshot};

use super::{PartArgs, Said};

/// How long a process may take to connect.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How long it may take to end once it was told to.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// What one of several processes said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    /// Which of them.
    pub(crate) from: usize,
    /// What.
    pub(crate) said: Said,
}

/// A worker's process. Killed on drop.
pub(crate) struct PartProcess {
    child: Child,
    told: Option<ChildStdin>,
}

impl PartProcess {
    /// Starts it and waits until it is connected; what it says from then on is sent on.
    pub(crate) async fn start(
        number: usize,
        args: &PartArgs,
        settings: &Settings,
        heard: mpsc::UnboundedSender<Heard>,
    ) -> anyhow::Result<Self> {
        let mut child = command(args, settings)?
            .spawn()
            .context("can't start this program once more as a worker's process")?;
        let told = child.stdin.take();
        let output = child.stdout.take().context("a process without an output")?;
        let (ready, is_ready) = oneshot::channel();
        tokio::spawn(async move {
            let mut ready = Some(ready);
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                match serde_json::from_str(&line) {
                    Ok(Said::Ready) => drop(ready.take().map(|ready| ready.send(()))),
                    // A line that a killed process did not end tells nothing.
                    Err(_) => {}
                    Ok(said) => drop(heard.send(Heard { from: number, said })),
                }
            }
        });
        match tokio::time::timeout(START_PATIENCE, is_ready).await {
            Ok(Ok(())) => Ok(Self { child, told }),
            Ok(Err(_)) => bail!("a worker's process ended before it was ready"),
            Err(_) => bail!("a worker's process was not ready within {START_PATIENCE:?}"),
        }
    }

    /// Lets it begin.
    pub(crate) async fn begin(&mut self) -> anyhow::Result<()> {
        let told = self.told.as_mut().context("the process was ended")?;
        told.write_all(b"go\n").await?;
        Ok(told.flush().await?)
    }

    /// Fails where it has ended by itself.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("a worker's process ended with {status} in the middle of the measurement");
        }
        Ok(())
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Lets it drain, and waits until it has ended.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.told.take());
        match tokio::time::timeout(STOP_PATIENCE, self.child.wait()).await {
            Ok(status) => {
                let status = status?;
                anyhow::ensure!(status.success(), "a worker's process ended with {status}");
            }
            Err(_) => self.child.kill().await?,
        }
        Ok(())
    }
}

fn command(args: &PartArgs, settings: &Settings) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", "part"]);
    command.arg(format!("--queue={}", args.queue));
    command.arg(format!("--slots={}", args.slots));
    let flags = [
        ("--results", args.results),
        ("--raw", args.raw),
        ("--each", args.each),
    ];
    command.args(flags.iter().filter(|(_, on)| *on).map(|(flag, _)| flag));
    command
        .env_remove("NATS_CONTEXT")
        .envs(environment(settings)?)
        // Many processes with a thread for each core would mostly change places; a pod's share of a core
        // has one thread too.
        .env("TOKIO_WORKER_THREADS", "1")
        // An interrupt of the terminal is ours alone; this one ends with its input.
        .process_group(0)
        .kill_on_drop(true)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    Ok(command)
}

/// The variables that make a process connect as we do.
fn environment(settings: &Settings) -> anyhow::Result<Vec<(&'static str, String)>> {
    if settings.jwt.is_some() {
        bail!("a context with a JWT of its own can't be handed to processes, expected --creds");
    }
    let path = |path: &Option<std::path::PathBuf>| {
        let path = path.as_ref();
        path.map(|path| path.to_string_lossy().into_owned())
    };
    let all = [
        ("NATS_URL", Some(settings.servers.clone())),
        ("NATS_CREDS", path(&settings.creds)),
        ("NATS_USER", settings.user.clone()),
        ("NATS_PASSWORD", settings.password.clone()),
        ("NATS_TOKEN", settings.token.clone()),
        ("NATS_NKEY", path(&settings.nkey)),
        ("NATS_CERT", path(&settings.tls_cert)),
        ("NATS_KEY", path(&settings.tls_key)),
        ("NATS_CA", path(&settings.tls_ca)),
        (
            "NATS_TLS_FIRST",
            settings.tls_first.then(|| "true".to_owned()),
        ),
        ("REPULL_INBOX_PREFIX", settings.inbox_prefix.clone()),
        ("NATS_JS_DOMAIN", settings.jetstream_domain.clone()),
        ("REPULL_NAMESPACE", Some(settings.namespace.to_string())),
    ];
    let set = all
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    Ok(set.collect())
}
