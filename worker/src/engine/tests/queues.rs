//! Several queues over one pool of slots.

use super::*;
use std::collections::BTreeMap;

/// A server without latency: queues with jobs, and the pulls that wait at them.
struct Server {
    bench: Bench,
    jobs: Vec<u64>,
    /// The most jobs of each queue that may run at once, everywhere.
    limits: Vec<usize>,
    /// Index into `bench.sent`, jobs still wanted, end.
    waiting: Vec<(usize, u32, Millis)>,
    seen: usize,
    seq: u64,
    started: Vec<u16>,
    running: BTreeMap<u64, u16>,
}

impl Server {
    fn new(config: Config) -> Self {
        let jobs = vec![0; config.queues.len()];
        let limits = vec![usize::MAX; jobs.len()];
        let mut bench = Bench::new(config);
        bench.turn();
        let (waiting, started) = (Vec::new(), Vec::new());
        let running = BTreeMap::new();
        Self {
            bench,
            jobs,
            limits,
            waiting,
            seen: 0,
            seq: 0,
            started,
            running,
        }
    }

    /// Serves all pulls that can be served at this moment.
    fn serve(&mut self) {
        loop {
            for index in self.seen..self.bench.sent.len() {
                let sent = self.bench.sent[index];
                let end = self.bench.now + sent.expires;
                self.waiting.push((index, sent.batch, end));
            }
            self.seen = self.bench.sent.len();
            let next = self.waiting.iter().position(|(index, _, end)| {
                let queue = self.bench.sent[*index].id.queue();
                self.can_deliver(queue) || self.bench.now >= *end
            });
            let Some(next) = next else { return };
            self.serve_one(next);
        }
    }

    fn can_deliver(&self, queue: QueueIx) -> bool {
        let running = self.running.values().filter(|of| **of == queue.0);
        self.jobs[queue.at()] > 0 && running.count() < self.limits[queue.at()]
    }

    fn serve_one(&mut self, next: usize) {
        let (index, left, _) = self.waiting[next];
        let queue = self.bench.sent[index].id.queue();
        if !self.can_deliver(queue) {
            self.waiting.remove(next);
            self.bench.status_of(
                index,
                Status::Expired {
                    unfilled: Some(left),
                },
            );
            return;
        }
        self.jobs[queue.at()] -= 1;
        self.waiting[next].1 -= 1;
        if left == 1 {
            self.waiting.remove(next);
        }
        self.seq += 1;
        let commands = self.bench.job_of(index, self.seq, self.jobs[queue.at()]);
        assert_eq!(commands, [start(self.seq)]);
        self.started.push(queue.0);
        self.running.insert(self.seq, queue.0);
    }

    /// Ends the oldest running job of a queue.
    fn finish(&mut self, queue: u16) {
        let seq = *self
            .running
            .iter()
            .find(|(_, of)| **of == queue)
            .expect("a running job")
            .0;
        self.running.remove(&seq);
        self.bench.finish(seq, Verdict::Settle);
        self.bench.event(Event::Settled { seq: Seq(seq) });
        self.serve();
    }

    /// Ends the oldest running job.
    fn finish_any(&mut self) {
        let queue = *self.running.values().next().expect("a running job");
        self.finish(queue);
    }

    /// Time passes in steps of a millisecond, for the server too.
    fn pass(&mut self, span: u64) {
        for _ in 0..span {
            self.bench.pass(1);
            self.serve();
        }
    }

    fn started(&self, queue: u16) -> usize {
        self.started
            .iter()
            .filter(|started| **started == queue)
            .count()
    }
}

fn weighted(slots: u32, weights: &[u32]) -> Config {
    let queue = |weight: &u32| QueueConfig {
        name: format!("w{weight}"),
        weight: *weight,
    };
    let queues = weights.iter().map(queue).collect();
    Config {
        order: Order::Weighted,
        ..Config::new(slots, queues)
    }
}

#[test]
fn idle_queues_are_watched_by_small_pulls_and_the_rest_stays_in_reserve() {
    let server = Server::new(config(32, &["a", "b"]));
    assert_eq!(server.bench.pulls_since(0), [(0, 4), (1, 4)]);
    assert_eq!(server.bench.engine.snapshot().promised, 8);
}

