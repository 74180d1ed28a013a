//! What becomes of a fire whose previous run has not ended.
//!
//! The broker finds the overlap: the job's id is the schedule's own, and a stream refuses a second
//! message on a subject where one is expected to be absent. This only says what follows.

use repull::schedule::Overlap;

/// What is on the subject that a fire's job should take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing: the run ended between the refusal and the look.
    Nothing,
    /// The job of this very fire.
    Same,
    /// Another job: the previous run, or one of the user's under the same id.
    Other,
}

/// What to do with the fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it is published.
    Done,
    /// Publish it again.
    Publish,
    /// Write it to the ledger as overlapped.
    Pass,
    /// Let it wait, where none waits already.
    Buffer,
    /// End the previous run, then publish it.
    CancelOther,
}

/// What to do about a fire that was refused because of what was found.
pub fn step(overlap: Overlap, found: Found) -> Step {
    match (found, overlap) {
        (Found::Nothing, _) => Step::Publish,
        (Found::Same, _) => Step::Done,
        // With `allow` each fire has an id of its own, so the other is a job that a user gave it.
        (Found::Other, Overlap::Allow | Overlap::Skip) => Step::Pass,
        (Found::Other, Overlap::BufferOne) => Step::Buffer,
        (Found::Other, Overlap::CancelOther) => Step::CancelOther,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fire_is_passed_over_only_where_another_run_is_there() {
        for overlap in [
            Overlap::Allow,
            Overlap::Skip,
            Overlap::BufferOne,
            Overlap::CancelOther,
        ] {
            assert_eq!(step(overlap, Found::Nothing), Step::Publish);
            assert_eq!(step(overlap, Found::Same), Step::Done);
        }
        assert_eq!(step(Overlap::Allow, Found::Other), Step::Pass);
        assert_eq!(step(Overlap::Skip, Found::Other), Step::Pass);
        assert_eq!(step(Overlap::BufferOne, Found::Other), Step::Buffer);
        assert_eq!(step(Overlap::CancelOther, Found::Other), Step::CancelOther);
    }
}
