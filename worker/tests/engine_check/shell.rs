//! What stands between the engine and the world, in place of the real driver: hands events in and
//! takes commands out, one turn per event. Can be told to make one of the mistakes that the checks
//! must find.

use repull_worker::engine::{Command, Config, Engine, Event, Millis, Seq, Verdict};

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mutant {
    /// The bug this project exists for: free slots are looked at when a job arrives, not when one
    /// ends.
    WakeOnAddOnly,
    /// An attempt that ends early (undecodable, unknown task) returns without freeing its slot.
    LeakedSlot,
    /// A pull that the server lost stays promised for ever.
    UncountedLostPull,
    /// A job is acked although its lease is over.
    AckAfterLostLease,
    /// One more is asked for than there are slots.
    PullForTooMany,
    /// A job is forgotten when its ack is sent, not when it is confirmed.
    ForgottenWhenAcked,
    /// Pulls of an older epoch go on counting.
    EpochKeepsPulls,
    /// Nobody tells the server that jobs are still being worked on.
    NoKeepAlive,
}

/// The engine and its mistake.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shell {
    pub(crate) engine: Engine,
    pub(crate) mutant: Option<Mutant>,
    /// The first turn is over.
    started: bool,
}

impl Shell {
    pub(crate) fn new(config: Config, mutant: Option<Mutant>) -> Self {
        let engine = Engine::new(config).expect("a valid config");
        Self {
            engine,
            mutant,
            started: false,
        }
    }

    /// Hands in the events of one turn and takes out its commands.
    pub(crate) fn turn(&mut self, now: Millis, events: &[Event]) -> Vec<Command> {
        let before = (self.mutant == Some(Mutant::UncountedLostPull)).then(|| self.engine.clone());
        for event in events {
            match (self.mutant, event) {
                (
                    Some(Mutant::LeakedSlot),
                    Event::Finished {
                        verdict: Verdict::Abandon,
                        ..
                    },
                )
                | (Some(Mutant::EpochKeepsPulls), Event::EpochChanged { .. }) => {}
                _ => self.engine.handle(now, *event),
            }
        }
        let mut commands = Vec::new();
        let wakes =
            |event: &Event| matches!(event, Event::Delivered { .. } | Event::EpochChanged { .. });
        let asleep =
            self.mutant == Some(Mutant::WakeOnAddOnly) && self.started && !events.iter().any(wakes);
        self.started = true;
        while let Some(command) = self.next_command(asleep) {
            self.tamper(now, command, &mut commands);
        }
        if let Some(before) = before.filter(|before| self.has_written_off(before)) {
            self.engine = before; // As if nobody had noticed.
            commands.clear();
        }
        commands
    }

    fn next_command(&mut self, asleep: bool) -> Option<Command> {
        if !asleep {
            return self.engine.next_command();
        }
        let before = self.engine.clone();
        let command = self.engine.next_command()?;
        if matches!(command, Command::Pull { .. }) {
            self.engine = before; // The slots stay free, and nobody looks at them.
            return None;
        }
        Some(command)
    }

    fn tamper(&mut self, now: Millis, command: Command, commands: &mut Vec<Command>) {
        match (self.mutant, command) {
            (Some(Mutant::NoKeepAlive), Command::KeepAlive { .. }) => {}
            (Some(Mutant::AckAfterLostLease), Command::Forget { seq }) => {
                commands.push(Command::Settle {
                    seq,
                    verdict: Verdict::Settle,
                });
            }
            (Some(Mutant::ForgottenWhenAcked), command @ Command::Settle { seq, .. }) => {
                self.engine.handle(now, Event::Settled { seq });
                commands.push(command);
            }
            (Some(Mutant::PullForTooMany), command) => commands.push(one_more(command)),
            (_, command) => commands.push(command),
        }
    }

    fn has_written_off(&self, before: &Engine) -> bool {
        let written_off = |engine: &Engine| engine.snapshot().counters.pulls_written_off;
        written_off(&self.engine) > written_off(before)
    }

    /// When the engine wants to be called.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        let deadline = self
            .engine
            .next_deadline()
            .filter(|deadline| *deadline < Millis::NEVER);
        match self.mutant {
            // These leave timers that are due for ever.
            Some(Mutant::UncountedLostPull | Mutant::WakeOnAddOnly) => {
                deadline.filter(|deadline| *deadline > self.engine.now())
            }
            _ => deadline,
        }
    }
}

fn one_more(command: Command) -> Command {
    match command {
        Command::Pull {
            epoch,
            lane,
            queue,
            pull,
            batch,
            expires,
            heartbeat,
        } => {
            let batch = batch + 1;
            Command::Pull {
                epoch,
                lane,
                queue,
                pull,
                batch,
                expires,
                heartbeat,
            }
        }
        other => other,
    }
}

/// Which job a command speaks for as its holder, if any.
pub(crate) fn claims(command: &Command) -> Vec<Seq> {
    match command {
        Command::Settle { seq, .. } | Command::AckAgain { seq } | Command::Refuse { seq } => {
            vec![*seq]
        }
        Command::Confirm { seqs } => seqs.clone(),
        _ => Vec::new(),
    }
}
