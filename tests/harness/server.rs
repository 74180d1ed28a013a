//! A real nats-server of the test's own: its port, its store, its faults.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::Command;

use crate::child::Child;
use crate::{DEADLINE, binaries, http, port};

/// How often a start is tried on another port, should somebody take the chosen one in between.
const PORTS_TRIED: usize = 5;

/// A nats-server process with JetStream on loopback. Killed on drop, and its store removed.
pub struct NatsServer {
    name: String,
    port: u16,
    monitoring_port: u16,
    settings: Settings,
    folder: TempDir,
    child: Child,
}

/// What a server is started with; the same again at each restart.
#[derive(Clone, Default)]
struct Settings {
    name: Option<String>,
    config: String,
    jetstream: Option<String>,
}

/// Sets up a [`NatsServer`].
#[derive(Default)]
pub struct NatsServerBuilder {
    settings: Settings,
    without_jetstream: bool,
    ports: Option<(u16, u16)>,
}

impl NatsServerBuilder {
    /// Adds text to the server's configuration file: users, TLS, limits, anything but `listen`,
    /// `http`, `server_name` and `jetstream`. Several calls add up.
    #[must_use]
    pub fn config(mut self, text: &str) -> Self {
        self.settings.config += text;
        self.settings.config += "\n";
        self
    }

    /// Adds text to the `jetstream` block, for example `max_file_store: 1MB`.
    #[must_use]
    pub fn jetstream(mut self, text: &str) -> Self {
        let block = self.settings.jetstream.get_or_insert_default();
        *block += text;
        *block += "\n";
        self
    }

    /// Leaves JetStream off.
    #[must_use]
    pub fn without_jetstream(mut self) -> Self {
        self.without_jetstream = true;
        self
    }

    /// The server's name; one of its own by default.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.settings.name = Some(name.to_owned());
        self
    }

    /// The client and monitoring ports, for those who must know them before the start.
    #[must_use]
    pub(crate) fn ports(mut self, client: u16, monitoring: u16) -> Self {
        self.ports = Some((client, monitoring));
        self
    }

    /// Starts the server and waits until it says that it is ready.
    pub async fn start(mut self) -> NatsServer {
        if self.without_jetstream {
            self.settings.jetstream = None;
        } else {
            self.settings.jetstream.get_or_insert_default();
        }
        let folder = tempfile::Builder::new().prefix("repull-nats-").tempdir();
        let folder = folder.expect("a temporary folder");
        let mut tried = 0;
        loop {
            let (port, monitoring_port) = self
                .ports
                .unwrap_or_else(|| (port::reserve(), port::reserve()));
            let name = self.settings.name.clone();
            let name = name.unwrap_or_else(|| format!("nats-{port}"));
            write_config(&folder, &name, port, monitoring_port, &self.settings);
            let mut child = spawn(&folder, &name);
            tried += 1;
            match wait_until_ready(&mut child).await {
                Ok(()) => {
                    return NatsServer {
                        name,
                        port,
                        monitoring_port,
                        settings: self.settings,
                        folder,
                        child,
                    };
                }
                Err(_) if port_was_taken(&child) && self.ports.is_none() && tried < PORTS_TRIED => {
                }
                Err(missed) => panic!("{missed}: `{name}` is ready\n{}", child.tail()),
            }
        }
    }
}

impl NatsServer {
    /// Starts a server with JetStream and no authentication.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Sets up a server.
    pub fn builder() -> NatsServerBuilder {
        NatsServerBuilder::default()
    }

