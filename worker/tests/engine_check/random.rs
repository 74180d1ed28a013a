//! Large worlds that run at random: up to 64 slots, four queues, thousands of steps, every kind of
//! fault. What must hold after each step is the same as in the exhaustive check; at the end the
//! faults stop, and every job must get run. A failing run is shrunk to a short one, and its seed
//! kept in `proptest-regressions`.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{TestError, TestRunner};

use repull_worker::engine::{Config, Counters, Millis, Order, QueueConfig, QueueIx};

use crate::explore::{calm_step, corners, guarded};
use crate::shell::Mutant;
use crate::world::{Action, Budget, World};

/// What may be different from run to run.
#[derive(Clone, Debug)]
struct Setting {
    slots: u32,
    weights: Vec<u32>,
    order: Order,
    pulls_max: u32,
    settling_max: u32,
    replace_stuck: bool,
    jobs: Vec<u32>,
}

/// One decision: the kind of thing that happens, and which of its kind.
type Choice = (u8, u16);

fn setting() -> impl Strategy<Value = Setting> {
    let queues = vec((1..10_u32, 0..80_u32), 1..5);
    let order = prop_oneof![Just(Order::Strict), Just(Order::Weighted)];
    (
        1..65_u32,
        queues,
        order,
        1..9_u32,
        1..100_u32,
        any::<bool>(),
    )
        .prop_map(
            |(slots, queues, order, pulls_max, settling_max, replace_stuck)| Setting {
                slots,
                weights: queues.iter().map(|(weight, _)| *weight).collect(),
                order,
                pulls_max,
                settling_max,
                replace_stuck,
                jobs: queues.iter().map(|(_, jobs)| *jobs).collect(),
            },
        )
}

fn config(setting: &Setting) -> Config {
    let queues = setting.weights.iter().enumerate();
    let queues = queues.map(|(index, weight)| QueueConfig {
        name: format!("q{index}"),
        weight: *weight,
    });
    Config {
        order: setting.order,
        pulls_max: setting.pulls_max,
        settling_max: setting.settling_max,
        replace_stuck: setting.replace_stuck,
        // The watchdog ends a process whose connection stays cut; that is for the exhaustive check.
        watchdog: Millis::NEVER,
        ..Config::new(setting.slots, queues.collect())
    }
}

/// The choices as weights in a hundred: mostly what a healthy system does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Serve,
    Receive,
    Hear,
    Finish,
    Time,
    People,
    Fault,
    Publish,
}

fn kind(choice: u8) -> Kind {
    match choice % 100 {
        0..20 => Kind::Serve,
        20..45 => Kind::Receive,
        45..55 => Kind::Hear,
        55..75 => Kind::Finish,
        75..90 => Kind::Time,
        90..93 => Kind::People,
        93..97 => Kind::Fault,
        _ => Kind::Publish,
    }
}

fn is_of(kind: Kind, action: &Action) -> bool {
    use Action as A;
    match action {
        A::Serve(_) => kind == Kind::Serve,
        A::Receive(..) | A::ReceiveAll => kind == Kind::Receive,
        A::Hear => kind == Kind::Hear,
        A::Finish(..) | A::FinishAll => kind == Kind::Finish,
        A::Tick | A::Pass | A::OpenEpoch { .. } | A::OtherAcks(_) | A::Mend | A::Notice => {
            kind == Kind::Time
        }
        A::Pause(_) | A::Resume(_) | A::Cancel(_) | A::Drain | A::StopNow => kind == Kind::People,
        _ => kind == Kind::Fault,
    }
}

/// Plenty of trouble, but no drain: that one ends a run.
fn trouble() -> Budget {
    Budget {
        faults: 60,
        reconnects: 10,
        pauses: 10,
        cancels: 30,
        abandons: 20,
        drains: 0,
        stops: 0,
    }
}

fn step(world: &mut World, (choice, pick): Choice) -> Result<(), String> {
    let kind = kind(choice);
    if kind == Kind::Publish {
        let queue = usize::from(pick) % world.paused.len();
        world.server.publish(QueueIx(queue as u16));
        return Ok(());
    }
    let actions = world.actions();
    let fitting: Vec<_> = actions
        .iter()
        .filter(|action| is_of(kind, action))
        .collect();
    match fitting.get(usize::from(pick) % fitting.len().max(1)) {
        Some(action) => world.step(**action),
        // Nothing of that kind can happen: what must happen does.
        None => calm_step(world),
    }
}

/// The most steps from any state of such a world until all jobs are done.
fn steps_max(world: &World) -> usize {
    2_000 + 60 * world.server.jobs.len()
}

