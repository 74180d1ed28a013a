//! The watchdog: silent in health, and it does not give up half way.

use super::*;

fn backlog(pending: u64) -> Event {
    let backlog = Backlog {
        pending,
        waiting: 1,
        ..Backlog::default()
    };
    Event::BacklogSeen {
        queue: QueueIx(0),
        backlog,
    }
}

/// Time passes; the server answers questions for the backlog with `pending`, and each pull's
/// heartbeats come. Returns what the watchdog did, with the second.
fn watch(bench: &mut Bench, seconds: u64, pending: u64) -> Vec<(u64, Command)> {
    let mut actions = Vec::new();
    for _ in 0..seconds {
        let commands = bench.pass(1_000);
        let asked = commands
            .iter()
            .any(|command| matches!(command, Command::AskBacklog { .. }));
        for command in commands {
            match command {
                Command::NewEpoch => {
                    actions.push((bench.now.0 / 1_000, Command::NewEpoch));
                    let epoch = Epoch(bench.engine.epoch.0 + 1);
                    bench.event(Event::EpochChanged { epoch });
                }
                Command::Reconnect | Command::Exit { .. } => {
                    actions.push((bench.now.0 / 1_000, command));
                }
                _ => {}
            }
        }
        if asked {
            bench.event(backlog(pending));
        }
        let last = bench.sent.len() - 1;
        bench.status_of(last, Status::Heartbeat);
    }
    actions
}

#[test]
fn an_idle_worker_without_backlog_is_left_alone() {
    let mut bench = Bench::single(2);
    assert_eq!(watch(&mut bench, 600, 0), []);
    assert_eq!(bench.engine.snapshot().counters.new_epochs, 0);
}

#[test]
fn a_backlog_beside_idle_slots_leads_to_a_new_epoch_a_reconnect_and_the_end() {
    let mut bench = Bench::single(2);
    let actions = watch(&mut bench, 120, 5);
    let [
        (first, Command::NewEpoch),
        (second, Command::Reconnect),
        (third, Command::Exit { fault }),
    ] = actions.as_slice()
    else {
        panic!("{actions:?}")
    };
    assert_eq!((second - first, third - second), (30, 30));
    assert!(*first <= 42, "asked at 10 s, and 30 s later: {first}");
    assert_eq!(fault.class, FaultClass::BacklogNotDelivered);
    assert_eq!(
        fault.message,
        "2 slots idle and jobs waiting in `mail`, yet nothing was delivered for 90000 ms; a new \
         inbox and a new connection did not help"
    );
}

#[test]
fn a_job_that_arrives_calms_the_watchdog() {
    let mut bench = Bench::single(2);
    let actions = watch(&mut bench, 45, 5);
    assert_eq!(actions.len(), 1);
    bench.job(1);
    bench.finish(1, Verdict::Settle);
    bench.event(Event::Settled { seq: Seq(1) });
    let again = watch(&mut bench, 45, 5);
    assert!(
        matches!(again.as_slice(), [(_, Command::NewEpoch)]),
        "from the start: {again:?}"
    );
}

#[test]
fn a_queue_at_its_limit_is_no_fault() {
    let mut bench = Bench::single(2);
    for _ in 0..300 {
        bench.pass(1_000);
        let backlog = Backlog {
            pending: 9,
            ack_pending: 3,
            ack_pending_max: Some(3),
            ..Backlog::default()
        };
        bench.event(Event::BacklogSeen {
            queue: QueueIx(0),
            backlog,
        });
    }
    assert_eq!(bench.engine.snapshot().counters.watchdog_new_epochs, 0);
}

#[test]
fn a_paused_queue_with_a_backlog_is_no_fault() {
    let mut bench = Bench::single(2);
    bench.event(Event::QueuePaused { queue: QueueIx(0) });
    assert_eq!(watch(&mut bench, 300, 9), []);
}

#[test]
fn a_connection_that_looks_alive_and_says_nothing_ends_the_process() {
    let mut bench = Bench::single(1);
    let mut faults = Vec::new();
    for _ in 0..200 {
        for command in bench.pass(1_000) {
            match command {
                Command::NewEpoch => {
                    let epoch = Epoch(bench.engine.epoch.0 + 1);
                    bench.event(Event::EpochChanged { epoch });
                }
                Command::Exit { fault } => faults.push(fault.class),
                _ => {}
            }
        }
    }
    assert_eq!(faults, [FaultClass::ServerSilent]);
    assert_eq!(bench.engine.snapshot().counters.watchdog_reconnects, 1);
}

#[test]
fn an_outage_that_the_client_knows_of_is_waited_out() {
    let mut bench = Bench::single(1);
    bench.event(Event::Disconnected);
    bench.status_of(0, Status::Heartbeat); // It had arrived before, and is read only now.
    bench.pass(299_000);
    let counters = bench.engine.snapshot().counters;
    assert_eq!(
        (counters.watchdog_new_epochs, counters.watchdog_exits),
        (0, 0)
    );
    bench.event(Event::EpochChanged { epoch: Epoch(1) });
    assert_eq!(watch(&mut bench, 600, 0), []);
}

#[test]
fn a_client_that_never_gets_its_connection_back_ends_the_process() {
    let mut bench = Bench::single(1);
    bench.event(Event::Disconnected);
    let commands = bench.pass(361_000);
    let Some(Command::Exit { fault }) = commands.last() else {
        panic!("{commands:?}")
    };
    assert_eq!(fault.class, FaultClass::Disconnected);
    assert!(
        fault
            .message
            .starts_with("no connection to the server for 360000 ms")
    );
}

#[test]
fn busy_slots_are_no_reason_to_bark() {
    let mut bench = Bench::single(1);
    bench.job(1);
    for _ in 0..600 {
        for command in bench.pass(1_000) {
            if let Command::KeepAlive { queue, batch, .. } = command {
                bench.event(Event::Extended { queue, batch });
            }
        }
    }
    assert_eq!(bench.finish(1, Verdict::Settle), [settle(1)]);
    bench.pass(1);
    assert_eq!(bench.engine.snapshot().counters.watchdog_new_epochs, 0);
}
