//! The worker's loop: the async shell around the engine. It takes no decision about slots or pulls.
//!
//! Each turn takes in what has arrived (jobs, statuses, confirmations, ended attempts, control),
//! tells the engine, and carries out what the engine commands. Slots that came free within one turn
//! share one pull, and acks of one turn share one confirmation.
//!
//! Nothing in here waits for the network: while the connection is down, what would be sent is
//! dropped, because the engine says all of it again when the connection is back.

mod bound;
mod commands;
mod epochs;
mod held;
mod intake;
mod send;
mod stats;

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use async_nats::Subject;
use chrono::{DateTime, Utc};
use repull::client::Client;
use repull::clock;
use repull::topology::Layout;
use rustc_hash::{FxBuildHasher, FxHashMap};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tracing::info;

use crate::beacon::BeaconWriter;
use crate::config::{Order, WorkerConfig};
use crate::control::{self, CONTROL_CAPACITY, Control};
use crate::crew::{Crew, Queues};
use crate::delivery::Delivery;
use crate::engine::{self, Engine, Epoch, Event, Fault, Millis, QueueIx};
use crate::error::Error;
use crate::inbox::{Arrival, Inbox};
use crate::job_task::Done;
use crate::lanes::Lanes;
use crate::metrics::{Metrics, SlotMonitor};
use crate::pulse::Pulse;
use crate::run::Registry;
use crate::settle::{Book, Step};
use crate::shutdown::Shutdown;
use bound::Missing;
use held::Held;
use stats::SlotClock;

/// The most arrivals and the most ended attempts taken in by one turn.
const TURN_MAX: usize = 1024;

/// The most pulls of one lane that are open at once: about as many turns as fit into a round trip.
const OPEN_PULLS_MAX: u32 = 16;

/// The loop turns at least this often, so that silence means it is stuck.
const TURN_AT_LEAST: Duration = Duration::from_secs(1);

/// How long hand-backs may still take when everything else has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What a worker is made of when its loop starts.
pub(crate) struct Parts {
    pub(crate) client: Client,
    pub(crate) config: WorkerConfig,
    pub(crate) registry: Arc<Registry>,
    pub(crate) monitor: SlotMonitor,
    pub(crate) metrics: Metrics,
    pub(crate) pulse: Pulse,
    pub(crate) shutdown: Shutdown,
}

/// The loop's state. The engine decides; the rest is what carrying its decisions out needs.
pub(super) struct Driver {
    client: Client,
    crew: Arc<Crew>,
    lanes: Lanes,
    layout: Layout,
    /// Consumers that nobody answers for.
    missing: HashMap<QueueIx, Missing>,
    engine: Engine,
    started: Instant,
    /// When this turn's events were taken in, and then when its commands are carried out.
    moment: Moment,
    inbox: Inbox,
    /// Inboxes that were left, until what was sent to them has been read.
    retired: Vec<epochs::Retired>,
    /// The newest epoch that was asked for.
    epoch: Epoch,
    /// The connection was lost since the current inbox was opened.
    pulls_are_void: bool,
    /// Subscriptions for a new epoch are being made.
    opening: bool,
    inbox_lanes: u32,
    /// Jobs that are running or being settled, by their stream sequence.
    jobs: FxHashMap<u64, Held>,
    book: Book,
    /// Acks of this turn, per queue.
    closes: Vec<Vec<commands::Closing>>,
    /// Number of the last batch of acks.
    batch: u64,
    /// Jobs that are being given back without having been started, and where their acks go.
    backs: FxHashMap<u64, Subject>,
    done_sender: mpsc::UnboundedSender<Done>,
    control_sender: mpsc::Sender<Control>,
    connects: u64,
    was_connected: bool,
    metrics: Metrics,
    slots: SlotClock,
    pulse: Pulse,
    beacon: BeaconWriter,
    draining: bool,
    /// When a draining worker gives up its subscriptions at the latest; none once it has.
    leave_by: Option<Instant>,
    stopping: bool,
    /// How the loop ends, once it does.
    end: Option<Result<(), Error>>,
    steps: Vec<Step>,
}

