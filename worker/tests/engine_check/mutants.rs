//! Shows that the checks bite: each known mistake, put between the engine and the world, is found.

use crate::explore::{Counterexample, explore};
use crate::model::config;
use crate::shell::Mutant;
use crate::world::{Budget, World};

/// Explores a world with a mistake in it, and expects it to be found.
fn find(mutant: Mutant, slots: u32, jobs: &[u32], budget: Budget) -> Counterexample {
    let config = config(slots, jobs.len());
    let world = World::with_mutant(config, jobs, budget, Some(mutant));
    let found = explore(world, 1_000_000).expect_err("the mistake is found");
    println!("{mutant:?}: {}", found.reason);
    found
}

fn faults(faults: u8) -> Budget {
    Budget {
        faults,
        ..Budget::default()
    }
}

#[test]
fn the_checker_finds_a_wake_on_add_only() {
    let found = find(Mutant::WakeOnAddOnly, 1, &[2], Budget::default());
    assert!(found.reason.starts_with("stalled"), "{found}");
    let found = find(Mutant::WakeOnAddOnly, 2, &[2, 2], Budget::default());
    assert!(found.reason.starts_with("stalled"), "{found}");
}

#[test]
fn the_checker_finds_a_leaked_slot() {
    let budget = Budget {
        abandons: 1,
        ..Budget::default()
    };
    let found = find(Mutant::LeakedSlot, 2, &[3], budget);
    assert!(
        found
            .reason
            .contains("0 handlers hold slots, 1 are counted"),
        "{found}"
    );
}

#[test]
fn the_checker_finds_an_uncounted_lost_pull() {
    let found = find(Mutant::UncountedLostPull, 2, &[2], faults(1));
    assert!(found.reason.starts_with("stalled"), "{found}");
}

#[test]
fn the_checker_finds_an_ack_after_a_lost_lease() {
    find(Mutant::AckAfterLostLease, 1, &[1], faults(2));
}

#[test]
fn the_checker_finds_a_pull_for_too_many() {
    find(Mutant::PullForTooMany, 1, &[2], Budget::default());
}

#[test]
fn the_checker_finds_a_job_forgotten_before_its_ack_is_confirmed() {
    let found = find(Mutant::ForgottenWhenAcked, 1, &[1], faults(1));
    assert!(
        found.reason.contains("run again although it is done"),
        "{found}"
    );
}

#[test]
fn the_checker_finds_pulls_that_outlive_their_epoch() {
    let budget = Budget {
        reconnects: 1,
        ..Budget::default()
    };
    find(Mutant::EpochKeepsPulls, 1, &[2], budget);
}

#[test]
fn the_checker_finds_that_nothing_keeps_the_jobs() {
    find(Mutant::NoKeepAlive, 1, &[1], Budget::default());
}
