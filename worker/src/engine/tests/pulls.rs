//! Pulls: when they are sent, and what every way of ending does to them.

use super::*;

#[test]
fn an_idle_worker_asks_for_all_its_slots_with_one_long_pull() {
    let bench = Bench::single(8);
    assert_eq!(bench.pulls_since(0), [(0, 8)]);
    assert_eq!(bench.sent[0].expires, Millis(30_000));
}

#[test]
fn slots_freed_in_one_turn_share_one_pull() {
    let mut bench = Bench::single(4);
    for seq in 1..=4 {
        bench.job_of(0, seq, 9);
    }
    for seq in 1..=3 {
        let event = Event::Finished {
            seq: Seq(seq),
            verdict: Verdict::Settle,
        };
        bench.engine.handle(bench.now, event);
    }
    assert_eq!(bench.turn(), [settle(1), settle(2), settle(3)]);
    assert_eq!(bench.pulls_since(1), [(0, 3)]);
}

#[test]
fn each_release_pulls_again_at_once() {
    let mut bench = Bench::single(1);
    for seq in 1..=5 {
        assert_eq!(bench.job(seq), [start(seq)]);
        bench.finish(seq, Verdict::Settle);
        assert_eq!(bench.sent.len() as u64, seq + 1);
    }
}

#[test]
fn an_expired_pull_is_replaced_at_once() {
    let mut bench = Bench::single(3);
    bench.pass_alive(30_000, 0);
    bench.status_of(0, Status::Expired { unfilled: Some(3) });
    assert_eq!(bench.pulls_since(1), [(0, 3)]);
}

#[test]
fn a_pull_that_got_some_jobs_gives_back_the_rest_when_it_expires() {
    let mut bench = Bench::single(3);
    bench.job(1);
    bench.pass_alive(30_000, 0);
    bench.status_of(0, Status::Expired { unfilled: Some(2) });
    assert_eq!(bench.pulls_since(1), [(0, 2)]);
}

#[test]
fn late_message_without_a_slot_goes_back_at_once() {
    let mut bench = Bench::single(1);
    bench.job(1);
    assert_eq!(bench.job_of(0, 2, 0), [refuse(2)]);
    assert_eq!(bench.engine.snapshot().counters.refused, 1);
}

#[test]
fn late_message_of_an_old_epoch_takes_a_slot_if_one_is_free() {
    let mut bench = Bench::new(config(2, &["mail", "bulk"]));
    bench.turn();
    let old = bench.sent[0].id;
    bench.event(Event::EpochChanged { epoch: Epoch(1) });
    // Both slots are promised anew: nothing is free for the late one.
    assert_eq!(bench.event(delivered(old, Epoch(0), 7, 0)), [refuse(7)]);
    bench.event(Event::QueuePaused { queue: QueueIx(0) });
    bench.event(Event::QueuePaused { queue: QueueIx(1) });
    bench.pass(9_000);
    assert_eq!(bench.event(delivered(old, Epoch(0), 8, 0)), [start(8)]);
}

#[test]
fn a_silent_pull_is_written_off_after_missed_heartbeats_and_sent_again() {
    let mut bench = Bench::single(2);
    bench.pass(12_499);
    assert_eq!(bench.sent.len(), 1);
    let commands = bench.pass(1);
    assert!(
        commands.contains(&Command::NewEpoch),
        "the whole epoch is silent: {commands:?}"
    );
    bench.event(Event::EpochChanged { epoch: Epoch(1) });
    assert_eq!(bench.pulls_since(1), [(0, 2)]);
}

#[test]
fn a_new_epoch_that_never_comes_does_not_stop_the_pulls() {
    let mut bench = Bench::single(2);
    bench.pass(15_000);
    assert_eq!(bench.pulls_since(1), [(0, 2)]);
}

#[test]
fn heartbeats_keep_a_pull_alive_until_its_deadline() {
    let mut bench = Bench::single(2);
    for _ in 0..6 {
        bench.pass(5_000);
        assert_eq!(bench.sent.len(), 1);
        bench.status_of(0, Status::Heartbeat);
    }
    bench.pass(2_000);
    assert_eq!(
        bench.pulls_since(1),
        [(0, 2)],
        "30 s and the grace are over"
    );
}

#[test]
fn a_lost_pull_is_written_off_exactly_while_others_keep_the_queue_busy() {
    let mut bench = Bench::single(3);
    bench.job(1); // The first pull has two left, which never come.
    for seq in 2..1_000 {
        bench.pass(40);
        bench.finish(seq - 1, Verdict::Settle);
        bench.event(Event::Settled { seq: Seq(seq - 1) });
        bench.job(seq);
        if bench.engine.snapshot().queues[0].open_pulls == 0 {
            panic!("only the lost pull should hold slots at {}", bench.now);
        }
        if bench.now >= Millis(31_000) {
            break;
        }
    }
    let pulls = bench.sent.len();
    bench.pass(1_100);
    assert_eq!(
        bench.pulls_since(pulls),
        [(0, 2)],
        "exactly what was lost is asked for again"
    );
}

