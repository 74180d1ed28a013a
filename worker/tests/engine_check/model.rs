//! Every interleaving of small worlds: of deliveries, statuses, losses, ends of handlers, acks,
//! epochs, orders from people, and time. In each state that can be reached the invariants hold,
//! and from each the jobs get run once nothing goes wrong any more.
//!
//! The sizes of the tests that always run are chosen to take well under a minute together without
//! optimisation; the deep ones take minutes, with optimisation:
//! `cargo test --release -p repull-worker --test engine_check -- --ignored --nocapture`.

use repull_worker::engine::{Config, Millis, Order, QueueConfig};

use crate::explore::{Explored, explore};
use crate::world::{Budget, World};

/// A config with spans so short that few moments are told apart, in the proportions of production.
pub(crate) fn config(slots: u32, queues: usize) -> Config {
    let queue = |index: usize| QueueConfig {
        name: format!("q{index}"),
        weight: 1 + index as u32,
    };
    Config {
        ack_wait: Millis(6),
        pull_expires: Millis(8),
        short_expires: Millis(2),
        sentinel_expires: Millis(3),
        heartbeat: Millis(2),
        pull_grace: Millis(1),
        pulls_max: 2,
        probe_interval: Millis(2),
        probe_expires: Millis(1),
        settling_max: 2,
        confirm_timeout: Millis(2),
        retry: (Millis(1), Millis(2)),
        refused_retry: (Millis(1), Millis(2)),
        reconcile: Millis::NEVER,
        watchdog: Millis::NEVER,
        drain_timeout: Millis(3),
        cancel_grace: Millis(2),
        ..Config::new(slots, (0..queues).map(queue).collect())
    }
}

fn weighted(slots: u32, queues: usize) -> Config {
    Config {
        order: Order::Weighted,
        ..config(slots, queues)
    }
}

fn faults(faults: u8) -> Budget {
    Budget {
        faults,
        ..Budget::default()
    }
}

/// The most states of a world that is always explored, and of a deep one.
const STATES_MAX: usize = 250_000;
const STATES_MAX_DEEP: usize = 50_000_000;

/// Explores a world, which must be sound, and must have seen these corners.
fn check(name: &str, config: Config, jobs: &[u32], budget: Budget, corners: &[&str]) -> Explored {
    let world = World::new(config, jobs, budget);
    let explored = explored(name, world, STATES_MAX);
    for corner in corners {
        let seen = explored.corners.contains(corner);
        assert!(seen, "{name} has not seen: {corner}");
    }
    explored
}

fn check_deep(name: &str, config: Config, jobs: &[u32], budget: Budget) {
    explored(name, World::new(config, jobs, budget), STATES_MAX_DEEP);
}

fn explored(name: &str, world: World, states_max: usize) -> Explored {
    let explored = explore(world, states_max);
    let explored = explored.unwrap_or_else(|example| panic!("{name}: {example}"));
    println!("{name}: {explored:?}");
    explored
}

#[test]
fn nothing_goes_wrong() {
    let calm = [
        check("one queue", config(2, 1), &[3], Budget::default(), &[]),
        check("three slots", config(3, 1), &[3], Budget::default(), &[]),
        check("in order", config(2, 2), &[2, 1], Budget::default(), &[]),
        check("by weight", weighted(2, 2), &[1, 2], Budget::default(), &[]),
        check(
            "more queues than slots",
            config(1, 2),
            &[1, 1],
            Budget::default(),
            &[],
        ),
    ];
    for explored in calm {
        assert!(
            explored.corners.is_empty(),
            "no guard was needed: {explored:?}"
        );
    }
}

#[test]
fn messages_pulls_and_statuses_are_lost() {
    let corners = [
        "acked again",
        "confirmed late",
        "lease lost",
        "new epoch",
        "pull failed",
        "pull written off",
        "sleep",
        "stale delivery",
    ];
    check("one queue", config(2, 1), &[2], faults(1), &corners);
    check("one slot", config(1, 1), &[1], faults(2), &corners);
    check("two queues", config(1, 2), &[1, 1], faults(1), &corners);
}

