//! The raw loops that Repull is held against: async-nats and nothing else.
//!
//! The consuming loop is the fastest that keeps the same promises: a pull for as many jobs as there
//! are free slots, coalesced per turn; a task per job, since jobs run side by side; an ack per job of
//! which the last of each turn is confirmed; optionally an outcome that is stored before the ack. After
//! a reconnect, which it sees by the client's statistics, it asks anew for all its free slots; that is
//! all it knows of faults.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::{Client as Nats, HeaderMap, Message, StatusCode, Subject};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use repull::client::{Client, PIPELINE_WINDOW};
use repull::job::Job;
use repull::wire::{self, Address, Place};
use tokio::sync::{mpsc, watch};

/// Publishes the jobs pipelined, with the headers that Repull gives them; all confirmed.
pub(crate) async fn publish(client: &Client, jobs: Vec<Job>) -> anyhow::Result<usize> {
    stream::iter(jobs)
        .map(|job| publish_one(client, job))
        .buffer_unordered(PIPELINE_WINDOW)
        .try_fold(0, |count, ()| std::future::ready(Ok(count + 1)))
        .await
}

/// Publishes one job, confirmed.
pub(crate) async fn publish_one(client: &Client, mut job: Job) -> anyhow::Result<()> {
    job.enqueued_at = Some(repull::clock::now());
    let nonce = job.id.to_string();
    job.nonce = Some(nonce.clone());
    let mut headers = wire::encode_headers(&job);
    headers.insert("Nats-Msg-Id", nonce);
    headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
    let address = Address {
        lane: job.lane(),
        task: job.task.clone(),
        id: job.id.clone(),
    };
    let subject = address.subject(client.namespace(), Place::Jobs);
    let stored = client
        .jetstream()
        .publish_with_headers(subject, headers, job.args)
        .await?;
    stored.await?;
    Ok(())
}

/// How long the loop waits where nobody answers a pull.
const UNANSWERED_PAUSE: Duration = Duration::from_millis(20);

/// How often the connection is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

struct Loop<'a> {
    nats: Nats,
    client: &'a Client,
    inbox: String,
    next: String,
    slots: u32,
    running: u32,
    promised: u32,
    pulls: u64,
    batch: u64,
    /// Jobs that are acked, by the batch that confirms them.
    unconfirmed: HashMap<u64, usize>,
    confirmed: usize,
    results: bool,
    /// Acks that wait for their outcome to be stored.
    storing: HashMap<u64, Subject>,
    stored: u64,
    acks: Vec<Subject>,
}

/// Consumes `count` jobs of `queue` on `slots` slots, running `work` for each; returns the time from
/// the first job's arrival to the last confirmation.
pub(crate) async fn consume<W, F>(
    client: &Client,
    queue: &str,
    slots: u32,
    count: usize,
    results: bool,
    work: W,
) -> anyhow::Result<Duration>
where
    W: Fn(Message) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let unseen = AtomicU64::new(0);
    consume_telling(client, queue, slots, count, results, &unseen, work).await
}

/// The same, and tells at the end of each turn how many jobs are confirmed.
pub(crate) async fn consume_telling<W, F>(
    client: &Client,
    queue: &str,
    slots: u32,
    count: usize,
    results: bool,
    confirmed: &AtomicU64,
    work: W,
) -> anyhow::Result<Duration>
where
    W: Fn(Message) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let nats = client.nats().clone();
    let inbox = nats.new_inbox();
    let mut arrivals = nats.subscribe(format!("{inbox}.>")).await?;
    let stream = Place::Jobs.stream(client.namespace());
    let (sender, mut done) = mpsc::unbounded_channel::<(Subject, Subject)>();
    let mut reconnects = reconnects(nats.clone());
    let mut state = Loop {
        nats,
        client,
        next: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{queue}"),
        inbox,
        slots,
        running: 0,
        promised: 0,
        pulls: 0,
        batch: 0,
        unconfirmed: HashMap::new(),
        confirmed: 0,
        results,
        storing: HashMap::new(),
        stored: 0,
        acks: Vec::new(),
    };
    state.pull().await?;
    let mut first: Option<Instant> = None;
    let mut ended = Vec::with_capacity(1024);
    while state.confirmed < count {
        tokio::select! {
            message = arrivals.next() => {
                let mut next = message;
                while let Some(message) = next {
                    first.get_or_insert_with(Instant::now);
                    state.on_message(message, &sender, &work).await?;
                    next = arrivals.next().now_or_never().flatten();
                }
            }
            _ = done.recv_many(&mut ended, 1024) => {}
            // The pulls of a connection that is gone are gone as well.
            Ok(()) = reconnects.changed() => state.promised = 0,
        }
        while let Ok(more) = done.try_recv() {
            ended.push(more);
        }
        for (subject, ack) in ended.drain(..) {
            state.on_done(&subject, ack).await?;
        }
        state.flush_acks().await?;
        state.pull().await?;
        confirmed.store(state.confirmed as u64, Ordering::Relaxed);
    }
    Ok(first.map_or(Duration::ZERO, |first| first.elapsed()))
}

