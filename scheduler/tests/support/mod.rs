//! A real nats-server of the test's own, scheduler processes on it, and a worker that only counts.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt};
use repull::client::Client;
use repull::connect::Settings;
use repull::id::Lane;
use repull::schedule::Schedule;
use repull::topology::{Bucket, Layout};
use repull::wire::{Address, EventKind, JobEvent, Place, headers};
use tempfile::TempDir;

/// How long anything may take that a test waits for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A server, and what runs on it. All of it ends when it is dropped.
pub(crate) struct World {
    nodes: Vec<Node>,
    folder: TempDir,
    processes: BTreeMap<String, Child>,
    pub(crate) client: Client,
    pub(crate) layout: Layout,
}

/// One nats-server.
struct Node {
    name: String,
    port: u16,
    process: Child,
}

impl World {
    /// A server with the streams made, and a lease of two seconds.
    pub(crate) async fn start() -> Self {
        Self::with_nodes(1).await
    }

    /// The same on a cluster of this many servers.
    pub(crate) async fn with_nodes(count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports: Vec<(u16, u16)> = (0..count).map(|_| (free_port(), free_port())).collect();
        let mut nodes = Vec::new();
        for (index, (port, route)) in ports.iter().copied().enumerate() {
            let name = format!("n{index}");
            write_config(&folder, &name, (port, route), &ports);
            let process = start_server(&folder, &name);
            nodes.push(Node {
                name,
                port,
                process,
            });
        }
        let settings = Settings::for_servers(servers(&nodes));
        let client = eventually("the server answers", || async {
            Client::connect(&settings).await.ok()
        })
        .await;
        let layout = Layout {
            lease: Duration::from_secs(2),
            replicas: count,
            ..Layout::default()
        };
        let topology = eventually("the streams are made", || async {
            client.ensure_topology(&layout).await.ok()
        })
        .await;
        let lane = Lane::normal(repull::id::QueueName::default());
        topology
            .ensure_consumer(client.connection(), &lane, None)
            .await
            .unwrap();
        Self {
            nodes,
            folder,
            processes: BTreeMap::new(),
            client,
            layout,
        }
    }

    /// Stops the server as a crash does, and starts it again on the same store.
    pub(crate) fn restart_server(&mut self) {
        self.restart_node(0);
    }

    /// The same with one node of a cluster.
    pub(crate) fn restart_node(&mut self, index: usize) {
        self.kill_node(index);
        self.start_node(index);
    }

    /// Stops a node as a crash does.
    pub(crate) fn kill_node(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.process.kill().unwrap();
        node.process.wait().unwrap();
    }

    /// Starts a node that was killed.
    pub(crate) fn start_node(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.process = start_server(&self.folder, &node.name);
    }

    /// The node that leads a stream.
    pub(crate) async fn leader_of(&self, stream: &str) -> usize {
        eventually("the stream has a leader", || async {
            let stream = self.client.stream_handle(stream).await.ok()?;
            let leader = stream.get_info().await.ok()?.cluster?.leader?;
            self.nodes.iter().position(|node| node.name == leader)
        })
        .await
    }

    /// Starts a scheduler process.
    pub(crate) fn scheduler(&mut self, id: &str) {
        self.scheduler_with(id, &[]);
    }

