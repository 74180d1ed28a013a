//! Several real nats-servers as one cluster, whose nodes and leaders can be taken away.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{DEADLINE, NatsServer, eventually, port};

/// The user that may speak to the cluster's system account.
const SYSTEM_USER: &str = "system";

/// How long the JetStream API has to answer before the question is asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// A cluster with JetStream. Clients get no addresses from it, only those they were given, so that
/// a [`Proxy`](crate::Proxy) in front of a node is not bypassed.
pub struct Cluster {
    nodes: Vec<NatsServer>,
}

impl Cluster {
    /// Starts that many nodes and waits until all of them follow one leader.
    pub async fn start(nodes: usize) -> Self {
        Self::start_with(nodes, "").await
    }

    /// Starts a cluster whose nodes all carry that configuration text besides.
    pub async fn start_with(nodes: usize, config: &str) -> Self {
        let route_ports: Vec<u16> = (0..nodes).map(|_| port::reserve()).collect();
        let routes: Vec<String> = route_ports
            .iter()
            .map(|port| format!("\"nats://127.0.0.1:{port}\""))
            .collect();
        let routes = routes.join(", ");
        let starts = route_ports.iter().enumerate().map(|(index, route_port)| {
            let cluster = format!(
                "cluster {{ name: test, listen: \"127.0.0.1:{route_port}\", no_advertise: true, \
                 routes: [{routes}] }}\n\
                 accounts {{ $SYS {{ users: [{{ user: {SYSTEM_USER}, password: {SYSTEM_USER} }}] }} }}"
            );
            NatsServer::builder()
                .name(&format!("node-{index}"))
                .ports(port::reserve(), port::reserve())
                .config(&cluster)
                .config(config)
                .start()
        });
        let cluster = Self {
            nodes: futures_util::future::join_all(starts).await,
        };
        cluster.wait_ready().await;
        cluster
    }

