//! What every worker of `repull dev` stands on: the server, the streams and the scheduler.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use repull::client::Client;
use repull::connect::Settings;
use repull::id::Namespace;
use repull::topology::Layout;
use repull_scheduler::Scheduler;
use repull_worker::{Shutdown, chain};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::nats_server::{DataFolder, NatsServer, PORT_DEFAULT, Port, Program};

/// How long the scheduler may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may take to be closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A server with the streams on it, and a scheduler.
pub(super) struct Stack {
    server: NatsServer,
    settings: Settings,
    client: Client,
    /// Those of the scheduler and of all workers.
    connections: Vec<Client>,
    scheduler: JoinHandle<anyhow::Result<()>>,
    stop_scheduler: CancellationToken,
    /// Whether another port than the usual one had to be taken.
    other_port: bool,
}

impl Stack {
    /// Starts all of it; none where a signal came in between.
    pub(super) async fn start(
        program: Program,
        folder: DataFolder,
        port: Option<u16>,
        namespace: &Namespace,
        signals: &Shutdown,
    ) -> anyhow::Result<Option<Self>> {
        tokio::select! {
            started = Self::start_all(program, folder, port, namespace) => started.map(Some),
            () = signals.drain.cancelled() => Ok(None),
        }
    }

    async fn start_all(
        program: Program,
        folder: DataFolder,
        port: Option<u16>,
        namespace: &Namespace,
    ) -> anyhow::Result<Self> {
        let wanted = port.map_or(Port::Rather(PORT_DEFAULT), Port::Exactly);
        let server = NatsServer::start(program, Arc::new(folder), wanted).await?;
        let settings = Settings {
            namespace: namespace.clone(),
            ..Settings::for_servers(server.url())
        };
        match start_scheduler(&settings).await {
            Ok(started) => Ok(Self {
                other_port: port.is_none() && server.port() != PORT_DEFAULT,
                server,
                settings,
                client: started.client,
                connections: vec![started.schedulers],
                scheduler: started.scheduler,
                stop_scheduler: started.stop,
            }),
            Err(error) => {
                let _ = server.stop().await;
                Err(error)
            }
        }
    }

    /// The server.
    pub(super) fn server(&self) -> &NatsServer {
        &self.server
    }

    /// Whether the usual port was taken, so that another had to do.
    pub(super) fn is_on_other_port(&self) -> bool {
        self.other_port
    }

    /// A client for looking at things and submitting.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// A client over a connection of its own, shown by the server under this name.
    pub(super) async fn connect(&mut self, name: &str) -> anyhow::Result<Client> {
        let client = Client::connect_as(&self.settings, name).await?;
        self.connections.push(client.clone());
        Ok(client)
    }

    /// Waits until something fails, and says what.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        tokio::select! {
            error = self.server.ended() => error,
            ended = &mut self.scheduler => match ended {
                Ok(Ok(())) => anyhow!("the scheduler ended by itself"),
                Ok(Err(error)) => error,
                Err(panic) => anyhow!(panic).context("the scheduler broke"),
            },
        }
    }

    /// Ends the scheduler, then the connections, then the server.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.stop_scheduler.cancel();
        if self.server.has_ended() {
            // Nobody is there to say goodbye to.
            self.scheduler.abort();
            return Ok(());
        }
        let ended = if self.scheduler.is_finished() {
            Ok(())
        } else {
            end_scheduler(&mut self.scheduler).await
        };
        // Closed by us first, so that nobody takes the server's end for an outage.
        for client in self.connections.iter().chain([&self.client]) {
            close(client).await;
        }
        self.server.stop().await.and(ended)
    }
}

/// Closes a connection, and waits until it is.
async fn close(client: &Client) {
    let nats = client.nats();
    let closed = async {
        if nats.drain().await.is_ok() {
            // A connection that is closed has nobody to flush it.
            while nats.flush().await.is_ok() {
                sleep(Duration::from_millis(2)).await;
            }
        }
    };
    // One that is lost can't be drained; the server ends anyhow.
    let _ = timeout(CLOSE_TIMEOUT, closed).await;
}

async fn end_scheduler(scheduler: &mut JoinHandle<anyhow::Result<()>>) -> anyhow::Result<()> {
    match timeout(STOP_TIMEOUT, &mut *scheduler).await {
        Ok(ended) => ended.context("the scheduler broke")?,
        Err(_) => {
            scheduler.abort();
            anyhow::bail!("the scheduler did not end within {STOP_TIMEOUT:?}");
        }
    }
}

/// A scheduler, and what it runs on.
struct Started {
    client: Client,
    schedulers: Client,
    scheduler: JoinHandle<anyhow::Result<()>>,
    stop: CancellationToken,
}

async fn start_scheduler(settings: &Settings) -> anyhow::Result<Started> {
    let client = Client::connect_as(settings, "repull dev").await?;
    // The scheduler does so too, but the worker must not come first.
    client.ensure_topology(&Layout::default()).await?;
    let stop = CancellationToken::new();
    let schedulers = Client::connect_as(settings, "repull dev: scheduler").await?;
    let scheduler = Scheduler::builder(schedulers.clone())
        .build()
        .map_err(|error| anyhow!(error.to_string()))?;
    let task = tokio::spawn({
        let stop = stop.clone();
        async move {
            let ended = scheduler.run(stop).await;
            ended.map_err(|error| anyhow!(chain(&error)).context("the scheduler failed"))
        }
    });
    Ok(Started {
        client,
        schedulers,
        scheduler: task,
        stop,
    })
}
