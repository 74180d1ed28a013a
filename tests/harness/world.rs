//! A world of a test's own: a server or cluster, what stands before it, and what runs on it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use repull::client::Client;
use repull::connect::Settings;
use repull::id::Namespace;
use repull::topology::Layout;
use tempfile::TempDir;
use tokio::sync::OwnedSemaphorePermit;

use crate::output::Output;
use crate::process::{Process, ProcessBuilder};
use crate::roles::{SchedulerBuilder, WorkerBuilder};
use crate::server::NatsServerBuilder;
use crate::wait::DEADLINE;
use crate::{Binary, Clock, Cluster, Interceptor, NatsServer, Proxy, limit};

/// The server side of a world.
enum Servers {
    One(Box<NatsServer>),
    Cluster(Cluster),
}

/// What the world's clients and processes speak to instead of the server itself.
enum Before {
    Nothing,
    Proxies(Vec<Proxy>),
    Interceptor(Interceptor),
}

/// A world of a test's own. Everything in it ends when it is dropped.
pub struct World {
    client: Option<Client>,
    namespace: String,
    before: Before,
    servers: Servers,
    folder: TempDir,
    files: AtomicUsize,
    _place: Option<OwnedSemaphorePermit>,
}

/// Sets up a [`World`].
#[must_use]
pub struct WorldBuilder {
    server: NatsServerBuilder,
    cluster: Option<usize>,
    cluster_config: String,
    proxied: bool,
    intercepted: bool,
    namespace: String,
    layout: Option<Layout>,
    topology: bool,
}

impl WorldBuilder {
    /// A cluster of that many nodes instead of one server.
    pub fn cluster(mut self, nodes: usize) -> Self {
        self.cluster = Some(nodes);
        self
    }

    /// A [`Proxy`] before each server, through which the world's processes connect.
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// An [`Interceptor`] before the server, through which the world's processes connect.
    pub fn intercepted(mut self) -> Self {
        self.intercepted = true;
        self
    }

    /// Adds text to the servers' configuration.
    pub fn server_config(mut self, text: &str) -> Self {
        self.cluster_config += text;
        self.cluster_config += "\n";
        self.server = self.server.config(text);
        self
    }

    /// Adds text to the `jetstream` block of the one server, for example `max_file_store: 1MB`.
    pub fn jetstream(mut self, text: &str) -> Self {
        self.server = self.server.jetstream(text);
        self
    }

    /// The namespace; `repull` by default.
    pub fn namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// How the streams are made. Processes that should agree must be told by their own options.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = Some(layout);
        self
    }

    /// Leaves the streams to the processes, and makes no client.
    pub fn without_topology(mut self) -> Self {
        self.topology = false;
        self
    }

    /// Starts it: when this returns, the streams are there and the server is ready.
    pub async fn start(self) -> World {
        assert!(
            !(self.intercepted && (self.proxied || self.cluster.is_some())),
            "an intercepted world has one server and no proxy"
        );
        let place = limit::place(self.cluster.unwrap_or(1)).await;
        let servers = match self.cluster {
            None => Servers::One(Box::new(self.server.start().await)),
            Some(nodes) => Servers::Cluster(Cluster::start_with(nodes, &self.cluster_config).await),
        };
        let before = match &servers {
            Servers::One(server) if self.intercepted => {
                Before::Interceptor(Interceptor::before(&server.address()))
            }
            Servers::One(server) if self.proxied => {
                Before::Proxies(vec![Proxy::to(&server.address())])
            }
            Servers::Cluster(cluster) if self.proxied => {
                let nodes = (0..cluster.size()).map(|index| cluster.node(index));
                Before::Proxies(nodes.map(|node| Proxy::to(&node.address())).collect())
            }
            _ => Before::Nothing,
        };
        let folder = tempfile::Builder::new().prefix("repull-world-").tempdir();
        let mut world = World {
            client: None,
            namespace: self.namespace,
            before,
            servers,
            folder: folder.expect("a temporary folder"),
            files: AtomicUsize::new(0),
            _place: place,
        };
        if self.topology {
            let layout = self.layout.unwrap_or_else(|| Layout {
                replicas: self.cluster.unwrap_or(1),
                ..Layout::default()
            });
            let client = world.connect().await;
            // A cluster that has just elected may still count a peer as offline.
            let started = Instant::now();
            while let Err(error) = client.ensure_topology(&layout).await {
                assert!(
                    started.elapsed() < DEADLINE,
                    "cannot make the streams: {error}"
                );
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            world.client = Some(client);
        }
        world
    }
}

impl World {
    /// Starts a world with one server and the streams on it.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Sets up a world.
    pub fn builder() -> WorldBuilder {
        WorldBuilder {
            server: NatsServer::builder(),
            cluster: None,
            cluster_config: String::new(),
            proxied: false,
            intercepted: false,
            namespace: Namespace::default().to_string(),
            layout: None,
            topology: true,
        }
    }

    /// Where the world's processes connect to: the proxies or the interceptor, if there are any.
    pub fn url(&self) -> String {
        match &self.before {
            Before::Nothing => self.server_url(),
            Before::Proxies(proxies) => {
                let urls: Vec<_> = proxies.iter().map(Proxy::url).collect();
                urls.join(",")
            }
            Before::Interceptor(interceptor) => interceptor.url(),
        }
    }

