//! Ports that a test may give up and take again.
//!
//! A server that is restarted must come back on its port, and a cut proxy must refuse on its own.
//! The ports that the kernel gives out for "any" are also those of every outgoing connection, so
//! one of them may be gone by then. These come from below that range, each once per test process.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{LazyLock, Mutex, PoisonError};

const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

static TAKEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A loopback port that nothing listens on now and that no other call in this process returns.
pub(crate) fn reserve() -> u16 {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    // Random, so that several test processes on one machine do not march through the same ports.
    let start = RandomState::new().build_hasher().finish();
    for step in 0..u64::from(COUNT) {
        let offset = u16::try_from(start.wrapping_add(step) % u64::from(COUNT))
            .expect("a remainder of COUNT fits");
        let port = FIRST + offset;
        if !taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            taken.insert(port);
            return port;
        }
    }
    panic!(
        "no free loopback port from {FIRST} to {}",
        FIRST + COUNT - 1
    );
}
