//! A TCP proxy in front of a server that fails in the ways of real networks.
//!
//! Nothing is ever dropped from the middle of a stream, as TCP would not do so either: what is
//! stalled is held and flows when the way is free again, and what is cut is gone with its
//! connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::{DEADLINE, eventually, port, runtime};

const CHUNK: usize = 16 * 1024;

/// How many chunks may be on their way through one direction before the sender has to wait.
const CHUNKS_HELD: usize = 256;

/// A proxy to one server. Ends with its connections on drop.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    target: String,
    weather: watch::Sender<Weather>,
    counts: Counts,
}

/// What the network is like now.
#[derive(Clone, Copy, Default)]
struct Weather {
    refuses: bool,
    /// Raised to close the connections that are open.
    storms: u64,
    stalls_to_client: bool,
    stalls_to_server: bool,
    delay: Duration,
    bytes_per_second: Option<u64>,
    closed: bool,
}

#[derive(Default)]
struct Counts {
    open: AtomicU64,
    accepted: AtomicU64,
    to_client: AtomicU64,
    to_server: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToClient,
    ToServer,
}

impl Weather {
    fn stalls(self, direction: Direction) -> bool {
        match direction {
            Direction::ToClient => self.stalls_to_client,
            Direction::ToServer => self.stalls_to_server,
        }
    }
}

impl Proxy {
    /// Starts a proxy on a port of its own to `target` (`host:port`).
    pub fn to(target: &str) -> Self {
        let port = port::reserve();
        let shared = Arc::new(Shared {
            target: target.to_owned(),
            weather: watch::Sender::default(),
            counts: Counts::default(),
        });
        let listener = runtime::listen(port)
            .unwrap_or_else(|error| panic!("the proxy cannot listen on port {port}: {error}"));
        let accepting = runtime::spawn(accept(port, listener, Arc::clone(&shared)));
        Self {
            port,
            shared,
            accepting,
        }
    }

    /// `nats://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// `127.0.0.1:<port>`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Closes all connections and refuses new ones, until [`Proxy::restore`].
    pub fn cut(&self) {
        self.change(|weather| {
            weather.refuses = true;
            weather.storms += 1;
        });
    }

    /// Closes all connections; new ones are accepted.
    pub fn cut_once(&self) {
        self.change(|weather| weather.storms += 1);
    }

    /// Keeps connections and accepts new ones, but carries nothing in either direction (half-open).
    pub fn stall(&self) {
        self.change(|weather| {
            weather.stalls_to_client = true;
            weather.stalls_to_server = true;
        });
    }

    /// Carries nothing from the server to its clients.
    pub fn stall_to_client(&self) {
        self.change(|weather| weather.stalls_to_client = true);
    }

    /// Carries nothing from the clients to the server.
    pub fn stall_to_server(&self) {
        self.change(|weather| weather.stalls_to_server = true);
    }

    /// Makes every byte arrive that much later, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.change(|weather| weather.delay = delay);
    }

    /// Carries at most that many bytes a second, per connection and direction.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.change(|weather| weather.bytes_per_second = Some(bytes_per_second.max(1)));
    }

    /// Fair weather again: accepts, carries what was held, without delay.
    pub fn restore(&self) {
        self.change(|weather| {
            *weather = Weather {
                storms: weather.storms,
                ..Weather::default()
            };
        });
    }

    fn change(&self, change: impl FnOnce(&mut Weather)) {
        self.shared.weather.send_modify(change);
    }

    /// How many connections are open.
    pub fn connections(&self) -> u64 {
        self.shared.counts.open.load(Ordering::Relaxed)
    }

    /// How many connections were accepted since the start.
    pub fn accepted(&self) -> u64 {
        self.shared.counts.accepted.load(Ordering::Relaxed)
    }

    /// Bytes carried to clients and to the server since the start.
    pub fn carried(&self) -> (u64, u64) {
        let counts = &self.shared.counts;
        (
            counts.to_client.load(Ordering::Relaxed),
            counts.to_server.load(Ordering::Relaxed),
        )
    }

    /// Waits until that many connections are open.
    pub async fn wait_for_connections(&self, connections: u64) {
        let what = format!("{connections} connections are open at the proxy");
        eventually(DEADLINE, &what, async || {
            (self.connections() == connections).then_some(())
        })
        .await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.change(|weather| {
            weather.closed = true;
            weather.storms += 1;
        });
        self.accepting.abort();
    }
}

