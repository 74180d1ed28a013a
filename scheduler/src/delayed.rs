//! Things to be looked at again after a while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Items in the order in which their time comes.
#[derive(Debug)]
pub(crate) struct Delayed<T> {
    items: BTreeMap<(Instant, u64), T>,
    serial: u64,
}

impl<T> Default for Delayed<T> {
    fn default() -> Self {
        Self {
            items: BTreeMap::new(),
            serial: 0,
        }
    }
}

impl<T> Delayed<T> {
    /// Adds an item whose time comes after `pause`.
    pub(crate) fn push(&mut self, pause: Duration, item: T) {
        self.serial += 1;
        self.items
            .insert((Instant::now() + pause, self.serial), item);
    }

    /// Takes an item whose time has come.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<T> {
        let first = self.items.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// When the next item's time comes.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.items.first_key_value().map(|((at, _), _)| *at)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// Takes all of them, whatever their time.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(&mut self.items).into_values()
    }
}

/// How long to wait before the next try: doubles from 50 ms up to `cap`.
pub(crate) fn pause(tries: u32, cap: Duration) -> Duration {
    Duration::from_millis(50)
        .saturating_mul(2u32.saturating_pow(tries.saturating_sub(1).min(16)))
        .min(cap)
        .mul_f64(0.75 + crate::random::unit() / 4.0)
}