#[test]
fn a_pull_that_never_started_is_retried_after_a_growing_wait() {
    let mut bench = Bench::single(1);
    let mut times = Vec::new();
    for _ in 0..4 {
        let last = bench.sent.len() - 1;
        bench.status_of(last, Status::NeverStarted(NeverStarted::NoResponders));
        let begin = bench.now;
        while bench.sent.len() == last + 1 {
            bench.pass(10);
        }
        times.push(bench.now.since(begin).0);
    }
    assert_eq!(times, [50, 100, 200, 400]);
}

#[test]
fn a_refused_pull_does_not_spin() {
    let mut bench = Bench::single(1);
    for _ in 0..20 {
        let last = bench.sent.len() - 1;
        bench.status_of(last, Status::Refused);
        bench.pass(5_000);
    }
    assert!(
        bench.sent.len() <= 21 + 5,
        "{} pulls in 100 s",
        bench.sent.len()
    );
}

#[test]
fn a_server_that_ends_every_pull_at_once_does_not_make_the_worker_spin() {
    let mut bench = Bench::single(1);
    for _ in 0..100 {
        let last = bench.sent.len() - 1;
        bench.status_of(last, Status::Expired { unfilled: None });
        bench.pass(1);
    }
    assert!(bench.sent.len() < 5, "{} pulls in 100 ms", bench.sent.len());
}

#[test]
fn an_unknown_status_ends_the_pull_it_names() {
    let mut bench = Bench::single(2);
    bench.status_of(0, Status::Unknown);
    assert_eq!(bench.engine.snapshot().promised, 0);
    bench.pass(50);
    assert_eq!(bench.pulls_since(1), [(0, 2)]);
}

#[test]
fn a_leader_change_ends_the_pulls_sent_before_it_and_none_sent_after() {
    let mut bench = Bench::single(3);
    bench.job_of(0, 1, 0);
    bench.finish(1, Verdict::Settle); // A second pull, of one slot, beside the first.
    bench.job_of(0, 2, 0);
    bench.finish(2, Verdict::Settle); // A third.
    assert_eq!(bench.pulls_since(0), [(0, 3), (0, 1), (0, 1)]);
    bench.status_of(1, Status::Terminal);
    assert_eq!(
        bench.engine.snapshot().promised,
        1,
        "only the third is left"
    );
}

#[test]
fn with_all_lanes_taken_the_next_pull_waits_for_one_to_end() {
    let mut bench = Bench::new(Config {
        pulls_max: 1,
        ..config(2, &["mail"])
    });
    bench.turn();
    bench.job(1);
    bench.finish(1, Verdict::Settle);
    assert_eq!(bench.sent.len(), 1, "the one pull still waits for a job");
    bench.job(2);
    assert_eq!(bench.pulls_since(1), [(0, 1)]);
}

#[test]
fn a_new_epoch_voids_every_pull_and_counts_nothing_twice() {
    let mut bench = Bench::single(5);
    bench.job(1);
    bench.event(Event::EpochChanged { epoch: Epoch(1) });
    assert_eq!(bench.pulls_since(1), [(0, 4)]);
    bench.event(Event::PullStatus {
        epoch: Epoch(0),
        pull: bench.sent[0].id,
        status: Status::Expired { unfilled: Some(4) },
    });
    assert_eq!(bench.engine.snapshot().promised, 4);
    bench.event(Event::EpochChanged { epoch: Epoch(1) });
    assert_eq!(bench.sent.len(), 2, "the same epoch is no change");
}

#[test]
fn while_disconnected_nothing_is_asked_and_a_timer_lifts_that() {
    let mut bench = Bench::single(1);
    bench.status_of(0, Status::Terminal);
    bench.event(Event::Disconnected);
    bench.pass(29_999);
    assert_eq!(bench.sent.len(), 1);
    bench.pass(1);
    assert_eq!(bench.sent.len(), 2);
}

#[test]
fn pulls_that_the_server_does_not_know_are_sent_again() {
    let mut bench = Bench::single(4);
    let backlog = Backlog {
        pending: 3,
        ..Backlog::default()
    };
    bench.event(Event::BacklogSeen {
        queue: QueueIx(0),
        backlog,
    });
    assert_eq!(bench.sent.len(), 1, "once may be a crossing of messages");
    bench.event(Event::BacklogSeen {
        queue: QueueIx(0),
        backlog,
    });
    assert_eq!(bench.pulls_since(1), [(0, 4)]);
}

#[test]
fn a_new_connection_is_tried_at_once_whatever_failed_on_the_old_one() {
    let mut bench = Bench::single(1);
    for _ in 0..6 {
        let last = bench.sent.len() - 1;
        bench.status_of(last, Status::NeverStarted(NeverStarted::NoResponders));
        bench.pass(2_000);
    }
    let last = bench.sent.len() - 1;
    bench.status_of(last, Status::NeverStarted(NeverStarted::NoResponders));
    let sent = bench.sent.len();
    bench.event(Event::EpochChanged { epoch: Epoch(1) });
    assert_eq!(bench.sent.len(), sent + 1);
}
