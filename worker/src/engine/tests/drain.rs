//! Stopping: nothing is lost, nothing uses up an attempt, and it ends.

use super::*;

#[test]
fn an_idle_worker_stops_when_its_inbox_is_empty() {
    let mut bench = Bench::single(2);
    assert_eq!(bench.event(Event::Drain), []);
    assert_eq!(
        bench.event(Event::EpochChanged { epoch: Epoch(1) }),
        [Command::Stopped]
    );
    assert_eq!(bench.sent.len(), 1, "and asks for nothing more");
}

#[test]
fn an_idle_worker_whose_inbox_is_never_reported_empty_stops_after_the_grace() {
    let mut bench = Bench::single(2);
    bench.event(Event::Drain);
    assert_eq!(bench.pass(2_000), [Command::Stopped]);
}

#[test]
fn drain_waits_for_running_jobs_and_their_acks_then_stops() {
    let mut bench = Bench::single(2);
    bench.job(1);
    bench.event(Event::Drain);
    bench.event(Event::EpochChanged { epoch: Epoch(1) });
    assert_eq!(bench.finish(1, Verdict::Settle), [settle(1)]);
    assert_eq!(
        bench.event(Event::Settled { seq: Seq(1) }),
        [Command::Stopped]
    );
}

#[test]
fn a_job_that_arrives_while_draining_goes_back_at_once() {
    let mut bench = Bench::single(2);
    bench.event(Event::Drain);
    assert_eq!(bench.job(1), [refuse(1)]);
}

#[test]
fn running_jobs_are_kept_while_draining() {
    let mut bench = Bench::single(1);
    bench.job(1);
    bench.event(Event::Drain);
    let commands = bench.pass(5_000);
    let kept = commands
        .iter()
        .filter(|command| matches!(command, Command::KeepAlive { .. }));
    assert_eq!(kept.count(), 1);
}

#[test]
fn what_outlasts_the_drain_is_cancelled_and_handed_back() {
    let mut bench = Bench::new(Config {
        drain_timeout: Millis(4_000),
        ..config(1, &["mail"])
    });
    bench.turn();
    bench.job(1);
    bench.event(Event::Drain);
    let cancel = Command::CancelHandler {
        seq: Seq(1),
        reason: CancelReason::Drain,
    };
    assert_eq!(bench.pass(4_000), [cancel]);
    let back = Command::Settle {
        seq: Seq(1),
        verdict: Verdict::HandBack,
    };
    assert_eq!(bench.finish(1, Verdict::HandBack), [back]);
    assert_eq!(
        bench.event(Event::Settled { seq: Seq(1) }),
        [Command::Stopped]
    );
}

#[test]
fn a_second_signal_cancels_at_once() {
    let mut bench = Bench::single(1);
    bench.job(1);
    bench.event(Event::Drain);
    let cancel = Command::CancelHandler {
        seq: Seq(1),
        reason: CancelReason::Stop,
    };
    assert_eq!(bench.event(Event::StopNow), [cancel]);
}

#[test]
fn a_handler_that_never_ends_does_not_keep_the_worker_from_stopping() {
    let mut bench = Bench::single(1);
    bench.job(1);
    bench.event(Event::StopNow);
    let commands = bench.pass(7_000);
    assert!(
        commands.contains(&Command::ReportStuck { seq: Seq(1) }),
        "{commands:?}"
    );
    assert_eq!(commands.last(), Some(&Command::Stopped));
}

#[test]
fn stopped_is_said_once() {
    let mut bench = Bench::single(1);
    bench.event(Event::StopNow);
    let commands = bench.pass(100_000);
    let stopped = commands
        .iter()
        .filter(|command| **command == Command::Stopped);
    assert_eq!(stopped.count(), 1);
}