    /// Starts a scheduler process with further options.
    pub(crate) fn scheduler_with(&mut self, id: &str, options: &[&str]) {
        let process = Command::new(env!("CARGO_BIN_EXE_repull-scheduler"))
            .args([
                "--id",
                id,
                "--lease",
                "2s",
                "--log",
                "info,repull_scheduler=debug",
            ])
            .args(options)
            .env("NATS_URL", servers(&self.nodes))
            .env_remove("REPULL_HTTP")
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(self.log(id)).unwrap())
            .spawn()
            .unwrap();
        self.processes.insert(id.to_owned(), process);
    }

    fn log(&self, id: &str) -> PathBuf {
        self.folder.path().join(format!("{id}.log"))
    }

    /// Ends a scheduler with no chance to clean up.
    pub(crate) fn kill(&mut self, id: &str) {
        let mut process = self.processes.remove(id).unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, id: &str, signal: &str) {
        let pid = self.processes[id].id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(status.success());
    }

    /// Stops a scheduler cleanly.
    pub(crate) async fn stop(&mut self, id: &str) {
        self.signal(id, "-TERM");
        let mut process = self.processes.remove(id).unwrap();
        let status = eventually("the scheduler stops", || {
            let status = process.try_wait().unwrap();
            async move { status }
        })
        .await;
        assert!(
            status.success(),
            "{status}\n{}",
            std::fs::read_to_string(self.log(id)).unwrap()
        );
    }

    /// Which scheduler holds which lease.
    pub(crate) async fn leases(&self) -> BTreeMap<String, String> {
        let bucket = Bucket::Leader.name(self.client.namespace());
        let bucket = self.client.jetstream().get_key_value(bucket).await.unwrap();
        let keys: Vec<String> = bucket.keys().await.unwrap().try_collect().await.unwrap();
        let mut leases = BTreeMap::new();
        for key in keys.into_iter().filter(|key| key.starts_with("lease.")) {
            if let Some(json) = bucket.get(&key).await.unwrap() {
                let holder: serde_json::Value = serde_json::from_slice(&json).unwrap();
                leases.insert(key, holder["scheduler"].as_str().unwrap().to_owned());
            }
        }
        leases
    }

    /// Waits until each of these schedulers holds so many leases.
    pub(crate) async fn spread(&self, expected: &[(&str, usize)]) {
        eventually(&format!("leases are held as {expected:?}"), || async {
            let leases = self.leases().await;
            let holds = |id: &str| leases.values().filter(|holder| *holder == id).count();
            expected
                .iter()
                .all(|(id, count)| holds(id) == *count)
                .then_some(())
        })
        .await;
    }

    /// Waits until a scheduler has logged a line with this text.
    pub(crate) async fn logged(&self, id: &str, text: &str) {
        eventually(&format!("`{id}` logs `{text}`"), || {
            let found = std::fs::read_to_string(self.log(id))
                .unwrap()
                .contains(text);
            async move { found.then_some(()) }
        })
        .await;
    }

    /// Stores a schedule that counts from now on, and tells from when.
    pub(crate) async fn put(&self, json: serde_json::Value) -> DateTime<Utc> {
        let mut json = json;
        let now = repull::clock::now();
        json["active_from"] = serde_json::to_value(now).unwrap();
        let id = json["id"].as_str().unwrap().to_owned();
        let bytes = serde_json::to_vec(&json).unwrap();
        Schedule::from_json(&id, &bytes).unwrap();
        let bucket = Bucket::Schedules.name(self.client.namespace());
        let bucket = self.client.jetstream().get_key_value(bucket).await.unwrap();
        bucket.put(&id, bytes.into()).await.unwrap();
        now
    }

    /// Takes and acks all jobs as they come, as a worker does: the outcome first. Notes the enqueue
    /// of each.
    pub(crate) async fn drain(&self) -> Drain {
        let stream = Place::Jobs.stream(self.client.namespace());
        let consumer: async_nats::jetstream::consumer::PullConsumer = self
            .client
            .jetstream()
            .get_consumer_from_stream("default", stream)
            .await
            .unwrap();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let (noted, client) = (taken.clone(), self.client.clone());
        let task = tokio::spawn(async move {
            let mut seen = HashSet::new();
            loop {
                let Ok(mut messages) = consumer.messages().await else {
                    continue;
                };
                while let Some(Ok(message)) = messages.next().await {
                    let nonce = message.headers.as_ref().and_then(|h| h.get(headers::NONCE));
                    let nonce = nonce.map(|nonce| nonce.as_str().to_owned());
                    let info = message.info().unwrap();
                    // A job that is delivered again was not lost and not doubled; a server that was
                    // killed may have forgotten that it has delivered it before.
                    if seen.insert((info.stream_sequence, info.published)) {
                        noted.lock().unwrap().push(Taken {
                            subject: message.subject.to_string(),
                            nonce: nonce.clone().unwrap_or_default(),
                            stored: info.published,
                        });
                    }
                    let Some(nonce) = nonce else { continue };
                    let outcome = outcome_of(&client, &message, nonce);
                    // Side by side, as a worker does: one after the other they may come faster than
                    // a busy cluster confirms them.
                    let client = client.clone();
                    tokio::spawn(async move {
                        if client.publish(&outcome).await.is_ok() {
                            let _ = message.ack().await;
                        }
                    });
                }
            }
        });
        Drain { taken, task }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for process in self.processes.values_mut() {
            let _ = process.kill();
            let _ = process.wait();
        }
        for node in &mut self.nodes {
            let _ = node.process.kill();
            let _ = node.process.wait();
        }
        if std::thread::panicking() {
            for entry in std::fs::read_dir(self.folder.path()).unwrap().flatten() {
                if entry
                    .path()
                    .extension()
                    .is_some_and(|extension| extension == "log")
                {
                    let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
                    let lines: Vec<&str> = text.lines().collect();
                    let tail = lines.len().saturating_sub(60);
                    eprintln!(
                        "--- {}\n{}",
                        entry.path().display(),
                        lines[tail..].join("\n")
                    );
                }
            }
        }
    }
}

