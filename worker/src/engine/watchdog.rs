//! The last guard: idle slots beside a backlog, or a server that says nothing at all, for longer
//! than can be explained.
//!
//! After T a new epoch, after 2 T a new connection, after 3 T the end of the process with a
//! reason. In health none of it ever happens; each action is counted. An outage that the client
//! knows of is waited out for ten T: the client is at work on it, and ending the process would
//! only delay the recovery. But a client that is dead for good says the same.

use super::{Command, Config, Engine, Fault, FaultClass, Millis};

/// How many times T an outage may last.
const OUTAGE_FACTOR: u64 = 10;

/// How far the watchdog has gone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Watchdog {
    /// Actions taken since the last sign that all is well.
    level: u8,
    /// When the next action is due, while something is wrong.
    due: Option<Millis>,
    /// When silence of the server is wrong, by the time of its last word.
    silent_at: Millis,
    /// When silence is reason enough to leave the epoch.
    epoch_silent_at: Millis,
    /// The server has said something since the last action.
    heard: bool,
    /// The new epoch that the last action led to has been given its time.
    granted: bool,
    /// The client knows that the connection is gone: it is left alone until this moment.
    outage_until: Option<Millis>,
}

impl Watchdog {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            level: 0,
            due: None,
            silent_at: config.watchdog,
            epoch_silent_at: config.heartbeat_missed(),
            heard: false,
            granted: false,
            outage_until: None,
        }
    }

    /// A job arrived: whatever was wrong is over.
    pub(super) fn on_fetched(&mut self) {
        self.level = 0;
        self.due = None;
    }

    /// All slots were busy until now, so nothing was asked: silence counts from here.
    pub(super) fn on_first_idle(&mut self, config: &Config, now: Millis) {
        self.silent_at = self.silent_at.max(now + config.watchdog);
        self.epoch_silent_at = self.epoch_silent_at.max(now + config.heartbeat_missed());
    }

    /// A fresh inbox is in place. That alone is no sign of life; a connection that is back is.
    pub(super) fn on_epoch(&mut self, config: &Config, now: Millis) {
        if self.outage_until.take().is_some() {
            self.silent_at = self.silent_at.max(now + config.watchdog);
        }
        // What the last action brought about gets its own time to show that it helped.
        if !std::mem::replace(&mut self.granted, true) {
            self.due = self.due.map(|due| due.max(now + config.watchdog));
        }
        self.epoch_silent_at = self.epoch_silent_at.max(now + config.heartbeat_missed());
    }

    pub(super) fn on_disconnected(&mut self, config: &Config, now: Millis) {
        self.outage_until
            .get_or_insert(now + config.watchdog * OUTAGE_FACTOR);
        self.due = None;
    }

    /// The client knows of an outage and is at work on it.
    fn is_resting(&self, now: Millis) -> bool {
        self.outage_until.is_some_and(|until| now < until)
    }

    /// Whether nothing at all was heard for as long as heartbeats may be missed. True once per
    /// such time.
    pub(super) fn is_epoch_silent(&mut self, config: &Config, now: Millis) -> bool {
        let silent = !self.is_resting(now) && now >= self.epoch_silent_at;
        if silent {
            self.epoch_silent_at = now + config.heartbeat_missed();
        }
        silent
    }

    pub(super) fn next_deadline(&self, now: Millis) -> Millis {
        match self.outage_until {
            Some(until) if now < until => until,
            _ => self.due.unwrap_or(self.silent_at),
        }
    }

    pub(super) fn rebase(&mut self, now: Millis) {
        self.due = self.due.map(|due| due.since(now));
        self.silent_at = self.silent_at.since(now);
        self.epoch_silent_at = self.epoch_silent_at.since(now);
        self.outage_until = self.outage_until.map(|until| until.since(now));
    }
}

impl Engine {
    /// The server said something.
    pub(super) fn heard(&mut self) {
        self.watchdog.heard = true;
        self.watchdog.silent_at = self.now + self.config.watchdog;
        self.watchdog.epoch_silent_at = self.now + self.config.heartbeat_missed();
    }

    /// Looks whether something is wrong, and acts if it has been for too long.
    pub(super) fn watch(&mut self) {
        let (now, limit) = (self.now, self.config.watchdog);
        let Some(class) = self.fault_in_sight() else {
            let backlog = self
                .queues
                .iter()
                .any(|queue| queue.starved_until.is_some());
            self.watchdog.due = None;
            if !self.wants_jobs() || (self.watchdog.heard && !backlog) {
                self.watchdog.level = 0;
            }
            return;
        };
        // A backlog must stay for T from here on; silence has lasted that long already.
        let first = match class {
            FaultClass::BacklogNotDelivered => now + limit,
            FaultClass::ServerSilent | FaultClass::Disconnected => now,
        };
        if now >= *self.watchdog.due.get_or_insert(first) {
            self.watchdog.due = Some(now + limit);
            self.act(class);
        }
    }

    fn fault_in_sight(&self) -> Option<FaultClass> {
        if self.watchdog.is_resting(self.now) || !self.wants_jobs() {
            return None;
        }
        let starved =
            |queue: &super::queue::Queue| queue.starved_until.is_some_and(|until| self.now < until);
        if self.queues.iter().any(starved) {
            Some(FaultClass::BacklogNotDelivered)
        } else if self.now < self.watchdog.silent_at {
            None
        } else if self.watchdog.outage_until.is_some() {
            Some(FaultClass::Disconnected)
        } else {
            Some(FaultClass::ServerSilent)
        }
    }

    fn act(&mut self, class: FaultClass) {
        self.watchdog.heard = false;
        self.watchdog.granted = false;
        self.watchdog.level = self.watchdog.level.saturating_add(1);
        match self.watchdog.level {
            1 => {
                self.counters.watchdog_new_epochs += 1;
                self.request_epoch();
            }
            2 => {
                self.counters.watchdog_reconnects += 1;
                self.commands.push_back(Command::Reconnect);
            }
            3 => {
                self.counters.watchdog_exits += 1;
                let fault = Fault {
                    class,
                    message: self.fault_message(class),
                };
                self.commands.push_back(Command::Exit { fault });
            }
            _ => {}
        }
    }

    fn fault_message(&self, class: FaultClass) -> String {
        let (idle, waited) = (self.slots.idle(), self.config.watchdog * 3);
        let tried = "a new inbox and a new connection did not help";
        match class {
            FaultClass::BacklogNotDelivered => {
                let queues = self.config.queues.iter().zip(&self.queues);
                let starved = queues.filter(|(_, queue)| queue.starved_until.is_some());
                let names: Vec<&str> = starved.map(|(config, _)| config.name.as_str()).collect();
                format!(
                    "{idle} slots idle and jobs waiting in `{}`, yet nothing was delivered for \
                     {waited}; {tried}",
                    names.join("`, `")
                )
            }
            FaultClass::Disconnected => format!(
                "no connection to the server for {}; {tried}",
                self.config.watchdog * (OUTAGE_FACTOR + 2)
            ),
            FaultClass::ServerSilent => format!(
                "{idle} slots idle and not a word from the server for {waited}, though the \
                 connection looks alive; {tried}"
            ),
        }
    }
}
