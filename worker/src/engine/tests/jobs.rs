//! Jobs: each slot is freed once, and no job is run while it runs, or after it is done.

use super::*;

#[test]
fn every_verdict_frees_the_slot_once() {
    for verdict in [Verdict::Settle, Verdict::HandBack, Verdict::Abandon] {
        let mut bench = Bench::single(1);
        bench.job(1);
        bench.finish(1, verdict);
        let snapshot = bench.engine.snapshot();
        assert_eq!((snapshot.running, snapshot.promised), (0, 1), "{verdict:?}");
        bench.finish(1, verdict);
        let snapshot = bench.engine.snapshot();
        assert_eq!(
            (snapshot.running, snapshot.promised),
            (0, 1),
            "{verdict:?}, told twice"
        );
        assert_eq!(snapshot.counters.unknown_finishes, 1);
    }
}

#[test]
fn job_whose_ack_is_unconfirmed_is_acked_again_not_run_again() {
    let mut bench = Bench::single(1);
    bench.job(1);
    bench.finish(1, Verdict::Settle);
    assert_eq!(bench.job(1), [Command::AckAgain { seq: Seq(1) }]);
    assert_eq!(
        bench.engine.snapshot().promised,
        1,
        "the slot it was promised is free again"
    );
}

#[test]
fn job_that_is_delivered_again_while_it_runs_is_not_started_again() {
    let mut bench = Bench::single(2);
    bench.job_of(0, 1, 0);
    assert_eq!(bench.job_of(0, 1, 0), []);
    let snapshot = bench.engine.snapshot();
    assert_eq!((snapshot.running, snapshot.promised), (1, 1));
}

#[test]
fn job_that_is_settled_is_run_when_it_comes_again() {
    let mut bench = Bench::single(1);
    bench.job(1);
    bench.finish(1, Verdict::Settle);
    bench.event(Event::Settled { seq: Seq(1) });
    assert_eq!(bench.job(1), [start(1)]);
}

#[test]
fn unconfirmed_acks_are_sent_again_together_until_confirmed() {
    let mut bench = Bench::single(2);
    bench.job_of(0, 1, 0);
    bench.job_of(0, 2, 0);
    bench.finish(1, Verdict::Settle);
    bench.finish(2, Verdict::Settle);
    let again = Command::Confirm {
        seqs: vec![Seq(1), Seq(2)],
    };
    assert_eq!(bench.pass(2_000), [again]);
    bench.event(Event::Settled { seq: Seq(1) });
    assert_eq!(bench.pass(2_000), [Command::Confirm { seqs: vec![Seq(2)] }]);
    bench.event(Event::Settled { seq: Seq(2) });
    assert_eq!(bench.pass(3_000), []);
}

#[test]
fn a_job_that_is_handed_back_is_settled_like_any_other() {
    let mut bench = Bench::single(1);
    bench.job(1);
    bench.finish(1, Verdict::HandBack);
    assert_eq!(bench.pass(2_000), [Command::Confirm { seqs: vec![Seq(1)] }]);
    assert_eq!(bench.job(1), [Command::AckAgain { seq: Seq(1) }]);
}

#[test]
fn settling_is_bounded_and_pulls_wait_for_it() {
    let mut bench = Bench::new(Config {
        settling_max: 2,
        ..config(2, &["mail"])
    });
    bench.turn();
    bench.job_of(0, 1, 5);
    bench.job_of(0, 2, 5);
    bench.finish(1, Verdict::Settle);
    bench.event(Event::Drain);
    let mut bench = Bench::new(Config {
        settling_max: 2,
        ..config(2, &["mail"])
    });
    bench.turn();
    bench.job_of(0, 1, 5);
    bench.job_of(0, 2, 5);
    bench.finish(1, Verdict::Settle);
    assert_eq!(bench.sent.len(), 2);
    bench.finish(2, Verdict::Settle);
    assert_eq!(
        bench.sent.len(),
        2,
        "two are being settled: no more are taken"
    );
    bench.event(Event::Settled { seq: Seq(1) });
    assert_eq!(bench.pulls_since(2), [(0, 1)]);
}

#[test]
fn a_cancelled_job_is_told_once_and_keeps_its_slot_until_it_ends() {
    let mut bench = Bench::single(1);
    bench.job(1);
    let cancel = Command::CancelHandler {
        seq: Seq(1),
        reason: CancelReason::Requested,
    };
    assert_eq!(bench.event(Event::Cancel { seq: Seq(1) }), [cancel]);
    assert_eq!(bench.event(Event::Cancel { seq: Seq(1) }), []);
    assert_eq!(bench.engine.snapshot().running, 1);
    assert_eq!(bench.finish(1, Verdict::Settle), [settle(1)]);
    assert_eq!(bench.engine.snapshot().promised, 1);
}

#[test]
fn a_handler_that_ignores_its_cancellation_is_reported_once_and_keeps_its_slot() {
    let mut bench = Bench::single(1);
    bench.job(1);
    bench.event(Event::Cancel { seq: Seq(1) });
    let stuck = Command::ReportStuck { seq: Seq(1) };
    let reports = bench
        .pass(60_000)
        .into_iter()
        .filter(|command| *command == stuck)
        .count();
    assert_eq!(reports, 1);
    let snapshot = bench.engine.snapshot();
    assert_eq!((snapshot.running, snapshot.stuck), (1, 1));
    bench.finish(1, Verdict::Abandon);
    assert_eq!(bench.engine.snapshot().stuck, 0);
}

#[test]
fn a_stuck_handler_is_replaced_by_a_slot_that_is_not_freed_twice() {
    let mut bench = Bench::new(Config {
        replace_stuck: true,
        ..config(1, &["mail"])
    });
    bench.turn();
    bench.job(1);
    bench.event(Event::Cancel { seq: Seq(1) });
    bench.pass(5_000);
    assert_eq!(bench.job(2), [start(2)]);
    assert_eq!(bench.job_of(1, 1, 0), [], "its handler still runs");
    bench.finish(1, Verdict::Abandon);
    assert_eq!(bench.engine.snapshot().running, 1);
    bench.finish(2, Verdict::Settle);
    let snapshot = bench.engine.snapshot();
    assert_eq!((snapshot.running, snapshot.promised), (0, 1));
}