/// Binds to the consumers and runs until the worker is drained, or can't go on.
pub(crate) async fn run(parts: Parts) -> Result<(), Error> {
    let Parts {
        client,
        config,
        registry,
        monitor,
        mut metrics,
        pulse,
        shutdown,
    } = parts;
    let queues = Queues::default();
    control::load_settings(
        &client,
        &queues,
        config.queues.iter().map(|queue| &queue.name),
    )
    .await;
    let lanes = Lanes::bind(&client, &config, &queues).await?;
    let engine_config = engine_config(&config, &lanes);
    let inbox_lanes = engine_config.pulls_max;
    let engine = Engine::new(engine_config).map_err(|error| Error::Engine(error.to_string()))?;
    let inbox = Inbox::open(client.nats(), Epoch(0), inbox_lanes)
        .await
        .map_err(|error| Error::Disconnected {
            reason: error.to_string(),
        })?;
    let crew = Arc::new(Crew {
        client: client.clone(),
        worker: config.id.clone(),
        registry,
        results_default: config.results_default,
        value_bytes_max: config.value_bytes_max,
        queues: queues.clone(),
    });
    let (done_sender, done) = mpsc::unbounded_channel();
    let (control_sender, control) = mpsc::channel(CONTROL_CAPACITY);
    let watchers = [
        tokio::spawn(control::watch_settings(
            client.clone(),
            queues,
            control_sender.clone(),
        )),
        tokio::spawn(control::listen_for_cancels(
            client.clone(),
            control_sender.clone(),
        )),
    ];
    metrics.bind(lanes.all.iter().map(|lane| &lane.name));
    pulse.bound(true);
    info!(worker = %config.id, slots = config.slots, lanes = ?lanes.all.iter().map(|lane| &lane.name).collect::<Vec<_>>(), "worker started");
    let count = lanes.all.len();
    let driver = Driver {
        beacon: BeaconWriter::new(
            client.clone(),
            &config,
            lanes.all.iter().map(|lane| lane.name.clone()).collect(),
        ),
        connects: client
            .nats()
            .statistics()
            .connects
            .load(std::sync::atomic::Ordering::Relaxed),
        client,
        crew,
        engine,
        started: Instant::now(),
        moment: Moment::now(),
        inbox,
        retired: Vec::new(),
        epoch: Epoch(0),
        pulls_are_void: false,
        opening: false,
        inbox_lanes,
        jobs: FxHashMap::with_capacity_and_hasher(config.slots as usize * 2, FxBuildHasher),
        book: Book::new(count),
        closes: (0..count).map(|_| Vec::new()).collect(),
        lanes,
        layout: config.layout,
        missing: HashMap::new(),
        batch: 0,
        backs: FxHashMap::default(),
        done_sender,
        control_sender,
        was_connected: true,
        metrics,
        slots: SlotClock::new(monitor, config.slots),
        pulse,
        draining: false,
        leave_by: None,
        stopping: false,
        end: None,
        steps: Vec::new(),
    };
    let result = driver.turn_until_the_end(done, control, &shutdown).await;
    for watcher in watchers {
        watcher.abort();
    }
    result
}

fn engine_config(config: &WorkerConfig, lanes: &Lanes) -> engine::Config {
    let mut engine_config = engine::Config::new(config.slots, lanes.engine_queues());
    engine_config.order = match config.order {
        Order::Strict => engine::Order::Strict,
        Order::Weighted => engine::Order::Weighted,
    };
    engine_config.pulls_max = OPEN_PULLS_MAX;
    engine_config.ack_wait = lanes.ack_wait;
    engine_config.drain_timeout = config.drain_timeout.into();
    engine_config.cancel_grace = config.cancel_grace.into();
    engine_config.replace_stuck = config.replace_stuck;
    engine_config.watchdog = config.watchdog.into();
    engine_config
}

/// A point in time by both clocks, read once for all that happens in it.
#[derive(Debug, Clone, Copy)]
struct Moment {
    instant: Instant,
    wall: DateTime<Utc>,
    /// The same in nanoseconds since the Unix epoch.
    wall_ns: i64,
}

impl Moment {
    fn now() -> Self {
        let wall = clock::now();
        Self {
            instant: Instant::now(),
            wall,
            wall_ns: wall.timestamp_nanos_opt().unwrap_or_default(),
        }
    }

    /// For how long a job has been stored. The server's clock and ours may differ; a job never waited
    /// for less than nothing.
    fn waited(self, delivery: &Delivery) -> Duration {
        let waited_ns = self.wall_ns.saturating_sub(delivery.info.stored_at_ns);
        Duration::from_nanos(u64::try_from(waited_ns).unwrap_or_default())
    }
}

