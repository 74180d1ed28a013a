//! The slots: how many there are, how many run a job, how many are promised to open pulls.
//!
//! Every change goes through here, and here the first invariant is asserted:
//! running + promised <= total.

/// The pool of slots.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slots {
    total: u32,
    running: u32,
    promised: u32,
}

impl Slots {
    pub(super) fn new(total: u32) -> Self {
        Self {
            total,
            running: 0,
            promised: 0,
        }
    }

    pub(super) fn total(&self) -> u32 {
        self.total
    }

    pub(super) fn running(&self) -> u32 {
        self.running
    }

    pub(super) fn promised(&self) -> u32 {
        self.promised
    }

    /// Slots that neither run a job nor are promised to a pull.
    pub(super) fn free(&self) -> u32 {
        self.total - self.running - self.promised
    }

    /// Slots that run no job, promised or not.
    pub(super) fn idle(&self) -> u32 {
        self.total - self.running
    }

    /// Promises free slots to a pull.
    pub(super) fn promise(&mut self, count: u32) {
        self.promised += count;
        self.check();
    }

    /// Takes back what was promised to a pull that is over.
    pub(super) fn withdraw(&mut self, count: u32) {
        self.promised = self
            .promised
            .checked_sub(count)
            .expect("a promise is withdrawn once");
    }

    /// Takes a slot for a job. The promise it was delivered for, if any, has been withdrawn.
    pub(super) fn take(&mut self) {
        self.running += 1;
        self.check();
    }

    /// Frees the slot of a job.
    pub(super) fn free_one(&mut self) {
        self.running = self.running.checked_sub(1).expect("a slot is freed once");
    }

    fn check(&self) {
        assert!(
            u64::from(self.running) + u64::from(self.promised) <= u64::from(self.total),
            "{} running and {} promised exceed {} slots",
            self.running,
            self.promised,
            self.total
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_move_from_free_to_promised_to_running_and_back() {
        let mut slots = Slots::new(3);
        slots.promise(2);
        assert_eq!((slots.free(), slots.idle()), (1, 3));
        slots.withdraw(1);
        slots.take();
        assert_eq!((slots.running(), slots.promised(), slots.free()), (1, 1, 1));
        slots.free_one();
        slots.withdraw(1);
        assert_eq!(slots, Slots::new(3));
    }

    #[test]
    #[should_panic(expected = "exceed 1 slots")]
    fn promising_more_than_there_is_panics() {
        Slots::new(1).promise(2);
    }

    #[test]
    #[should_panic(expected = "freed once")]
    fn freeing_a_slot_twice_panics() {
        let mut slots = Slots::new(1);
        slots.take();
        slots.free_one();
        slots.free_one();
    }
}