    /// Where the servers themselves listen, past every fault.
    pub fn server_url(&self) -> String {
        match &self.servers {
            Servers::One(server) => server.url(),
            Servers::Cluster(cluster) => cluster.url(),
        }
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A Repull client past every fault; one and the same at each call.
    pub fn client(&self) -> &Client {
        let client = self.client.as_ref();
        client.expect("a world without topology has no client; see World::connect")
    }

    /// Another Repull client past every fault.
    pub async fn connect(&self) -> Client {
        self.connect_to(&self.server_url()).await
    }

    /// A Repull client that connects that way, through a proxy for example.
    pub async fn connect_to(&self, url: &str) -> Client {
        let settings = Settings {
            namespace: Namespace::new(&self.namespace).expect("a namespace"),
            ..Settings::for_servers(url)
        };
        let client = Client::connect(&settings).await;
        client.unwrap_or_else(|error| panic!("cannot connect to {url}: {error}"))
    }

    /// A plain NATS client past every fault.
    pub fn nats(&self) -> &async_nats::Client {
        self.client().nats()
    }

    /// JetStream by a plain client past every fault.
    pub fn jetstream(&self) -> &async_nats::jetstream::Context {
        self.client().jetstream()
    }

    /// The one server.
    pub fn server(&self) -> &NatsServer {
        match &self.servers {
            Servers::One(server) => server,
            Servers::Cluster(_) => panic!("this world has a cluster"),
        }
    }

    /// The one server, to do something to it.
    pub fn server_mut(&mut self) -> &mut NatsServer {
        match &mut self.servers {
            Servers::One(server) => server,
            Servers::Cluster(_) => panic!("this world has a cluster"),
        }
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        match &self.servers {
            Servers::Cluster(cluster) => cluster,
            Servers::One(_) => panic!("this world has one server"),
        }
    }

    /// The cluster, to do something to it.
    pub fn cluster_mut(&mut self) -> &mut Cluster {
        match &mut self.servers {
            Servers::Cluster(cluster) => cluster,
            Servers::One(_) => panic!("this world has one server"),
        }
    }

    /// The proxy before the one server, or before the first node.
    pub fn proxy(&self) -> &Proxy {
        &self.proxies()[0]
    }

    /// The proxies, one before each node.
    pub fn proxies(&self) -> &[Proxy] {
        match &self.before {
            Before::Proxies(proxies) => proxies,
            _ => panic!("this world has no proxies; see WorldBuilder::proxied"),
        }
    }

    /// The interceptor before the server.
    pub fn interceptor(&self) -> &Interceptor {
        match &self.before {
            Before::Interceptor(interceptor) => interceptor,
            _ => panic!("this world has no interceptor; see WorldBuilder::intercepted"),
        }
    }

    /// Another proxy before the one server, for a single process; see [`WorkerBuilder::url`].
    pub fn another_proxy(&self) -> Proxy {
        match &self.servers {
            Servers::One(server) => Proxy::to(&server.address()),
            Servers::Cluster(cluster) => Proxy::to(&cluster.node(0).address()),
        }
    }

    /// A wall clock to start processes under; see [`SchedulerBuilder::clock`].
    pub fn clock(&self) -> Clock {
        Clock::new(self.folder.path())
    }

    /// Sets up a worker process.
    pub fn worker(&self) -> WorkerBuilder<'_> {
        WorkerBuilder::new(self, self.process(Binary::Worker))
    }

    /// Sets up a scheduler process.
    pub fn scheduler(&self) -> SchedulerBuilder {
        SchedulerBuilder::new(self.process(Binary::Scheduler))
    }

    /// Runs `repull` with those arguments.
    pub async fn cli(&self, arguments: &[&str]) -> Output {
        self.cli_with_input(arguments, "").await
    }

    /// Runs `repull` with those arguments and that input.
    pub async fn cli_with_input(&self, arguments: &[&str], input: &str) -> Output {
        let process = self.process(Binary::Cli).args(arguments);
        process.run(input.as_bytes()).await
    }

    /// Sets up any of the programs with the world's environment.
    pub fn process(&self, binary: Binary) -> ProcessBuilder {
        let home = self.folder.path();
        let process = Process::builder(binary)
            .folder(home)
            // The contexts of whoever runs the tests are none of a world's business.
            .env("HOME", home)
            .env("XDG_CONFIG_HOME", home.join("config"))
            .env("NATS_URL", self.url())
            .env("REPULL_NAMESPACE", &self.namespace);
        match binary {
            Binary::Cli | Binary::Example(_) => process,
            Binary::Worker | Binary::Scheduler => process.env("REPULL_HTTP", "127.0.0.1:0"),
        }
    }

    /// Writes a file into the world's folder under a name that ends in `name`; answers its path.
    pub fn write_file(&self, name: &str, text: &str) -> PathBuf {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(format!("{number}-{name}"));
        std::fs::write(&path, text).expect("a file in the world's folder");
        path
    }
}