/// Changes when the connection has come back. By the client's statistics: its events can come before
/// what they tell of, or not at all.
fn reconnects(nats: Nats) -> watch::Receiver<()> {
    let (came_back, reconnects) = watch::channel(());
    let connects = move || match nats.connection_state() {
        State::Connected => nats.statistics().connects.load(Ordering::Relaxed),
        _ => 0,
    };
    tokio::spawn(async move {
        let mut known = connects();
        while !came_back.is_closed() {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = connects();
            if now > known {
                known = now;
                let _ = came_back.send(());
            }
        }
    });
    reconnects
}

impl Loop<'_> {
    async fn pull(&mut self) -> anyhow::Result<()> {
        let free = self.slots.saturating_sub(self.running + self.promised);
        if free == 0 {
            return Ok(());
        }
        self.pulls += 1;
        let body =
            format!(r#"{{"batch":{free},"expires":30000000000,"idle_heartbeat":5000000000}}"#);
        let reply = format!("{}.p.{}", self.inbox, self.pulls);
        self.nats
            .publish_with_reply(self.next.clone(), reply, body.into())
            .await?;
        self.promised += free;
        Ok(())
    }

    /// A pull was answered by something else than a job.
    async fn on_pull_status(&mut self, message: &Message) {
        match message.status {
            Some(StatusCode::IDLE_HEARTBEAT) | None => {}
            Some(StatusCode::NO_RESPONDERS) => {
                tokio::time::sleep(UNANSWERED_PAUSE).await;
                self.promised = 0;
            }
            Some(_) => {
                let headers = message.headers.as_ref();
                let unused = headers
                    .and_then(|headers| headers.get("Nats-Pending-Messages"))
                    .and_then(|count| count.as_str().parse::<u32>().ok());
                self.promised = self.promised.saturating_sub(unused.unwrap_or(0));
            }
        }
    }

    async fn on_message<W, F>(
        &mut self,
        message: Message,
        done: &mpsc::UnboundedSender<(Subject, Subject)>,
        work: &W,
    ) -> anyhow::Result<()>
    where
        W: Fn(Message) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        if let Some(token) = message.subject.strip_prefix(&format!("{}.", self.inbox)) {
            let mut parts = token.split('.');
            let (kind, number) = (
                parts.next(),
                parts.next().and_then(|number| number.parse::<u64>().ok()),
            );
            match (kind, number) {
                (Some("a"), Some(batch)) => {
                    self.confirmed += self.unconfirmed.remove(&batch).unwrap_or(0);
                }
                (Some("r"), Some(stored)) => self.acks.extend(self.storing.remove(&stored)),
                (Some("p"), _) => self.on_pull_status(&message).await,
                _ => {}
            }
            return Ok(());
        }
        let Some(ack) = message.reply.clone() else {
            return Ok(());
        };
        self.promised = self.promised.saturating_sub(1);
        self.running += 1;
        let (done, subject) = (done.clone(), message.subject.clone());
        let work = work(message);
        tokio::spawn(async move {
            work.await;
            let _ = done.send((subject, ack));
        });
        Ok(())
    }

    async fn on_done(&mut self, subject: &Subject, ack: Subject) -> anyhow::Result<()> {
        self.running -= 1;
        if !self.results {
            self.acks.push(ack);
            return Ok(());
        }
        self.stored += 1;
        let address = Address::parse(self.client.namespace(), Place::Jobs, subject)?;
        let mut headers = HeaderMap::new();
        headers.insert("Repull-Event", "succeeded");
        headers.insert("Repull-Attempt", "1");
        headers.insert("Repull-Worker", "raw-loop-of-the-bench");
        headers.insert("Repull-At", wire::write_time(repull::clock::now()));
        headers.insert("Repull-Started-At", wire::write_time(repull::clock::now()));
        headers.insert("Nats-Msg-Id", format!("{}:1:succeeded", address.id));
        let reply = format!("{}.r.{}", self.inbox, self.stored);
        let subject = address.subject(self.client.namespace(), Place::Results);
        self.nats
            .publish_with_reply_and_headers(subject, reply, headers, Bytes::new())
            .await?;
        self.storing.insert(self.stored, ack);
        Ok(())
    }

    async fn flush_acks(&mut self) -> anyhow::Result<()> {
        let Some(last) = self.acks.pop() else {
            return Ok(());
        };
        self.batch += 1;
        self.unconfirmed.insert(self.batch, self.acks.len() + 1);
        for ack in self.acks.drain(..) {
            self.nats.publish(ack, "+ACK".into()).await?;
        }
        let reply = format!("{}.a.{}", self.inbox, self.batch);
        self.nats
            .publish_with_reply(last, reply, "+ACK".into())
            .await?;
        Ok(())
    }
}
