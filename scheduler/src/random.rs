//! Random numbers for spreading retries; nothing that decides depends on them.

use std::hash::{BuildHasher, RandomState};

/// A number from 0 to 1.
pub(crate) fn unit() -> f64 {
    // Each `RandomState` has keys of its own, so the hash of nothing is random.
    let bits = RandomState::new().hash_one(0u8) >> 11;
    bits as f64 / (1u64 << 53) as f64
}
