//! Keeps one copy of what many schedules have in common.
//!
//! A million schedules usually share a handful of triggers and job templates, and a parsed cron
//! expression is the largest part of a schedule.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Weak};

/// How many values are kept before those nobody uses any more are forgotten.
const SWEEP_FIRST: usize = 1_024;

/// One copy of each distinct value that is in use.
#[derive(Debug)]
pub(super) struct Interner<T> {
    values: HashMap<u64, Weak<T>>,
    /// The copy that was given out last: often the next one as well, and found without a text.
    recent: Weak<T>,
    hasher: RandomState,
    sweep_at: usize,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self {
            values: HashMap::new(),
            recent: Weak::new(),
            hasher: RandomState::new(),
            sweep_at: SWEEP_FIRST,
        }
    }
}

impl<T: PartialEq> Interner<T> {
    /// The copy of `value`, which the text that `tell` makes of it says as well; made where there is
    /// none.
    pub(super) fn share(&mut self, value: T, tell: impl FnOnce(&T) -> String) -> Arc<T> {
        if let Some(recent) = self.recent.upgrade()
            && *recent == value
        {
            return recent;
        }
        let shared = self.look_up(value, tell);
        self.recent = Arc::downgrade(&shared);
        shared
    }

    fn look_up(&mut self, value: T, tell: impl FnOnce(&T) -> String) -> Arc<T> {
        let hash = self.hasher.hash_one(tell(&value));
        if let Some(shared) = self.values.get(&hash).and_then(Weak::upgrade) {
            // Two texts of one hash are rare, and then one of them goes without sharing.
            return if *shared == value {
                shared
            } else {
                Arc::new(value)
            };
        }
        if self.values.len() >= self.sweep_at {
            self.values.retain(|_, value| value.strong_count() > 0);
            self.sweep_at = (self.values.len() * 2).max(SWEEP_FIRST);
        }
        let shared = Arc::new(value);
        self.values.insert(hash, Arc::downgrade(&shared));
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_unused_ones_are_forgotten() {
        let mut interner = Interner::default();
        let tell = |number: &usize| number.to_string();
        let first = interner.share(1, tell);
        let recent = interner.share(1, |_| unreachable!("it was the last one"));
        assert!(Arc::ptr_eq(&first, &recent));
        for number in 0..10 * SWEEP_FIRST {
            interner.share(number, tell);
        }
        assert!(interner.values.len() <= SWEEP_FIRST);
        assert!(Arc::ptr_eq(&first, &interner.share(1, tell)));
    }
}