/// Accepts while the weather lets it. Refusing means not to listen: a client is told at once.
async fn accept(port: u16, listener: TcpListener, shared: Arc<Shared>) {
    let mut listener = Some(listener);
    let mut weather = shared.weather.subscribe();
    loop {
        let now = *weather.borrow_and_update();
        if now.closed {
            return;
        }
        if now.refuses {
            listener = None;
        } else if listener.is_none() {
            listener = Some(listen_again(port).await);
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = weather.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            accepted = accepted => {
                if let Ok((client, _)) = accepted {
                    shared.counts.accepted.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(carry(client, Arc::clone(&shared)));
                }
            }
        }
    }
}

/// The port is ours, but a connection of somebody's may still be closing on it.
async fn listen_again(port: u16) -> TcpListener {
    loop {
        match runtime::listen(port) {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Carries one connection until either side closes it or a storm does.
async fn carry(client: TcpStream, shared: Arc<Shared>) {
    let mut weather = shared.weather.subscribe();
    let storms = weather.borrow().storms;
    shared.counts.open.fetch_add(1, Ordering::Relaxed);
    let both_ways = async {
        let server = TcpStream::connect(&shared.target).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::select! {
            ended = one_way(from_client, to_server, Direction::ToServer, &shared) => ended,
            ended = one_way(from_server, to_client, Direction::ToClient, &shared) => ended,
        }
    };
    let storm = async {
        let struck = weather
            .wait_for(|now| now.refuses || now.storms != storms)
            .await;
        drop(struck);
    };
    tokio::select! {
        _ = both_ways => {}
        () = storm => {}
    }
    shared.counts.open.fetch_sub(1, Ordering::Relaxed);
}

/// Reads as long as there is room and writes each chunk when its time has come.
async fn one_way(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: Direction,
    shared: &Shared,
) -> std::io::Result<()> {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Bytes)>(CHUNKS_HELD);
    let reading = async move {
        let mut buffer = vec![0; CHUNK];
        loop {
            let length = from.read(&mut buffer).await?;
            if length == 0 {
                return std::io::Result::Ok(());
            }
            let chunk = Bytes::copy_from_slice(&buffer[..length]);
            if sender.send((Instant::now(), chunk)).await.is_err() {
                return Ok(());
            }
        }
    };
    let writing = async {
        let mut weather = shared.weather.subscribe();
        while let Some((read_at, chunk)) = receiver.recv().await {
            let delay = weather.borrow().delay;
            tokio::time::sleep_until(read_at + delay).await;
            write(&mut to, chunk, direction, &mut weather, shared).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(reading, writing).map(|_| ())
}

async fn write(
    to: &mut OwnedWriteHalf,
    mut chunk: Bytes,
    direction: Direction,
    weather: &mut watch::Receiver<Weather>,
    shared: &Shared,
) -> std::io::Result<()> {
    let count = match direction {
        Direction::ToClient => &shared.counts.to_client,
        Direction::ToServer => &shared.counts.to_server,
    };
    while !chunk.is_empty() {
        let clear = weather.wait_for(|weather| !weather.stalls(direction)).await;
        let Ok(rate) = clear.map(|weather| weather.bytes_per_second) else {
            return Ok(());
        };
        // A twentieth of a second's worth at a time, so that a new rate is obeyed soon.
        let most = rate.map_or(chunk.len() as u64, |rate| (rate / 20).max(1));
        let part = chunk.split_to(usize::try_from(most).unwrap_or(CHUNK).min(chunk.len()));
        to.write_all(&part).await?;
        count.fetch_add(part.len() as u64, Ordering::Relaxed);
        if let Some(rate) = rate {
            tokio::time::sleep(Duration::from_secs_f64(part.len() as f64 / rate as f64)).await;
        }
    }
    Ok(())
}