fn outcome_of(
    client: &Client,
    message: &async_nats::jetstream::Message,
    nonce: String,
) -> repull::client::Message {
    let address = Address::parse(client.namespace(), Place::Jobs, &message.subject).unwrap();
    let mut event = JobEvent::new(EventKind::Succeeded, 1, "test", repull::clock::now());
    event.nonce = Some(nonce.clone());
    repull::client::Message {
        subject: address.subject(client.namespace(), Place::Results),
        headers: event.encode_headers(),
        body: bytes::Bytes::new(),
        id: format!("{nonce}:1:succeeded"),
        expect: repull::client::Expect::Anything,
    }
}

/// A job that was taken.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) subject: String,
    pub(crate) nonce: String,
    pub(crate) stored: DateTime<Utc>,
}

/// Jobs that were taken.
pub(crate) struct Drain {
    taken: Arc<Mutex<Vec<Taken>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drain {
    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.taken.lock().unwrap().len()
    }

    /// Waits until that many jobs were taken.
    pub(crate) async fn reached(&self, count: usize) {
        eventually(&format!("{count} jobs came"), || async {
            (self.count() >= count).then_some(())
        })
        .await;
    }
}

/// What somebody waits for, told only where it was in vain.
pub(crate) trait What {
    fn told(&self) -> String;
}

impl What for &str {
    fn told(&self) -> String {
        (*self).to_owned()
    }
}

impl What for &String {
    fn told(&self) -> String {
        (*self).clone()
    }
}

impl<F: Fn() -> String> What for F {
    fn told(&self) -> String {
        self()
    }
}

/// Waits for something to be there.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: impl What,
    mut look: impl FnMut() -> F,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            started.elapsed() < DEADLINE,
            "waited {DEADLINE:?} in vain: {}",
            what.told()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn servers(nodes: &[Node]) -> String {
    let urls: Vec<String> = nodes
        .iter()
        .map(|node| format!("nats://127.0.0.1:{}", node.port))
        .collect();
    urls.join(",")
}

fn write_config(folder: &TempDir, name: &str, own: (u16, u16), all: &[(u16, u16)]) {
    let store = folder.path().join(name);
    let mut config = format!(
        "listen: 127.0.0.1:{}\nserver_name: {name}\njetstream {{ store_dir: {store:?} }}\n",
        own.0
    );
    if all.len() > 1 {
        let routes: Vec<String> = all
            .iter()
            .map(|(_, route)| format!("nats://127.0.0.1:{route}"))
            .collect();
        config += &format!(
            "cluster {{ name: test, listen: 127.0.0.1:{}, routes: [{}] }}\n",
            own.1,
            routes.join(", ")
        );
    }
    std::fs::write(folder.path().join(format!("{name}.conf")), config).unwrap();
}

fn start_server(folder: &TempDir, name: &str) -> Child {
    let finder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tools/nats-server");
    let found = Command::new(finder).output().unwrap();
    let path = String::from_utf8(found.stdout).unwrap();
    Command::new(path.trim())
        .arg("-c")
        .arg(folder.path().join(format!("{name}.conf")))
        .arg("-l")
        .arg(folder.path().join(format!("{name}-server.log")))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