/// Lets the tasks that are ready before this one run first: jobs that end with them share this turn's
/// pull and its confirmation. Unlike `yield_now` it does not look at the sockets in between.
async fn let_others_end() {
    let mut asked = false;
    poll_fn(|context| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// What woke the loop.
enum Woken {
    Arrivals(Result<usize, crate::inbox::Closed>),
    Done,
    Control(Option<Control>),
    Timer,
    Drain,
    Stop,
}

impl Driver {
    async fn turn_until_the_end(
        mut self,
        mut done: mpsc::UnboundedReceiver<Done>,
        mut control: mpsc::Receiver<Control>,
        shutdown: &Shutdown,
    ) -> Result<(), Error> {
        let mut arrivals: Vec<Arrival> = Vec::with_capacity(TURN_MAX);
        let mut ended: Vec<Done> = Vec::with_capacity(TURN_MAX);
        let mut changes = self.client.connection().changes();
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        self.carry_out().await;
        while self.end.is_none() {
            self.arm(timer.as_mut());
            let woken = tokio::select! {
                taken = poll_fn(|context| match self.poll_inboxes(context, &mut arrivals) {
                    // The end of a drain is news too, although nothing came with it.
                    Ok(0) if !self.has_unseen_drain() => Poll::Pending,
                    other => Poll::Ready(other),
                }) => Woken::Arrivals(taken),
                _ = done.recv_many(&mut ended, TURN_MAX) => Woken::Done,
                message = control.recv() => Woken::Control(message),
                () = timer.as_mut() => Woken::Timer,
                _ = changes.changed() => Woken::Timer,
                () = shutdown.drain.cancelled(), if !self.draining => Woken::Drain,
                () = shutdown.stop.cancelled(), if !self.stopping => Woken::Stop,
            };
            let woken_by_end = matches!(woken, Woken::Done);
            match woken {
                Woken::Arrivals(Err(_)) => {
                    let reason = self
                        .client
                        .connection()
                        .refusal()
                        .unwrap_or_else(|| "the client ended".to_owned());
                    return Err(Error::Disconnected { reason });
                }
                Woken::Arrivals(Ok(_)) | Woken::Done | Woken::Timer => {}
                Woken::Control(Some(message)) => self.on_control(message).await,
                Woken::Control(None) => {}
                Woken::Drain => self.begin_drain(),
                Woken::Stop => {
                    self.stopping = true;
                    self.tell(Event::StopNow);
                }
            }
            if woken_by_end && self.slots.most_run() {
                let_others_end().await;
            }
            while ended.len() < TURN_MAX
                && let Ok(more) = done.try_recv()
            {
                ended.push(more);
            }
            self.take_in(&mut arrivals, &mut ended).await;
            self.carry_out().await;
        }
        self.finish(&mut arrivals).await
    }

    fn now(&self) -> Millis {
        self.started.elapsed().into()
    }

    fn tell(&mut self, event: Event) {
        let now = self.now();
        self.engine.handle(now, event);
    }

    /// Sets the timer to the engine's next deadline, and at the latest to the next sign of life.
    fn arm(&self, timer: Pin<&mut Sleep>) {
        let latest = Instant::now() + TURN_AT_LEAST;
        let deadline = self
            .engine
            .next_deadline()
            .map(|at| self.started + Duration::from(at))
            .unwrap_or(latest);
        let deadline = deadline
            .min(latest)
            .min(self.next_leave().unwrap_or(latest));
        timer.reset(deadline.into());
    }

    /// One turn's intake: everything that has arrived, in order of arrival.
    async fn take_in(&mut self, arrivals: &mut Vec<Arrival>, ended: &mut Vec<Done>) {
        self.pulse.turned();
        self.moment = Moment::now();
        self.check_connection();
        let now: Millis = self.moment.instant.duration_since(self.started).into();
        for done in ended.drain(..) {
            self.on_done(now, done);
        }
        self.take_arrivals(arrivals).await;
        self.engine.handle(now, Event::Tick);
        self.leave_lanes();
        self.see_drain();
    }

    async fn take_arrivals(&mut self, arrivals: &mut Vec<Arrival>) {
        let now = self.now();
        for arrival in arrivals.drain(..) {
            match arrival {
                Arrival::OnLane(epoch, lane, message) => self.on_lane(now, epoch, lane, message),
                Arrival::Answer(message) => self.on_answer(now, &message).await,
            }
        }
    }

    /// Waits a little for hand-backs to be confirmed, and says goodbye.
    async fn finish(mut self, arrivals: &mut Vec<Arrival>) -> Result<(), Error> {
        let deadline = tokio::time::Instant::now() + LAST_WORDS;
        while !self.backs.is_empty() {
            let taken = tokio::time::timeout_at(
                deadline,
                poll_fn(
                    |context| match self.inbox.poll_arrivals(context, arrivals, TURN_MAX) {
                        Ok(0) => Poll::Pending,
                        other => Poll::Ready(other),
                    },
                ),
            );
            let Ok(Ok(_)) = taken.await else { break };
            for arrival in arrivals.drain(..) {
                if let Arrival::Answer(message) = arrival {
                    let now = self.now();
                    self.on_answer(now, &message).await;
                }
            }
        }
        self.beacon.remove().await;
        let _ = tokio::time::timeout(LAST_WORDS, self.client.nats().flush()).await;
        let snapshot = self.engine.snapshot();
        info!(
            started = self.slots.started(),
            handed_back = snapshot.counters.refused,
            "worker stopped"
        );
        self.end.unwrap_or(Ok(()))
    }

    fn stalled(&mut self, fault: Fault) {
        let waited = self.patience();
        let reason = format!("{} ({})", fault.message, fault.class.as_str());
        self.end = Some(Err(Error::Stalled { waited, reason }));
    }
}