    /// `nats://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// `nats://<user>:<password>@127.0.0.1:<port>`.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        format!("nats://{user}:{password}@{}", self.address())
    }

    /// `127.0.0.1:<port>`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The server's name, as others see it in a cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process's number, to look at what it costs.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// The server's folder: its store, its configuration.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A plain client of this server.
    pub async fn connect(&self) -> async_nats::Client {
        async_nats::connect(self.url())
            .await
            .unwrap_or_else(|error| panic!("cannot connect to `{}`: {error}", self.url()))
    }

    /// A page of the server's monitoring, for example `/jsz?consumers=true`.
    pub async fn monitoring(&self, path: &str) -> serde_json::Value {
        let address = self.monitoring_address();
        let (status, body) = http::get(&address, path)
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
        serde_json::from_str(&body)
            .unwrap_or_else(|error| panic!("`{path}` answered {status} `{body}`: {error}"))
    }

    /// `host:port` of the server's monitoring.
    pub fn monitoring_address(&self) -> String {
        format!("127.0.0.1:{}", self.monitoring_port)
    }

    /// Ends it at once, as a crash does (SIGKILL).
    pub async fn kill(&mut self) {
        self.child.kill().await;
    }

    /// Ends it in order (SIGTERM).
    pub async fn stop(&mut self) {
        self.child.signal(Signal::TERM);
        // A frozen one would sleep through it.
        self.child.resume();
        self.child.wait(DEADLINE).await;
    }

    /// Starts it again on the same port and store; one that still runs is stopped in order first.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.child = spawn(&self.folder, &self.name);
        if let Err(missed) = wait_until_ready(&mut self.child).await {
            panic!(
                "{missed}: `{}` is ready again\n{}",
                self.name,
                self.child.tail()
            );
        }
    }

    /// Starts it again on the same port with nothing in its store.
    pub async fn restart_empty(&mut self) {
        self.kill().await;
        let store = self.folder.path().join("store");
        if store.exists() {
            std::fs::remove_dir_all(&store).expect("the server's store removed");
        }
        self.restart().await;
    }

    /// Freezes it (SIGSTOP): connections stay, nothing answers.
    pub fn pause(&mut self) {
        self.child.pause();
    }

    /// Lets a frozen server go on (SIGCONT).
    pub fn resume(&mut self) {
        self.child.resume();
    }

    /// Replaces the text given to [`NatsServerBuilder::config`] and lets the server read it
    /// (SIGHUP), for example to take a permission away.
    pub async fn reload(&mut self, config: &str) {
        config.clone_into(&mut self.settings.config);
        let (port, monitoring) = (self.port, self.monitoring_port);
        write_config(&self.folder, &self.name, port, monitoring, &self.settings);
        let before = self.reloads();
        self.child.signal(Signal::HUP);
        let what = format!("`{}` reloads its configuration", self.name);
        crate::eventually(DEADLINE, &what, async || {
            (self.reloads() > before).then_some(())
        })
        .await;
    }

    fn reloads(&self) -> usize {
        let reloaded = |line: &&String| line.contains("Reloaded server configuration");
        self.logs().iter().filter(reloaded).count()
    }

    /// Every line it has logged since its last start.
    pub fn logs(&self) -> Vec<String> {
        self.child.all_lines()
    }

    /// Waits for a line of its log.
    pub async fn wait_for_log(&mut self, text: &str, within: Duration) -> String {
        let pick = |line: &str| line.contains(text).then(|| line.to_owned());
        self.child
            .wait_for(&format!("`{text}`"), within, pick)
            .await
    }
}

fn write_config(folder: &TempDir, name: &str, port: u16, monitoring: u16, settings: &Settings) {
    let store = folder.path().join("store");
    let jetstream = settings
        .jetstream
        .as_ref()
        .map_or_else(String::new, |block| {
            format!(
                "jetstream {{\nstore_dir: {:?}\n{block}}}\n",
                store.display().to_string()
            )
        });
    let text = format!(
        "server_name: {name:?}\nlisten: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitoring}\"\n\
         {jetstream}{}",
        settings.config
    );
    std::fs::write(folder.path().join("nats.conf"), text).expect("the server's configuration");
}

fn spawn(folder: &TempDir, name: &str) -> Child {
    let mut command = Command::new(binaries::nats_server());
    command
        .arg("--config")
        .arg(folder.path().join("nats.conf"))
        .current_dir(folder.path());
    Child::spawn(name, command)
}

async fn wait_until_ready(child: &mut Child) -> Result<(), String> {
    let ready = |line: &str| line.contains("Server is ready").then_some(());
    child.look_for(DEADLINE, ready).await
}

fn port_was_taken(child: &Child) -> bool {
    let taken = |line: &String| line.contains("address already in use");
    child.all_lines().iter().any(taken)
}
