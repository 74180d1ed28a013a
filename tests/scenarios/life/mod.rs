//! The life of a job, feature by feature, with real servers, workers and schedulers.

mod attempts;
mod bulk;
mod cancel;
mod dead;
mod examples;
mod guides;
mod handlers;
mod queues;
mod times;
mod unique;
mod watch;

use repull_tests::World;
use repull_worker::{Shutdown, Worker, WorkerBuilder};
use tokio_util::sync::DropGuard;

/// A worker with handlers of a test's own, inside the test. Ends when the guard is dropped.
async fn inside(world: &World, with: impl FnOnce(WorkerBuilder) -> WorkerBuilder) -> DropGuard {
    let client = world.connect().await;
    let worker = with(Worker::builder(client)).build().expect("a worker");
    let shutdown = Shutdown::new();
    tokio::spawn(worker.run(shutdown.clone()));
    shutdown.stop.clone().drop_guard()
}
