//! Tests of the engine as a whole, by what it promises. This file holds the bench they share: an
//! engine, a clock that moves when told, and the commands of each turn.

mod drain;
mod jobs;
mod leases;
mod pulls;
mod queues;
mod watchdog;

use super::*;

/// A pull as the server would see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    id: PullId,
    batch: u32,
    expires: Millis,
}

struct Bench {
    engine: Engine,
    now: Millis,
    /// Every pull sent so far.
    sent: Vec<Sent>,
}

fn config(slots: u32, queues: &[&str]) -> Config {
    let queue = |name: &&str| QueueConfig {
        name: (*name).to_owned(),
        weight: 1,
    };
    Config::new(slots, queues.iter().map(queue).collect())
}

impl Bench {
    fn new(config: Config) -> Self {
        let engine = Engine::new(config).expect("a valid config");
        Self {
            engine,
            now: Millis(0),
            sent: Vec::new(),
        }
    }

    /// An engine with one queue, after its first turn.
    fn single(slots: u32) -> Self {
        let mut bench = Self::new(config(slots, &["mail"]));
        bench.turn();
        bench
    }

    /// Ends the turn: all commands but pulls, which are noted.
    fn turn(&mut self) -> Vec<Command> {
        let mut others = Vec::new();
        while let Some(command) = self.engine.next_command() {
            match command {
                Command::Pull {
                    pull,
                    batch,
                    expires,
                    ..
                } => {
                    self.sent.push(Sent {
                        id: pull,
                        batch,
                        expires,
                    });
                }
                other => others.push(other),
            }
        }
        others
    }

    /// Hands in one event and ends the turn.
    fn event(&mut self, event: Event) -> Vec<Command> {
        self.engine.handle(self.now, event);
        self.turn()
    }

    /// A job of the pull that was sent last.
    fn job(&mut self, seq: u64) -> Vec<Command> {
        self.job_of(self.sent.len() - 1, seq, 0)
    }

    /// A job of the pull with this index.
    fn job_of(&mut self, sent: usize, seq: u64, pending: u64) -> Vec<Command> {
        let id = self.sent[sent].id;
        self.event(delivered(id, self.engine.epoch, seq, pending))
    }

    fn status_of(&mut self, sent: usize, status: Status) -> Vec<Command> {
        let (pull, epoch) = (self.sent[sent].id, self.engine.epoch);
        self.event(Event::PullStatus {
            epoch,
            pull,
            status,
        })
    }

    fn finish(&mut self, seq: u64, verdict: Verdict) -> Vec<Command> {
        self.event(Event::Finished {
            seq: Seq(seq),
            verdict,
        })
    }

    /// Lets time pass, with a tick at each deadline on the way and one at the end.
    fn pass(&mut self, span: u64) -> Vec<Command> {
        let end = self.now + Millis(span);
        let mut commands = Vec::new();
        for _ in 0..10_000 {
            let next = self
                .engine
                .next_deadline()
                .filter(|deadline| *deadline < end);
            self.now = next.unwrap_or(end).max(self.now);
            commands.extend(self.event(Event::Tick));
            if next.is_none() {
                return commands;
            }
        }
        panic!("the engine's timers spin at {}", self.now);
    }

    /// Lets time pass while the pull with this index shows signs of life.
    fn pass_alive(&mut self, span: u64, sent: usize) {
        for _ in 0..span / 1_000 {
            self.pass(1_000);
            self.status_of(sent, Status::Heartbeat);
        }
    }

    fn pulls_since(&self, sent: usize) -> Vec<(u16, u32)> {
        self.sent[sent..]
            .iter()
            .map(|pull| (pull.id.queue().0, pull.batch))
            .collect()
    }
}

fn delivered(pull: PullId, epoch: Epoch, seq: u64, pending: u64) -> Event {
    Event::Delivered {
        epoch,
        lane: pull.lane(),
        queue: pull.queue(),
        seq: Seq(seq),
        deliveries: 1,
        pending,
    }
}

fn start(seq: u64) -> Command {
    Command::Start { seq: Seq(seq) }
}

fn refuse(seq: u64) -> Command {
    Command::Refuse { seq: Seq(seq) }
}

fn forget(seq: u64) -> Command {
    Command::Forget { seq: Seq(seq) }
}

fn settle(seq: u64) -> Command {
    Command::Settle {
        seq: Seq(seq),
        verdict: Verdict::Settle,
    }
}
