//! Handlers that panic, and handlers that can't be stopped. They are code, so their worker runs inside
//! the test; its metrics are read over HTTP all the same.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use repull::client::Client;
use repull::job::Timeout;
use repull::wire::EventKind;
use repull_tests::{DEADLINE, Metrics, World, eventually, job, outcome};
use repull_worker::{Context, Shutdown, TaskError, Worker, WorkerConfig};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// Blocks the threads of handlers until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn wait(&self) {
        let (open, opened) = &*self.0;
        let open = open.lock().unwrap_or_else(PoisonError::into_inner);
        // Not for ever, so that a failed test ends too.
        let waited = opened.wait_timeout_while(open, DEADLINE, |open| !*open);
        drop(waited);
    }

    fn open(&self) {
        let (open, opened) = &*self.0;
        *open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        opened.notify_all();
    }
}

/// A worker inside the test, with tasks that misbehave.
struct Inside {
    address: String,
    shutdown: Shutdown,
    running: JoinHandle<Result<(), repull_worker::Error>>,
    gate: Gate,
}

async fn inside(world: &World, change: impl FnOnce(&mut WorkerConfig)) -> Inside {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address: SocketAddr = free.local_addr().expect("its address");
    drop(free);
    let mut config = WorkerConfig {
        slots: 1,
        cancel_grace: Duration::from_millis(200),
        http: Some(address),
        ..WorkerConfig::default()
    };
    change(&mut config);
    let client: Client = world.connect_to(&world.url()).await;
    let gate = Gate::default();
    let worker = Worker::builder(client)
        .config(config)
        .state(gate.clone())
        .task("echo", |_, value: Value| async move { Ok(value) })
        .task("panic.at.once", panic_at_once)
        .task("panic.later", |_, (): ()| async move {
            tokio::task::yield_now().await;
            panic_on_purpose()
        })
        .task("block", |context: Context, (): ()| async move {
            context.state::<Gate>()?.wait();
            Ok(())
        })
        .build()
        .expect("a worker");
    let shutdown = Shutdown::new();
    let running = tokio::spawn(worker.run(shutdown.clone()));
    let inside = Inside {
        address: address.to_string(),
        shutdown,
        running,
        gate,
    };
    inside.wait("repull_worker_slots_promised", 1.0).await;
    inside
}

fn panic_at_once(_: Context, (): ()) -> std::future::Ready<Result<(), TaskError>> {
    std::future::ready(panic_on_purpose())
}

fn panic_on_purpose() -> Result<(), TaskError> {
    panic!("on purpose")
}

impl Inside {
    async fn metrics(&self) -> Option<Metrics> {
        let (_, page) = repull_tests::get(&self.address, "/metrics").await.ok()?;
        Some(Metrics::parse(&page))
    }

    async fn wait(&self, name: &str, value: f64) {
        let what = format!("`{name}` is {value}");
        eventually(DEADLINE, &what, async || {
            (self.metrics().await?.sum(name, &[])? == value).then_some(())
        })
        .await;
    }

    /// Asserts that no slot is in use and that the next job gets one.
    async fn assert_free(&self, world: &World) {
        self.wait("repull_worker_slots_running", 0.0).await;
        self.wait("repull_worker_settling", 0.0).await;
        let probe = world.client().enqueue(job("echo", &json!("next"))).await;
        outcome(world.client(), &probe.unwrap(), DEADLINE).await;
        self.wait("repull_worker_slots_running", 0.0).await;
    }

    async fn end(self) {
        self.shutdown.drain();
        let ended = tokio::time::timeout(DEADLINE, self.running).await;
        ended
            .expect("the worker ends")
            .expect("without a panic")
            .expect("and well");
    }
}

async fn panics(task: &str) {
    let world = World::start().await;
    let worker = inside(&world, |_| {}).await;
    for _ in 0..3 {
        let mut job = job(task, &Value::Null);
        job.max_attempts = Some(1);
        let enqueued = world.client().enqueue(job).await.unwrap();
        let outcome = outcome(world.client(), &enqueued, DEADLINE).await;
        assert_eq!(outcome.kind, EventKind::Failed);
        let text = outcome.text();
        assert!(text.contains("panicked: on purpose"), "{text}");
    }
    worker.assert_free(&world).await;
    worker.end().await;
}

/// D-9. A handler that panics before its first await ends its attempt and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_panics_at_once_frees_its_slot() {
    panics("panic.at.once").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_panics_later_frees_its_slot() {
    panics("panic.later").await;
}

/// B-11. The slot of an attempt that took too long is not given away while the handler still runs:
/// that would be more at once than there are slots.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_that_blocks_beyond_its_timeout_keeps_its_slot_until_it_ends() {
    let world = World::start().await;
    let worker = inside(&world, |_| {}).await;
    let mut blocking = job("block", &Value::Null);
    blocking.timeout = Some(Timeout::After(Duration::from_millis(50)));
    blocking.max_attempts = Some(1);
    let blocking = world.client().enqueue(blocking).await.unwrap();
    worker.wait("repull_worker_slots_running", 1.0).await;
    let next = world.client().enqueue(job("echo", &json!(1))).await;

    let numbers = super::numbers(&world).await;
    assert_eq!((numbers.num_pending, numbers.num_ack_pending), (1, 1));
    let metrics = worker.metrics().await.expect("metrics");
    assert_eq!(metrics.value("repull_worker_slots_promised"), 0.0);
    worker.gate.open();

    outcome(world.client(), &blocking, DEADLINE).await;
    outcome(world.client(), &next.unwrap(), DEADLINE).await;
    worker.assert_free(&world).await;
    worker.end().await;
}

/// Starts a job that blocks, cancels it, and waits until its handler is reported as stuck.
async fn stuck(world: &World, worker: &Inside) -> repull::client::Enqueued {
    let blocking = world.client().enqueue(job("block", &Value::Null)).await;
    let blocking = blocking.unwrap();
    worker.wait("repull_worker_slots_running", 1.0).await;
    let cancelled = world
        .client()
        .cancel(&blocking.address.id, "enough")
        .await
        .unwrap();
    assert!(cancelled[0].worker.is_some());
    worker.wait("repull_worker_stuck_handlers", 1.0).await;
    blocking
}

/// B-7. A handler that ignores its cancellation is reported, and its slot comes back when it ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_that_ignores_its_cancellation_is_reported_and_frees_its_slot_in_the_end() {
    let world = World::start().await;
    let worker = inside(&world, |_| {}).await;
    let blocking = stuck(&world, &worker).await;
    let metrics = worker.metrics().await.expect("metrics");
    assert_eq!(metrics.value("repull_worker_slots_running"), 1.0);

    worker.gate.open();

    let outcome = outcome(world.client(), &blocking, DEADLINE).await;
    assert_eq!(outcome.kind, EventKind::Cancelled);
    worker.wait("repull_worker_stuck_handlers", 0.0).await;
    worker.assert_free(&world).await;
    worker.end().await;
}

/// B-7. Where the worker is told so, another slot stands in for it at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_slot_of_a_stuck_handler_is_replaced_where_that_is_wanted() {
    let world = World::start().await;
    let worker = inside(&world, |config| config.replace_stuck = true).await;
    let blocking = stuck(&world, &worker).await;

    worker.assert_free(&world).await;
    let metrics = worker.metrics().await.expect("metrics");
    assert_eq!(metrics.value("repull_worker_stuck_handlers"), 1.0);

    worker.gate.open();
    outcome(world.client(), &blocking, DEADLINE).await;
    worker.wait("repull_worker_stuck_handlers", 0.0).await;
    worker.assert_free(&world).await;
    worker.end().await;
}
