//! A `nats-server` child with JetStream, on loopback, with its data in a folder of ours.
//!
//! It has a process group of its own, so that a Ctrl-C in the terminal reaches us alone and the
//! server goes last. Three things keep it from outliving us: [`NatsServer::stop`], a guard that notices
//! our death ([`guard`]), and the next start in the same folder ([`folder`]).

mod folder;
mod guard;
mod program;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use repull::connect::ServerVersion;
use repull::id::JobId;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

pub(crate) use folder::DataFolder;
pub(crate) use program::{Program, find};

use guard::Guard;

/// The port of NATS, taken where it is free.
pub(crate) const PORT_DEFAULT: u16 = 4222;

/// How long a server may take until it accepts connections: it reads its store first.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long it may take to end in good order.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// How often, and at which intervals, a killed one is looked at until it is gone.
const KILL_POLLS: u32 = 100;
const KILL_POLL: Duration = Duration::from_millis(10);

/// How often another free port is tried where somebody took the one we found.
const PORTS_TRIED: u32 = 5;

/// Which port to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// This one or none.
    Exactly(u16),
    /// This one, or any other where it is taken.
    Rather(u16),
    /// Any.
    Free,
}

/// A running server. Dropped without [`NatsServer::stop`] it is killed.
#[derive(Debug)]
pub(crate) struct NatsServer {
    child: Child,
    guard: Option<Guard>,
    program: Program,
    port: u16,
    // Dropped last: a temporary one goes when the process has gone.
    folder: Arc<DataFolder>,
}

/// Why one try to start a server came to nothing.
enum Failure {
    /// Somebody else has the port.
    PortTaken,
    Other(anyhow::Error),
}

impl NatsServer {
    /// Starts a server on a free port, whose data goes with it.
    pub(crate) async fn temporary() -> anyhow::Result<Self> {
        let folder = Arc::new(DataFolder::temporary()?);
        Self::start(find().await?, folder, Port::Free).await
    }

    /// Starts a server and waits until it accepts connections.
    pub(crate) async fn start(
        program: Program,
        folder: Arc<DataFolder>,
        port: Port,
    ) -> anyhow::Result<Self> {
        let mut number = port.first()?;
        for _ in 0..PORTS_TRIED {
            match Self::start_on(&program, &folder, number).await {
                Ok(server) => return Ok(server),
                Err(Failure::Other(error)) => return Err(error),
                Err(Failure::PortTaken) if matches!(port, Port::Exactly(_)) => {
                    return Err(port_taken(number));
                }
                Err(Failure::PortTaken) => number = free_port()?,
            }
        }
        bail!("no port could be had for nats-server after {PORTS_TRIED} tries")
    }

    async fn start_on(
        program: &Program,
        folder: &Arc<DataFolder>,
        port: u16,
    ) -> Result<Self, Failure> {
        // Random: tells our server from another that answers on the same port.
        let name = format!("repull-dev-{}", JobId::generate());
        let log_start = std::fs::metadata(folder.log()).map_or(0, |log| log.len());
        let (child, guard) = spawn(program, folder, &name, port).map_err(Failure::Other)?;
        let mut server = Self {
            child,
            guard: Some(guard),
            program: program.clone(),
            port,
            folder: folder.clone(),
        };
        server.wait_until_ready(&name, log_start).await?;
        Ok(server)
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its version.
    pub(crate) fn version(&self) -> ServerVersion {
        self.program.version
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Where its data is.
    pub(crate) fn folder(&self) -> &DataFolder {
        &self.folder
    }

    /// Whether it runs no more.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it ends by itself, and says how.
    pub(crate) async fn ended(&mut self) -> anyhow::Error {
        match self.child.wait().await {
            Ok(status) => {
                self.guard = None;
                self.died(status, 0)
            }
            Err(error) => anyhow!(error).context("can't wait for nats-server"),
        }
    }

    /// Kills it, as a fault does, and starts it again on the same port and data.
    pub(crate) async fn killed_and_started_again(self) -> anyhow::Result<Self> {
        let (program, folder, port) = (self.program.clone(), self.folder.clone(), self.port);
        drop(self);
        Self::start(program, folder, Port::Exactly(port)).await
    }

    /// Ends it in good order.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let number = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = number.and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM).context("can't tell nats-server to end")?;
        }
        if timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            self.child.kill().await.context("can't end nats-server")?;
        }
        Ok(())
    }

    async fn wait_until_ready(&mut self, name: &str, log_start: u64) -> Result<(), Failure> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            match self.child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => {
                    let said = self.said_since(log_start);
                    return Err(if said.contains("address already in use") {
                        Failure::PortTaken
                    } else {
                        Failure::Other(self.died(status, log_start))
                    });
                }
                Err(error) => return Err(Failure::Other(error.into())),
            }
            match greeting(self.port).await {
                Some(info) if info.contains(name) => return Ok(()),
                Some(_) => return Err(Failure::PortTaken),
                None if Instant::now() > deadline => {
                    return Err(Failure::Other(anyhow!(
                        "nats-server does not listen on port {} after {START_TIMEOUT:?}; its log is `{}`",
                        self.port,
                        self.folder.log().display()
                    )));
                }
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    fn died(&self, status: ExitStatus, log_start: u64) -> anyhow::Error {
        let said = self.said_since(log_start);
        let mut last: Vec<&str> = said.lines().rev().take(2).collect();
        last.reverse();
        let last = match last.as_slice() {
            [] => "it said nothing".to_owned(),
            lines => format!("the last it said: {}", lines.join(" / ")),
        };
        let log = match self.folder.is_temporary() {
            true => String::new(),
            false => format!(" (all of it is in `{}`)", self.folder.log().display()),
        };
        anyhow!("nats-server ended by itself, {status}; {last}{log}")
    }

    /// What it has logged behind the first `start` bytes.
    fn said_since(&self, start: u64) -> String {
        let log = std::fs::read(self.folder.log()).unwrap_or_default();
        let start = usize::try_from(start).unwrap_or(0).min(log.len());
        String::from_utf8_lossy(&log[start..]).into_owned()
    }
}

