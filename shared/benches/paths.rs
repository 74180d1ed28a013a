//! The pure paths that every job takes, each by itself and as often as told: for tools that count
//! instructions, which are the same on a busy machine and on a quiet one.
//!
//! `paths <path> <times>` takes one of them; without arguments each is taken once.

use std::collections::VecDeque;
use std::hint::black_box;

use async_nats::HeaderMap;
use bytes::Bytes;
use repull::id::{JobId, Namespace};
use repull::job::Job;
use repull::trigger::Trigger;
use repull::wire::{self, Address, EventKind, JobEvent, Place};
use repull_worker::engine::{
    Command, Config, Engine, Epoch, Event, Lane, Millis, QueueConfig, QueueIx, Seq, Verdict,
};

/// Jobs that arrive in one turn of the engine.
const TURN: u64 = 16;

/// A path's name, and what takes it so many times.
type Path = (&'static str, fn(u64));

const PATHS: [Path; 6] = [
    ("submit", submit),
    ("subject", subject),
    ("read", read),
    ("outcome", outcome),
    ("engine", engine),
    ("next", next),
];

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let (path, times) = (args.next(), args.next());
    let times = times.and_then(|times| times.parse().ok()).unwrap_or(1);
    let mut taken = 0;
    for (name, run) in PATHS {
        if path.as_deref().is_none_or(|path| path == name) {
            run(times);
            taken += 1;
        }
    }
    let names = PATHS.map(|(name, _)| name);
    assert!(taken > 0, "no such path, expected one of {names:?}");
}

fn job() -> Job {
    let mut job = Job::json("mail.send", &serde_json::json!({"to": "x"})).expect("a job");
    job.id = "0199b3a0-8f3c-7000-8000-000000000001"
        .parse()
        .expect("an id");
    job.enqueued_at = Some("2026-07-01T10:00:00.123456Z".parse().expect("a time"));
    job.nonce = Some("0199b3a08f3c70008000000000000001".to_owned());
    job
}

fn address(job: &Job) -> Address {
    Address {
        lane: job.lane(),
        task: job.task.clone(),
        id: job.id.clone(),
    }
}

/// What a submit writes: an id, the subject and the headers.
fn submit(times: u64) {
    let (namespace, mut job) = (Namespace::default(), job());
    for _ in 0..times {
        job.id = JobId::generate();
        black_box(address(&job).subject(&namespace, Place::Jobs));
        black_box(wire::encode_headers(&job));
    }
}

/// Reading a job's subject.
fn subject(times: u64) {
    let namespace = Namespace::default();
    let subject = address(&job()).subject(&namespace, Place::Jobs);
    for _ in 0..times {
        let read = Address::parse(&namespace, Place::Jobs, black_box(&subject));
        black_box(read.expect("an address"));
    }
}

/// Reading a delivered message as a job.
fn read(times: u64) {
    let job = job();
    let (address, headers): (Address, HeaderMap) = (address(&job), wire::encode_headers(&job));
    for _ in 0..times {
        let read = wire::decode_at(address.clone(), Some(black_box(&headers)), Bytes::new());
        black_box(read.expect("a job"));
    }
}

/// Writing what became of a job.
fn outcome(times: u64) {
    let at = "2026-07-01T10:00:00.123456Z".parse().expect("a time");
    let mut event = JobEvent::new(EventKind::Succeeded, 1, "worker-1", at);
    event.started_at = Some(at);
    event.nonce = job().nonce;
    event.sequence = Some(1_000_000);
    for _ in 0..times {
        black_box(black_box(&event).encode_headers());
    }
}

/// A job's way through the engine of a worker with 256 slots: delivered, run, settled, pulled anew.
fn engine(times: u64) {
    let queue = QueueConfig {
        name: "mail".to_owned(),
        weight: 1,
    };
    let mut engine = Engine::new(Config::new(256, vec![queue])).expect("an engine");
    let mut open: VecDeque<(Lane, u32)> = VecDeque::new();
    let (mut seq, mut now) = (0, Millis(0));
    turn(&mut engine, &mut open);
    for _ in 0..times.div_ceil(TURN) {
        now = now + Millis(1);
        let first = seq + 1;
        for _ in 0..TURN {
            seq += 1;
            let (lane, left) = open.front_mut().expect("an open pull");
            let delivered = Event::Delivered {
                epoch: Epoch(0),
                lane: *lane,
                queue: QueueIx(0),
                seq: Seq(seq),
                deliveries: 1,
                pending: 100_000,
            };
            *left -= 1;
            if *left == 0 {
                open.pop_front();
            }
            engine.handle(now, delivered);
        }
        turn(&mut engine, &mut open);
        for seq in (first..=seq).map(Seq) {
            let verdict = Verdict::Settle;
            engine.handle(now, Event::Finished { seq, verdict });
        }
        turn(&mut engine, &mut open);
        for seq in (first..=seq).map(Seq) {
            engine.handle(now, Event::Settled { seq });
        }
        turn(&mut engine, &mut open);
    }
}

/// Takes the engine's commands, and notes its pulls.
fn turn(engine: &mut Engine, open: &mut VecDeque<(Lane, u32)>) {
    while let Some(command) = engine.next_command() {
        if let Command::Pull { lane, batch, .. } = black_box(command) {
            open.push_back((lane, batch));
        }
    }
}

/// The next fire of a crontab in a time zone.
fn next(times: u64) {
    let trigger = Trigger::cron("30 2 * * MON-FRI", "Europe/Berlin").expect("a trigger");
    let mut after = "2026-07-01T10:00:00Z".parse().expect("a time");
    for _ in 0..times {
        after = trigger.next(Some(after)).expect("another fire");
    }
    black_box(after);
}
