//! Leases: jobs that run are kept, jobs that are lost are not acked.

use super::*;

fn keep_alives(commands: &[Command]) -> Vec<(u64, Vec<u64>)> {
    let kept = commands.iter().filter_map(|command| match command {
        Command::KeepAlive { batch, seqs, .. } => {
            Some((*batch, seqs.iter().map(|seq| seq.0).collect()))
        }
        _ => None,
    });
    kept.collect()
}

#[test]
fn a_running_job_is_kept_by_confirmed_keep_alives_every_third_of_its_lease() {
    let mut bench = Bench::single(1);
    bench.job(1);
    let mut sent = 0;
    for _ in 0..120 {
        for (batch, _) in keep_alives(&bench.pass(1_000)) {
            sent += 1;
            bench.event(Event::Extended {
                queue: QueueIx(0),
                batch,
            });
        }
    }
    assert_eq!(sent, 24, "120 s of 5 s each");
    assert_eq!(bench.engine.snapshot().counters.leases_lost, 0);
    assert_eq!(bench.finish(1, Verdict::Settle), [settle(1)]);
}

#[test]
fn short_jobs_get_no_keep_alive() {
    let mut bench = Bench::single(1);
    let mut commands = Vec::new();
    for seq in 1..200 {
        commands.extend(bench.job(seq));
        commands.extend(bench.pass(100));
        commands.extend(bench.finish(seq, Verdict::Settle));
        bench.event(Event::Settled { seq: Seq(seq) });
    }
    assert_eq!(keep_alives(&commands), []);
}

#[test]
fn a_job_whose_lease_is_lost_is_cancelled_and_not_acked() {
    let mut bench = Bench::single(1);
    bench.job(1);
    let commands = bench.pass(15_000);
    assert_eq!(
        keep_alives(&commands).len(),
        5,
        "asked again and again: {commands:?}"
    );
    let cancel = Command::CancelHandler {
        seq: Seq(1),
        reason: CancelReason::LeaseLost,
    };
    assert!(commands.contains(&cancel));
    assert_eq!(
        bench.engine.snapshot().running,
        1,
        "the handler has not ended yet"
    );
    assert_eq!(bench.finish(1, Verdict::Settle), [forget(1)]);
}

#[test]
fn a_confirmation_counts_from_the_sending() {
    let mut bench = Bench::single(1);
    bench.job(1);
    bench.pass(5_000);
    bench.pass(6_000); // Confirmed 6 s late.
    bench.event(Event::Extended {
        queue: QueueIx(0),
        batch: 0,
    });
    bench.pass(8_999);
    assert_eq!(bench.engine.snapshot().counters.leases_lost, 0);
    bench.pass(1);
    assert_eq!(
        bench.engine.snapshot().counters.leases_lost,
        1,
        "5 s + 15 s"
    );
}

#[test]
fn a_confirmation_after_the_end_of_the_lease_changes_nothing() {
    let mut bench = Bench::single(1);
    bench.job(1);
    bench.pass(14_999);
    bench.now = Millis(15_000);
    bench.event(Event::Extended {
        queue: QueueIx(0),
        batch: 4,
    });
    assert_eq!(bench.finish(1, Verdict::Settle), [forget(1)]);
}

#[test]
fn a_handler_that_ends_after_its_lease_is_not_acked_even_without_a_tick() {
    let mut bench = Bench::single(1);
    bench.job(1);
    bench.now = Millis(15_000);
    let commands = bench.finish(1, Verdict::Settle);
    assert!(commands.contains(&forget(1)), "{commands:?}");
    assert_eq!(bench.engine.snapshot().counters.leases_lost, 1);
}

#[test]
fn a_lost_job_that_comes_back_to_us_is_handed_back_when_its_handler_ends() {
    let mut bench = Bench::single(2);
    bench.job_of(0, 1, 0);
    bench.pass(15_000);
    let last = bench.sent.len() - 1;
    assert_eq!(bench.job_of(last, 1, 0), []);
    assert_eq!(bench.finish(1, Verdict::Settle), [refuse(1)]);
}

