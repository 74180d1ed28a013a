//! How far a running job is, for whoever lists running jobs.

use std::sync::atomic::{AtomicU64, Ordering};

/// The last progress a handler told. Written by the handler, read by the worker's beacon.
#[derive(Debug)]
pub struct ProgressCell {
    /// The bits of a fraction; [`NONE`] where nothing was told.
    bits: AtomicU64,
}

/// A number that no fraction from 0 to 1 has the bits of.
const NONE: u64 = u64::MAX;

impl Default for ProgressCell {
    fn default() -> Self {
        Self {
            bits: AtomicU64::new(NONE),
        }
    }
}

impl ProgressCell {
    /// One in which nothing was told.
    pub fn new() -> Self {
        Self::default()
    }

    /// The last progress told, from 0 to 1.
    pub fn fraction(&self) -> Option<f64> {
        match self.bits.load(Ordering::Relaxed) {
            NONE => None,
            bits => Some(f64::from_bits(bits)),
        }
    }

    pub(super) fn set(&self, fraction: f64) {
        self.bits.store(fraction.to_bits(), Ordering::Relaxed);
    }
}
