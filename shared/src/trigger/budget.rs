//! A bound on the work of one evaluation.
//!
//! A fire is found by skipping, never by trying out every second, so a handful of steps is usual.
//! But triggers can be combined so that nothing is found for very long: members of an `all` that
//! meet once in a century, an `exclude` that vetoes each of a million fires. The budget is shared
//! by all parts of a trigger and makes such an evaluation end, as if there were no further fire.

/// Steps of one evaluation; enough to veto every second of two days.
const STEPS_MAX: u32 = 200_000;

#[derive(Debug)]
pub(super) struct Budget {
    left: u32,
}

impl Budget {
    pub(super) fn new() -> Budget {
        Budget { left: STEPS_MAX }
    }

    /// Takes a step; `None` when there is none left.
    pub(super) fn spend(&mut self) -> Option<()> {
        self.left = self.left.checked_sub(1)?;
        Some(())
    }

    /// Whether evaluation ended for want of steps.
    pub(super) fn is_used_up(&self) -> bool {
        self.left == 0
    }
}
