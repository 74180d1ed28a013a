//! A `nats-server` child process with JetStream, for `dev` and `bench`.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use repull::connect::{SERVER_VERSION_MIN, ServerVersion};
use tokio::process::{Child, Command};

/// Names the program to use, before any other that could be found.
pub(crate) const PROGRAM_VARIABLE: &str = "REPULL_NATS_SERVER";

/// How long a server may take until it accepts connections.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How long it may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// A running server; it is killed where it is dropped without [`NatsServer::stop`].
#[derive(Debug)]
pub(crate) struct NatsServer {
    child: Child,
    port: u16,
    /// The folder, where it goes with the server.
    temporary: Option<PathBuf>,
}

impl NatsServer {
    /// Starts one with a folder of its own that goes with it.
    pub(crate) async fn temporary() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("repull-{}", uuid_like()));
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("can't make the folder `{}`", folder.display()))?;
        let mut server = Self::start(&folder, 0).await?;
        server.temporary = Some(folder);
        Ok(server)
    }

    /// Starts one that keeps its data in `folder`, on `port` (0: a free one).
    pub(crate) async fn start(folder: &Path, port: u16) -> anyhow::Result<Self> {
        let program = find().await?;
        let port = if port == 0 { free_port()? } else { port };
        let log = folder.join("nats-server.log");
        let mut command = Command::new(&program);
        command
            .args([
                "--addr",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--jetstream",
                "--store_dir",
            ])
            .arg(folder)
            .arg("--log")
            .arg(&log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        #[cfg(unix)]
        // A Ctrl-C in the terminal is ours to handle: the server goes last.
        command.process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("can't start `{}`", program.display()))?;
        let mut server = Self {
            child,
            port,
            temporary: None,
        };
        server.wait_until_ready(&log).await?;
        Ok(server)
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    async fn wait_until_ready(&mut self, log: &Path) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + START_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                let text = std::fs::read_to_string(log).unwrap_or_default();
                let last: Vec<&str> = text.lines().rev().take(3).collect();
                bail!(
                    "nats-server ended at its start ({status}): {}",
                    last.into_iter().rev().collect::<Vec<_>>().join(" / ")
                );
            }
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port))
                .await
                .is_ok()
            {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                bail!(
                    "nats-server did not listen on port {} within {START_TIMEOUT:?}; its log is `{}`",
                    self.port,
                    log.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it in good order.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        #[cfg(unix)]
        if let Some(pid) = self
            .child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(rustix::process::Pid::from_raw)
        {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
            if tokio::time::timeout(STOP_TIMEOUT, self.child.wait())
                .await
                .is_ok()
            {
                return Ok(());
            }
        }
        self.child.kill().await.context("can't end nats-server")
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if let Some(folder) = &self.temporary {
            let _ = self.child.start_kill();
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Finds a program that is new enough: the named one, one on the PATH, one in the project's tools.
pub(crate) async fn find() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os(PROGRAM_VARIABLE) {
        let program = PathBuf::from(named);
        check(&program)
            .await
            .with_context(|| format!("{PROGRAM_VARIABLE} is `{}`", program.display()))?;
        return Ok(program);
    }
    let mut reasons = Vec::new();
    let candidates = std::iter::once(PathBuf::from("nats-server"))
        .chain(tools_folders().map(|folder| folder.join("nats-server")));
    for program in candidates {
        match check(&program).await {
            Ok(()) => return Ok(program),
            Err(error) => reasons.push(format!("`{}`: {error}", program.display())),
        }
    }
    bail!(
        "no nats-server of at least {SERVER_VERSION_MIN} was found ({}); install one, name it in {PROGRAM_VARIABLE}, or run `tools/nats-server` in the project's folder",
        reasons.join("; ")
    )
}

/// The `.tools` folders of this folder and those above it.
fn tools_folders() -> impl Iterator<Item = PathBuf> {
    let here = std::env::current_dir().unwrap_or_default();
    let above: Vec<PathBuf> = here
        .ancestors()
        .flat_map(|folder| [folder.join(".tools"), folder.join(".tools/bin")])
        .collect();
    above
        .into_iter()
        .filter(|folder| folder.join("nats-server").is_file())
}

async fn check(program: &Path) -> anyhow::Result<()> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().find_map(ServerVersion::parse);
    match version {
        Some(version) if version >= SERVER_VERSION_MIN => Ok(()),
        Some(version) => bail!("version {version}, expected at least {SERVER_VERSION_MIN}"),
        None => bail!("says no version, expected at least {SERVER_VERSION_MIN}"),
    }
}

/// A port that is free at this moment.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn uuid_like() -> String {
    repull::id::JobId::generate().to_string()
}