fn recover(world: &mut World) -> Result<(), String> {
    world.calm();
    for _ in 0..steps_max(world) {
        if world.is_done() {
            return Ok(());
        }
        calm_step(world)?;
    }
    Err("stalled: jobs are left although nothing goes wrong any more".into())
}

fn run(
    setting: &Setting,
    budget: Budget,
    choices: &[Choice],
    mutant: Option<Mutant>,
) -> Result<World, String> {
    let mut world = World::with_mutant(config(setting), &setting.jobs, budget, mutant);
    for choice in choices {
        if world.stopped {
            break;
        }
        step(&mut world, *choice)?;
    }
    recover(&mut world)?;
    Ok(world)
}

/// Few runs, since they are long, unless `PROPTEST_CASES` asks for more.
fn runs() -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let config = ProptestConfig {
        max_shrink_iters: 4_000,
        ..ProptestConfig::default()
    };
    if asked {
        config
    } else {
        ProptestConfig {
            cases: 48,
            ..config
        }
    }
}

proptest! {
    #![proptest_config(runs())]

    #[test]
    fn large_worlds_stay_sound_and_recover(
        setting in setting(),
        choices in vec(any::<Choice>(), 0..2_000),
    ) {
        let ran = run(&setting, trouble(), &choices, None);
        prop_assert!(ran.is_ok(), "{}", ran.unwrap_err());
    }

    #[test]
    fn large_worlds_without_faults_need_no_guard(
        setting in setting(),
        choices in vec(any::<Choice>(), 0..2_000),
    ) {
        let world = run(&setting, Budget::default(), &choices, None);
        prop_assert!(world.is_ok(), "{}", world.unwrap_err());
        let counters = world.unwrap().shell.engine.snapshot().counters;
        prop_assert_eq!(counters, Default::default());
    }

    #[test]
    fn large_worlds_drain_whatever_happens(
        setting in setting(),
        choices in vec(any::<Choice>(), 0..1_500),
    ) {
        let budget = Budget { drains: 1, stops: 1, ..trouble() };
        let ran = run(&setting, budget, &choices, None);
        prop_assert!(ran.is_ok(), "{}", ran.unwrap_err());
    }
}

/// Looks for a run that shows a mistake.
fn find(mutant: Mutant) -> String {
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 64,
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let strategy = (setting(), vec(any::<Choice>(), 0..1_000));
    let found = runner.run(&strategy, |(setting, choices)| {
        let ran = guarded(|| run(&setting, trouble(), &choices, Some(mutant)).map(|_| ()));
        ran.map_err(TestCaseError::fail)
    });
    match found {
        Err(TestError::Fail(reason, (setting, choices))) => {
            println!(
                "{mutant:?} with {setting:?} after {} choices: {reason}",
                choices.len()
            );
            reason.message().to_owned()
        }
        other => panic!("{mutant:?} is not found: {other:?}"),
    }
}

#[test]
fn random_runs_find_the_mistakes_too() {
    assert!(find(Mutant::WakeOnAddOnly).contains("stalled"));
    assert!(find(Mutant::LeakedSlot).contains("handlers hold slots"));
    find(Mutant::UncountedLostPull);
    find(Mutant::PullForTooMany);
    find(Mutant::ForgottenWhenAcked);
}

#[test]
fn random_runs_reach_every_corner() {
    let mut runner = TestRunner::deterministic();
    let mut reached = BTreeSet::new();
    for _ in 0..40 {
        let setting = setting()
            .new_tree(&mut runner)
            .expect("a setting")
            .current();
        let choices = vec(any::<Choice>(), 2_000);
        let choices = choices.new_tree(&mut runner).expect("choices").current();
        let world = run(&setting, trouble(), &choices, None).expect("a sound run");
        reached.extend(corners(&world.shell.engine.snapshot().counters));
    }
    let missing: Vec<_> = corners(&every_corner())
        .filter(|name| !reached.contains(name))
        .collect();
    // The watchdog is off.
    assert_eq!(missing, ["watchdog", "exit"], "never happened");
}

fn every_corner() -> Counters {
    Counters {
        refused: 1,
        unpromised: 1,
        stale_deliveries: 1,
        sleeps: 1,
        acked_again: 1,
        confirms: 1,
        leases_lost: 1,
        stuck: 1,
        unknown_finishes: 0,
        pulls_written_off: 1,
        pulls_failed: 1,
        jobs_lost_on_the_way: 1,
        new_epochs: 1,
        watchdog_new_epochs: 1,
        watchdog_reconnects: 1,
        watchdog_exits: 1,
    }
}
