//! One runtime in the background for proxies and fake servers.
//!
//! A test's own runtime usually has one thread, which serves nobody while the test computes. What
//! stands between other processes must not depend on that.

use std::future::Future;
use std::sync::LazyLock;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("harness")
        .enable_all()
        .build()
        .expect("a runtime for the harness")
});

/// Spawns onto the harness's runtime, from any thread.
pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    RUNTIME.spawn(future)
}

/// A loopback listener that belongs to the harness's runtime.
pub(crate) fn listen(port: u16) -> std::io::Result<tokio::net::TcpListener> {
    // Tokio's own `bind` sets the option too: a port closed a moment ago can be taken again.
    let _inside = RUNTIME.enter();
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((std::net::Ipv4Addr::LOCALHOST, port).into())?;
    socket.listen(1024)
}