#[test]
fn a_queue_that_shows_a_backlog_gets_all_free_slots_at_once() {
    let mut server = Server::new(config(32, &["a", "b"]));
    server.jobs[0] = 1_000;
    server.serve();
    assert_eq!(
        server.started(0),
        28,
        "all but the sentinel of the other queue"
    );
    server.pass(3_001);
    assert_eq!(server.started(0), 32, "and those as well when that ends");
}

#[test]
fn no_more_is_promised_to_a_queue_than_it_has_jobs() {
    let mut server = Server::new(config(32, &["a", "b"]));
    server.jobs[0] = 6;
    server.serve();
    assert_eq!(server.started(0), 6);
    assert!(
        server.bench.engine.snapshot().promised <= 8,
        "only sentinels are open"
    );
}

#[test]
fn in_strict_order_the_first_queue_takes_every_slot_that_comes_free() {
    let mut server = Server::new(config(4, &["high", "low"]));
    server.jobs = vec![100, 100];
    server.serve();
    server.pass(3_001);
    let before = server.started(1);
    for _ in 0..50 {
        server.finish_any();
    }
    assert_eq!(
        server.started(1),
        before,
        "nothing of the second while the first has jobs"
    );
}

#[test]
fn in_strict_order_the_second_queue_gets_its_turn_when_the_first_is_empty() {
    let mut server = Server::new(config(4, &["high", "low"]));
    server.jobs = vec![10, 10];
    server.serve();
    for _ in 0..20 {
        if server.running.is_empty() {
            server.pass(300);
        }
        server.finish_any();
    }
    assert_eq!((server.started(0), server.started(1)), (10, 10));
}

#[test]
fn slots_are_dealt_by_weight() {
    let mut server = Server::new(weighted(10, &[6, 3, 1]));
    server.jobs = vec![100_000; 3];
    server.serve();
    server.pass(4_000);
    server.started.clear();
    for _ in 0..1_000 {
        server.finish_any();
    }
    let shares = [server.started(0), server.started(1), server.started(2)];
    for (share, expected) in shares.into_iter().zip([600, 300, 100]) {
        assert!(share.abs_diff(expected) <= 20, "shares are {shares:?}");
    }
}

#[test]
fn among_many_queues_slots_are_dealt_in_portions() {
    let mut server = Server::new(weighted(160, &[1; 50]));
    let pulls = server.bench.sent.len();
    for queue in 0..50 {
        let backlog = Backlog {
            pending: 1_000,
            waiting: 1,
            ..Backlog::default()
        };
        let now = server.bench.now;
        let queue = QueueIx(queue);
        server
            .bench
            .engine
            .handle(now, Event::BacklogSeen { queue, backlog });
    }
    server.bench.turn();
    let batches: Vec<u32> = server
        .bench
        .pulls_since(pulls)
        .iter()
        .map(|pull| pull.1)
        .collect();
    let free = 160 - 50;
    assert_eq!(
        batches,
        vec![10; free / 10],
        "not a pull of few jobs for each of them"
    );
}

#[test]
fn portions_keep_to_the_weights() {
    let mut server = Server::new(weighted(160, &[6, 3, 1]));
    server.jobs = vec![100_000; 3];
    server.serve();
    server.pass(4_000);
    server.started.clear();
    for _ in 0..5_000 {
        server.finish_any();
    }
    let shares = [server.started(0), server.started(1), server.started(2)];
    for (share, expected) in shares.into_iter().zip([3_000, 1_500, 500]) {
        assert!(share.abs_diff(expected) <= 40, "shares are {shares:?}");
    }
}

#[test]
fn a_high_queue_that_gets_work_is_found_within_the_probe_interval() {
    let mut server = Server::new(config(2, &["high", "low"]));
    server.jobs[1] = 1_000_000;
    server.serve();
    for _ in 0..2_000 {
        server.finish_any();
        server.pass(1);
    }
    assert_eq!(server.started(0), 0);
    server.jobs[0] = 1;
    let begin = server.bench.now;
    while server.started(0) == 0 {
        server.finish_any();
        server.pass(1);
        assert!(
            server.bench.now.since(begin) <= Millis(27),
            "not found in time"
        );
    }
}