#[test]
fn connections_are_lost() {
    let budget = Budget {
        reconnects: 2,
        ..Budget::default()
    };
    check("reconnects", config(2, 1), &[2], budget, &["refused"]);
    let budget = Budget {
        pauses: 1,
        reconnects: 1,
        ..Budget::default()
    };
    check("and a pause", config(1, 1), &[2], budget, &["unpromised"]);
    let budget = Budget {
        faults: 1,
        reconnects: 1,
        ..Budget::default()
    };
    check(
        "and a fault",
        config(1, 1),
        &[1],
        budget,
        &["stale delivery"],
    );
}

#[test]
fn people_interfere() {
    let budget = Budget {
        pauses: 1,
        cancels: 1,
        ..Budget::default()
    };
    check("pause, cancel", config(2, 2), &[1, 1], budget, &["stuck"]);
    let budget = Budget {
        abandons: 1,
        cancels: 1,
        ..Budget::default()
    };
    let replacing = Config {
        replace_stuck: true,
        ..config(1, 1)
    };
    check(
        "abandon, cancel, replace",
        replacing,
        &[2],
        budget,
        &["stuck"],
    );
}

#[test]
fn the_worker_drains() {
    let budget = Budget {
        drains: 1,
        stops: 1,
        ..Budget::default()
    };
    check(
        "drain, stop",
        config(2, 1),
        &[2],
        budget,
        &["refused", "stuck"],
    );
    let budget = Budget {
        drains: 1,
        faults: 1,
        ..Budget::default()
    };
    check(
        "and a fault",
        config(1, 1),
        &[2],
        budget,
        &["refused", "lease lost"],
    );
}

#[test]
fn the_server_is_asked_for_the_backlog_and_the_watchdog_watches() {
    let watched = Config {
        reconcile: Millis(3),
        watchdog: Millis(7),
        ..config(1, 1)
    };
    check("one queue", watched, &[1], faults(1), &["watchdog", "exit"]);
}

#[test]
#[ignore = "takes minutes"]
fn deep_faults() {
    check_deep("one queue", config(2, 1), &[2], faults(2));
    check_deep("two queues", config(2, 2), &[1, 2], faults(1));
    check_deep("two queues, by weight", weighted(2, 2), &[1, 2], faults(1));
    check_deep("two queues, one slot", config(1, 2), &[1, 1], faults(2));
}

#[test]
#[ignore = "takes minutes"]
fn deep_connections() {
    let budget = Budget {
        faults: 1,
        reconnects: 1,
        ..Budget::default()
    };
    check_deep("two queues", weighted(2, 2), &[1, 1], budget.clone());
    check_deep("three slots", config(3, 1), &[2], budget);
}

#[test]
#[ignore = "takes minutes"]
fn deep_drain() {
    let budget = Budget {
        drains: 1,
        stops: 1,
        faults: 1,
        ..Budget::default()
    };
    check_deep("drain, stop, a fault", config(2, 1), &[2], budget);
    let budget = Budget {
        drains: 1,
        reconnects: 1,
        cancels: 1,
        ..Budget::default()
    };
    check_deep("drain, reconnect, cancel", config(2, 2), &[1, 1], budget);
}

#[test]
#[ignore = "takes minutes"]
fn deep_people_and_watchdog() {
    let budget = Budget {
        faults: 1,
        pauses: 1,
        cancels: 1,
        ..Budget::default()
    };
    check_deep("pause, cancel, a fault", config(2, 2), &[1, 1], budget);
    let watched = Config {
        reconcile: Millis(3),
        watchdog: Millis(7),
        ..config(2, 2)
    };
    check_deep("watched", watched, &[1, 1], faults(1));
}
