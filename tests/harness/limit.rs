//! A bound on how many worlds run at once.
//!
//! A world is a server and a few processes. More of them than the cores can carry would turn
//! deadlines red that have nothing to do with the code under test.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// After this long a world starts anyway: a test that holds one world and waits for its second
/// must not wait for others that do the same.
const WAIT_MAX: Duration = Duration::from_secs(240);

static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    Arc::new(Semaphore::new((cores * 2).clamp(2, 16)))
});

/// Waits for room for a world that weighs this many servers; the place is free again on drop.
pub(crate) async fn place(servers: usize) -> Option<OwnedSemaphorePermit> {
    let places = Arc::clone(&PLACES);
    // A cluster takes two places: its nodes share the work of one server and add replication.
    let weight = if servers > 1 { 2 } else { 1 };
    match tokio::time::timeout(WAIT_MAX, places.acquire_many_owned(weight)).await {
        Ok(permit) => permit.ok(),
        Err(_) => None,
    }
}