#[test]
fn an_empty_queue_takes_next_to_nothing_from_a_busy_one() {
    let mut server = Server::new(weighted(1, &[1, 1]));
    server.jobs[1] = 1_000_000;
    server.serve();
    server.pass(300);
    let (mut idle, begin) = (0, server.bench.now);
    for _ in 0..2_000 {
        match server.running.is_empty() {
            true => idle += 1,
            false => server.finish(1),
        }
        server.pass(1);
    }
    let passed = server.bench.now.since(begin).0;
    assert!(idle * 10 <= passed, "idle for {idle} of {passed} ms");
}

#[test]
fn a_single_slot_serves_three_queues() {
    let mut server = Server::new(config(1, &["a", "b", "c"]));
    server.serve();
    for queue in [2, 0, 1, 1, 2, 0] {
        server.jobs[queue] = 1;
        server.pass(2_000);
        assert!(
            server.running.values().any(|of| usize::from(*of) == queue),
            "queue {queue}"
        );
        server.finish(queue as u16);
    }
}

#[test]
fn a_paused_queue_is_not_asked_and_holds_no_slot() {
    let mut server = Server::new(config(2, &["a", "b"]));
    server.bench.event(Event::QueuePaused { queue: QueueIx(0) });
    server.pass(3_100);
    let pulls = server.bench.sent.len();
    server.jobs = vec![5, 5];
    server.serve();
    server.pass(3_100);
    assert_eq!((server.started(0), server.started(1)), (0, 2));
    assert!(
        server
            .bench
            .pulls_since(pulls)
            .iter()
            .all(|(queue, _)| *queue == 1)
    );
    server
        .bench
        .event(Event::QueueResumed { queue: QueueIx(0) });
    server.finish_any();
    server.pass(300);
    assert_eq!(server.started(0), 1);
}

#[test]
fn a_job_of_a_paused_queue_that_was_promised_a_slot_is_run() {
    let mut bench = Bench::single(1);
    bench.event(Event::QueuePaused { queue: QueueIx(0) });
    assert_eq!(bench.job(1), [start(1)]);
    bench.finish(1, Verdict::Settle);
    assert_eq!(bench.sent.len(), 1, "and that was its last");
}

#[test]
fn a_backlog_seen_by_asking_makes_a_queue_hot() {
    let mut server = Server::new(config(16, &["a", "b"]));
    let pulls = server.bench.sent.len();
    let backlog = Backlog {
        pending: 9,
        waiting: 1,
        ..Backlog::default()
    };
    server.bench.event(Event::BacklogSeen {
        queue: QueueIx(1),
        backlog,
    });
    assert_eq!(
        server.bench.pulls_since(pulls),
        [(1, 7)],
        "nine less the two of its sentinel"
    );
}

#[test]
fn a_queue_at_its_limit_leaves_the_slots_to_the_others() {
    for config in [config(8, &["limited", "other"]), weighted(8, &[9, 1])] {
        let mut server = Server::new(config);
        server.limits[0] = 2;
        server.jobs = vec![1_000, 1_000];
        server.serve();
        server.pass(4_000);
        let mut idle = 0;
        for _ in 0..400 {
            server.finish_any();
            server.pass(10);
            idle += u64::from(server.bench.engine.snapshot().slots) - server.running.len() as u64;
        }
        assert!(
            server.started(0) > 50 && server.started(1) > 200,
            "both get their turn: {} and {}",
            server.started(0),
            server.started(1)
        );
        assert!(
            idle <= 800,
            "of 3200 slots {idle} stood idle, expected a quarter"
        );
    }
}

#[test]
fn a_queue_whose_jobs_went_to_other_workers_is_idle_again() {
    let mut server = Server::new(config(8, &["a", "b"]));
    server.bench.job_of(0, 500, 100);
    assert_eq!(server.bench.engine.snapshot().queues[0].backlog, 100);
    server.pass(200);
    assert_eq!(server.bench.engine.snapshot().queues[0].backlog, 0);
    let pulls = server.bench.sent.len();
    server.pass(10_000);
    let sent = server.bench.sent.len() - pulls;
    assert!(
        sent <= 10,
        "{sent} pulls in 10 s, expected sentinels of 3 s on two queues"
    );
}