#[test]
fn a_job_that_is_being_settled_is_kept_until_confirmed() {
    let mut bench = Bench::single(1);
    bench.job(1);
    bench.finish(1, Verdict::Settle);
    let kept = keep_alives(&bench.pass(5_000));
    assert_eq!(kept, [(0, vec![1])]);
}

#[test]
fn a_job_whose_ack_was_not_confirmed_within_its_lease_is_acked_only_if_it_comes_back() {
    let mut bench = Bench::single(1);
    bench.job(1);
    bench.finish(1, Verdict::Settle);
    bench.pass(15_000);
    assert_eq!(bench.engine.snapshot().settling, 0);
    let commands = bench.pass(30_000);
    let confirms = commands
        .iter()
        .any(|command| matches!(command, Command::Confirm { .. }));
    assert!(!confirms, "it may be somebody else's: {commands:?}");
    assert_eq!(bench.job(1), [Command::AckAgain { seq: Seq(1) }]);
    assert_eq!(bench.engine.snapshot().settling, 1);
}

#[test]
fn a_job_whose_ack_was_never_confirmed_is_forgotten_in_the_end() {
    let mut bench = Bench::single(1);
    bench.job(1);
    bench.finish(1, Verdict::Settle);
    assert!(bench.pass(75_001).contains(&forget(1)));
    assert_eq!(bench.job(1), [start(1)]);
}

#[test]
fn a_job_that_was_done_and_waited_too_long_in_our_buffers_is_not_acked() {
    let mut bench = Bench::single(2);
    bench.job_of(0, 1, 0);
    bench.finish(1, Verdict::Settle);
    bench.now = Millis(20_000);
    let commands = bench.job_of(0, 1, 0);
    assert!(
        !commands.contains(&Command::AckAgain { seq: Seq(1) }),
        "{commands:?}"
    );
}

#[test]
fn after_a_reconnect_everything_is_said_again_at_once() {
    let mut bench = Bench::single(2);
    bench.job_of(0, 1, 0);
    bench.job_of(0, 2, 0);
    bench.finish(2, Verdict::Settle);
    bench.pass(6_000);
    let commands = bench.event(Event::EpochChanged { epoch: Epoch(1) });
    assert_eq!(keep_alives(&commands).len(), 1, "{commands:?}");
    assert!(
        commands.contains(&Command::Confirm { seqs: vec![Seq(2)] }),
        "{commands:?}"
    );
}

#[test]
fn a_job_that_waited_longer_than_its_lease_in_our_buffers_is_not_started() {
    let mut bench = Bench::single(1);
    bench.now = Millis(20_000); // The process slept.
    let commands = bench.job(1);
    assert!(commands.contains(&forget(1)), "{commands:?}");
    assert!(!commands.contains(&start(1)));
    assert_eq!(bench.engine.snapshot().counters.stale_deliveries, 1);
}

#[test]
fn a_job_that_waited_a_while_in_our_buffers_is_kept_from_then_on() {
    let mut bench = Bench::single(1);
    bench.now = Millis(11_000);
    let commands = bench.job(1);
    assert_eq!(
        keep_alives(&commands).len(),
        1,
        "4 s of its lease are left: {commands:?}"
    );
}

#[test]
fn after_a_sleep_what_waited_is_old_even_if_a_turn_came_first() {
    let mut bench = Bench::single(2);
    bench.now = Millis(20_000);
    let commands = bench.event(Event::Tick);
    let asked = commands
        .iter()
        .filter(|command| **command == Command::NewEpoch);
    assert_eq!(asked.count(), 1, "{commands:?}");
    assert_eq!(bench.job_of(0, 1, 0), [forget(1)]);
    bench.event(Event::EpochChanged { epoch: Epoch(1) });
    assert_eq!(
        bench.job(2),
        [start(2)],
        "what comes by the new inbox is fresh"
    );
}

#[test]
fn a_new_inbox_that_never_comes_does_not_make_every_job_old() {
    let mut bench = Bench::single(1);
    bench.now = Millis(20_000);
    bench.event(Event::Tick);
    bench.pass(15_000);
    assert_eq!(bench.job(1), [start(1)]);
}
