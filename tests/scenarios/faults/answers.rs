//! What a server may say to a pull, known or not, in any order, or nothing at all: no answer leaves a
//! slot promised for ever, and none is repeated in a hot loop.
//!
//! The server is a real one; single answers are forged or lost on the way.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use repull_tests::{DEADLINE, Message, Toward, Verdict, World, outcome};

use super::{PULLS, assert_all_free, assert_watchdog_rested, sleeper, wait_promised};

/// A world in which the first pulls are answered by these statuses instead of the server, in turn.
async fn answered_with(statuses: &'static [(u16, &'static str)]) -> World {
    let world = World::builder().intercepted().start().await;
    let next = AtomicUsize::new(0);
    world.interceptor().judge(move |toward, message| {
        if toward != Toward::Server || message.subject != PULLS {
            return Verdict::Pass;
        }
        match statuses.get(next.fetch_add(1, Ordering::Relaxed)) {
            Some((code, text)) => Verdict::status(message, *code, text),
            None => Verdict::Pass,
        }
    });
    world
}

/// Starts a worker that gets these answers, and waits until its job is done nevertheless.
async fn survives(statuses: &'static [(u16, &'static str)]) {
    let world = answered_with(statuses).await;
    let enqueued = sleeper(&world, 0).await;
    let started = Instant::now();
    let mut worker = world.worker().slots(2).start().await;

    let outcome = outcome(world.client(), &enqueued, DEADLINE).await;
    assert_eq!(outcome.attempt, 1);

    let took = started.elapsed();
    let pulls = world.interceptor().seen(Toward::Server, PULLS).len();
    // The first wait is 50 ms and each is twice the one before, so three pulls take 150 ms.
    let least = Duration::from_millis(50 * ((1 << statuses.len().min(5)) - 1));
    assert!(took >= least, "{pulls} pulls within {took:?}");
    assert_all_free(&world, &mut worker).await;
    assert_watchdog_rested(&mut worker).await;
}

/// D-6. A status that nobody has seen before ends its pull, whatever it means.
#[tokio::test]
async fn an_unknown_status_ends_its_pull_and_another_is_sent() {
    survives(&[(499, "Never Heard Of"), (409, "Something New"), (299, "")]).await;
}

/// E-1, D-5. Every 409 of the protocol, one after the other.
#[tokio::test]
async fn the_conflicts_of_the_protocol_in_one_row_stop_nothing() {
    survives(&[
        (409, "Leadership Change"),
        (409, "Consumer Deleted"),
        (409, "Exceeded MaxWaiting"),
        (409, "Server Shutdown"),
        (409, "Leadership Change"),
    ])
    .await;
}

/// D-1, D-2, D-4, D-5. Errors in a row end neither the loop nor the process.
#[tokio::test]
async fn errors_in_a_row_end_nothing() {
    survives(&[
        (503, ""),
        (408, "Requests Pending"),
        (404, "No Messages"),
        (423, "Nats-Pin-Id mismatch"),
        (400, "Bad Request"),
        (500, "Internal"),
    ])
    .await;
}

/// E-8, E-7. The server's word that a pull is over, while it still delivers for it: what comes late is
/// run where a slot is free, handed back where none is, and lost in no case.
#[tokio::test]
async fn jobs_that_come_for_a_pull_that_is_over_are_not_lost() {
    let world = World::builder().intercepted().start().await;
    let mut worker = world.worker().slots(1).start().await;
    let pulls = world
        .interceptor()
        .wait_for(Toward::Server, PULLS, 1, DEADLINE)
        .await;
    let inbox = pulls[0].reply.clone().expect("a pull's inbox");
    let over =
        Message::status(&inbox, 408, "Request Timeout").with_header("Nats-Pending-Messages", "1");
    assert_eq!(world.interceptor().deliver(&over), 1);
    // Now two pulls for one slot wait at the server.
    world
        .interceptor()
        .wait_for(Toward::Server, PULLS, 2, DEADLINE)
        .await;

    let first = sleeper(&world, 300).await;
    let second = sleeper(&world, 1).await;
    for enqueued in [first, second] {
        let outcome = outcome(world.client(), &enqueued, DEADLINE).await;
        assert_eq!(outcome.attempt, 1, "a job handed back has used no attempt");
    }

    let handed_back = worker.metrics().await;
    assert_eq!(handed_back.value("repull_worker_handed_back_total"), 1.0);
    assert_all_free(&world, &mut worker).await;
}

/// A-7, C-3, E-6. Silence after a pull, twice, while another worker's pull waits and the consumer's
/// numbers look well: only our own timer tells.
#[tokio::test]
async fn silence_after_a_pull_is_noticed_by_the_workers_own_timer() {
    let world = World::builder().intercepted().start().await;
    let url = world.server_url();
    let _other = world.worker().url(&url).slots(1).start().await;
    let asked = AtomicUsize::new(0);
    world.interceptor().judge(move |toward, message| {
        let silent = toward == Toward::Server
            && message.subject == PULLS
            && asked.fetch_add(1, Ordering::Relaxed) < 2;
        if silent {
            Verdict::Swallow
        } else {
            Verdict::Pass
        }
    });
    let mut worker = world.worker().slots(1).start().await;

    world
        .interceptor()
        .wait_for(Toward::Server, PULLS, 3, DEADLINE)
        .await;

    wait_promised(&mut worker, 1).await;
    assert_all_free(&world, &mut worker).await;
}

/// A job that comes after an idle heartbeat is taken at once: the client library's own batches
/// are never woken again.
#[tokio::test]
async fn a_job_that_follows_a_heartbeat_starts_at_once() {
    let world = World::builder().intercepted().start().await;
    let mut worker = world.worker().slots(1).start().await;
    let pulls = world
        .interceptor()
        .wait_for(Toward::Server, PULLS, 1, DEADLINE)
        .await;
    let inbox = pulls[0].reply.clone().expect("a pull's inbox");
    for _ in 0..3 {
        let heartbeat = Message::status(&inbox, 100, "Idle Heartbeat");
        assert_eq!(world.interceptor().deliver(&heartbeat), 1);
    }
    worker
        .wait_for_metric(
            "repull_worker_pull_statuses_total",
            "the heartbeats arrived",
            |n| n >= 3.0,
        )
        .await;

    let started = Instant::now();
    let enqueued = sleeper(&world, 0).await;
    outcome(world.client(), &enqueued, DEADLINE).await;

    let took = started.elapsed();
    assert!(took < Duration::from_secs(1), "it took {took:?}");
    // The outcome may be seen before the next pull is.
    let pulls = world
        .interceptor()
        .wait_for(Toward::Server, PULLS, 2, DEADLINE)
        .await;
    assert_eq!(pulls.len(), 2, "one pull for this job, one for the next");
}