impl Drop for NatsServer {
    /// Ends it at once where that has not been done in good order.
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        for _ in 0..KILL_POLLS {
            if !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(KILL_POLL);
        }
        self.guard = None;
        self.folder.forget();
    }
}

impl Port {
    /// The port to try first.
    fn first(self) -> anyhow::Result<u16> {
        match self {
            Self::Exactly(port) if is_taken(port) => Err(port_taken(port)),
            Self::Rather(port) if is_taken(port) => free_port(),
            Self::Exactly(port) | Self::Rather(port) => Ok(port),
            Self::Free => free_port(),
        }
    }
}

fn spawn(
    program: &Program,
    folder: &DataFolder,
    name: &str,
    port: u16,
) -> anyhow::Result<(Child, Guard)> {
    let config = folder.config();
    std::fs::write(&config, config_text(folder, name, port)?)
        .with_context(|| format!("can't write `{}`", config.display()))?;
    let child = Command::new(&program.path)
        .arg("--config")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("can't start `{}`", program.path.display()))?;
    let pid = child.id().context("nats-server ended at once")?;
    folder.remember(pid)?;
    let guard = Guard::set(pid, folder.is_temporary().then_some(folder.path()))?;
    Ok((child, guard))
}

fn config_text(folder: &DataFolder, name: &str, port: u16) -> anyhow::Result<String> {
    let quoted = |path: &Path| {
        let text = path.to_str().with_context(|| {
            format!(
                "the folder `{}` has a name that is not UTF-8",
                path.display()
            )
        })?;
        Ok::<_, anyhow::Error>(format!(
            "\"{}\"",
            text.replace('\\', "\\\\").replace('"', "\\\"")
        ))
    };
    let (store, log) = (quoted(folder.path())?, quoted(&folder.log())?);
    Ok(format!(
        "# Written at each start of `repull dev`; changes are lost.\n\
         server_name: {name}\n\
         # Loopback alone, since there are no credentials.\n\
         listen: \"127.0.0.1:{port}\"\n\
         log_file: {log}\n\
         logfile_size_limit: 10MB\n\
         logfile_max_num: 2\n\
         jetstream {{\n    store_dir: {store}\n}}\n"
    ))
}

/// The first line of whatever answers on a port: a NATS server says who it is.
async fn greeting(port: u16) -> Option<String> {
    let asked = async {
        let stream = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
        let mut line = String::new();
        BufReader::new(stream.ok()?)
            .read_line(&mut line)
            .await
            .ok()?;
        Some(line)
    };
    timeout(Duration::from_secs(2), asked).await.ok()?
}

/// Whether somebody has the port: on all addresses, or on loopback.
fn is_taken(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err()
        || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A port that is free at this moment.
fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?.port())
}

fn port_taken(port: u16) -> anyhow::Error {
    crate::ui::report::hinted(
        anyhow!("port {port} is taken by somebody else"),
        "name another with --port, or leave that out to get one that is free",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_refused_or_replaced() {
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = other.local_addr().unwrap().port();
        assert!(Port::Exactly(taken).first().is_err());
        assert_ne!(Port::Rather(taken).first().unwrap(), taken);
    }

    #[test]
    fn names_with_quotes_stay_inside_the_config_s_strings() {
        let parent = tempfile::tempdir().unwrap();
        let odd = parent.path().join("a \"b\\");
        let folder = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(DataFolder::open(&odd))
            .unwrap();
        let text = config_text(&folder, "x", 1).unwrap();
        assert!(text.contains(r#"a \"b\\""#), "{text}");
    }
}