    /// One address of every node.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(NatsServer::url).collect()
    }

    /// The addresses of all nodes in one text, separated by commas.
    pub fn url(&self) -> String {
        self.urls().join(",")
    }

    /// A node.
    pub fn node(&self, index: usize) -> &NatsServer {
        &self.nodes[index]
    }

    /// A node, to do something to it.
    pub fn node_mut(&mut self, index: usize) -> &mut NatsServer {
        &mut self.nodes[index]
    }

    /// How many nodes there are, running or not.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// A plain client that knows all nodes.
    pub async fn connect(&self) -> async_nats::Client {
        connect(&self.urls(), None).await
    }

    /// Ends a node at once (SIGKILL).
    pub async fn kill_node(&mut self, index: usize) {
        self.nodes[index].kill().await;
    }

    /// Ends a node in order (SIGTERM).
    pub async fn stop_node(&mut self, index: usize) {
        self.nodes[index].stop().await;
    }

    /// Starts a node again on its port and store, and waits until the cluster has it back.
    pub async fn restart_node(&mut self, index: usize) {
        self.nodes[index].restart().await;
        self.wait_ready().await;
    }

    /// Freezes a node (SIGSTOP).
    pub fn pause_node(&mut self, index: usize) {
        self.nodes[index].pause();
    }

    /// Lets a frozen node go on (SIGCONT).
    pub fn resume_node(&mut self, index: usize) {
        self.nodes[index].resume();
    }

    /// Restarts one node after the other, each when the cluster is whole again.
    pub async fn rolling_restart(&mut self) {
        for index in 0..self.nodes.len() {
            self.restart_node(index).await;
        }
    }

    /// Waits until one node leads the cluster and every other follows it without lag.
    pub async fn wait_ready(&self) {
        let what = format!("a cluster of {} has a leader that sees all", self.size());
        eventually(DEADLINE, &what, async || {
            for node in &self.nodes {
                let page = node.monitoring("/jsz").await;
                let cluster = &page["meta_cluster"];
                if cluster["leader"] == node.name() && self.all_current(cluster) {
                    return Some(());
                }
            }
            None
        })
        .await;
    }

    /// Waits until every replica of a stream, and of its consumers, follows its leader.
    pub async fn wait_current(&self, stream: &str) {
        let client = self.connect().await;
        let what = format!("every replica of stream `{stream}` is current");
        eventually(DEADLINE, &what, async || {
            let info = ask(&client, &format!("$JS.API.STREAM.INFO.{stream}"), json!({})).await?;
            self.all_current(&info["cluster"]).then_some(())
        })
        .await;
    }

    fn all_current(&self, cluster: &Value) -> bool {
        let replicas = cluster["replicas"].as_array();
        replicas.is_some_and(|replicas| {
            replicas.len() + 1 == self.size()
                && replicas
                    .iter()
                    .all(|replica| replica["current"] == true && replica["offline"] != true)
        })
    }

    /// The index of the node that leads a stream.
    pub async fn stream_leader(&self, stream: &str) -> usize {
        self.leader(&format!("$JS.API.STREAM.INFO.{stream}")).await
    }

    /// The index of the node that leads a consumer.
    pub async fn consumer_leader(&self, stream: &str, consumer: &str) -> usize {
        self.leader(&format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}"))
            .await
    }

    /// The index of the node that leads the cluster itself, which places and creates streams.
    pub async fn meta_leader(&self) -> usize {
        eventually(DEADLINE, "the cluster has a leader", async || {
            for node in &self.nodes {
                let (_, page) = crate::get(&node.monitoring_address(), "/jsz").await.ok()?;
                let page: Value = serde_json::from_str(&page).ok()?;
                let leader = page["meta_cluster"]["leader"].as_str();
                if let Some(index) = leader.and_then(|name| self.index_of(name)) {
                    return Some(index);
                }
            }
            None
        })
        .await
    }

    async fn leader(&self, subject: &str) -> usize {
        let client = self.connect().await;
        let what = format!("`{subject}` names a leader");
        eventually(DEADLINE, &what, async || {
            let info = ask(&client, subject, json!({})).await?;
            self.index_of(info["cluster"]["leader"].as_str()?)
        })
        .await
    }

    fn index_of(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name() == name)
    }

    /// Makes a stream's leader step down and waits until another node leads; answers which.
    pub async fn step_down(&self, stream: &str) -> usize {
        self.change(
            &self.connect().await,
            &format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}"),
            &format!("$JS.API.STREAM.INFO.{stream}"),
        )
        .await
    }

    /// Makes a consumer's leader step down and waits until another node leads; answers which.
    pub async fn consumer_step_down(&self, stream: &str, consumer: &str) -> usize {
        self.change(
            &self.connect().await,
            &format!("$JS.API.CONSUMER.LEADER.STEPDOWN.{stream}.{consumer}"),
            &format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}"),
        )
        .await
    }

    /// Makes the cluster's own leader step down and waits until another node leads; answers which.
    pub async fn meta_step_down(&self) -> usize {
        let before = self.meta_leader().await;
        let system = connect(&self.urls(), Some(SYSTEM_USER)).await;
        eventually(DEADLINE, "the cluster has another leader", async || {
            // Who leads afterwards is what counts: the one that steps down may not answer.
            ask(&system, "$JS.API.META.LEADER.STEPDOWN", json!({})).await;
            let now = self.meta_leader().await;
            (now != before).then_some(now)
        })
        .await
    }

    /// Asks for a step-down until the leader is another one: an election may choose the same node.
    async fn change(&self, client: &async_nats::Client, step_down: &str, info: &str) -> usize {
        let before = self.leader(info).await;
        let what = format!("another node than `node-{before}` leads after `{step_down}`");
        eventually(DEADLINE, &what, async || {
            ask(client, step_down, json!({})).await;
            let now = self.leader(info).await;
            (now != before).then_some(now)
        })
        .await
    }
}

async fn connect(urls: &[String], user: Option<&str>) -> async_nats::Client {
    let mut options = async_nats::ConnectOptions::new().retry_on_initial_connect();
    if let Some(user) = user {
        options = options.user_and_password(user.to_owned(), user.to_owned());
    }
    let urls: Vec<async_nats::ServerAddr> = urls
        .iter()
        .map(|url| url.parse().expect("an address of ours"))
        .collect();
    options
        .connect(urls.as_slice())
        .await
        .unwrap_or_else(|error| panic!("cannot connect to the cluster: {error}"))
}

/// One request to the JetStream API; `None` when nobody answers or the answer is an error.
async fn ask(client: &async_nats::Client, subject: &str, body: Value) -> Option<Value> {
    let request = client.request(subject.to_owned(), body.to_string().into());
    let answer = tokio::time::timeout(ANSWER_WITHIN, request)
        .await
        .ok()?
        .ok()?;
    let answer: Value = serde_json::from_slice(&answer.payload).ok()?;
    answer["error"].is_null().then_some(answer)
}
