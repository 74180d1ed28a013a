//! What the engine is told at its start, checked once.

use super::Millis;
use super::ids::{LANES_MAX, QUEUES_MAX};

/// A queue that the worker serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QueueConfig {
    /// The queue's name, for messages to people; the engine itself knows queues by index.
    pub name: String,
    /// Its share among queues with a backlog, where [`Order::Weighted`].
    pub weight: u32,
}

/// How queues share the slots while more than one has a backlog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// The first queue with a backlog takes every free slot.
    #[default]
    Strict,
    /// Free slots are dealt out by weight.
    Weighted,
}

/// Everything the engine can be told. [`Config::new`] gives defaults for all but slots and queues.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// Jobs that may run at once.
    pub slots: u32,
    /// The queues served, in order of preference.
    pub queues: Vec<QueueConfig>,
    /// How queues with a backlog share the slots.
    pub order: Order,
    /// How long the server waits for an ack or a keep-alive before it delivers a job again.
    pub ack_wait: Millis,
    /// How long the long pull of an idle worker lives on the server.
    pub pull_expires: Millis,
    /// How long a pull lives while it competes with other queues for slots.
    pub short_expires: Millis,
    /// How long the pull lives that watches one idle queue among several.
    pub sentinel_expires: Millis,
    /// Asked of the server on pulls that live at least twice as long; missed after 2.5 times.
    pub heartbeat: Millis,
    /// How much longer than its `expires` a pull is believed in without a word from the server.
    pub pull_grace: Millis,
    /// Open pulls per queue, and so the number of lanes.
    pub pulls_max: u32,
    /// How often an idle queue is looked at while others keep the slots busy; less often where
    /// that would take more than a tenth of the slots.
    pub probe_interval: Millis,
    /// How long such a look takes.
    pub probe_expires: Millis,
    /// No new pull while this many jobs wait for the confirmation of their ack.
    pub settling_max: u32,
    /// An ack that is not confirmed for this long is sent again; so is a keep-alive.
    pub confirm_timeout: Millis,
    /// First and longest wait after a pull that never started or was ended by the server.
    pub retry: (Millis, Millis),
    /// First and longest wait after a pull that the server refused as malformed or too large.
    pub refused_retry: (Millis, Millis),
    /// How long slots may be idle before the server is asked for the backlog.
    pub reconcile: Millis,
    /// The watchdog's T: idle slots beside a backlog for this long lead to a new epoch.
    pub watchdog: Millis,
    /// How long running jobs may go on after [`Event::Drain`](super::Event::Drain).
    pub drain_timeout: Millis,
    /// A handler that still runs this long after its cancellation is reported as stuck.
    pub cancel_grace: Millis,
    /// Whether a stuck handler's slot is replaced by a new one.
    pub replace_stuck: bool,
}

impl Config {
    /// A config with the defaults for production.
    #[must_use]
    pub fn new(slots: u32, queues: Vec<QueueConfig>) -> Self {
        Self {
            slots,
            queues,
            order: Order::default(),
            ack_wait: Millis(15_000),
            pull_expires: Millis(30_000),
            short_expires: Millis(100),
            sentinel_expires: Millis(3_000),
            heartbeat: Millis(5_000),
            pull_grace: Millis(2_000),
            pulls_max: 8,
            probe_interval: Millis(25),
            probe_expires: Millis(5),
            settling_max: 4_096,
            confirm_timeout: Millis(2_000),
            retry: (Millis(50), Millis(2_000)),
            refused_retry: (Millis(100), Millis(5_000)),
            reconcile: Millis(10_000),
            watchdog: Millis(30_000),
            drain_timeout: Millis(30_000),
            cancel_grace: Millis(5_000),
            replace_stuck: false,
        }
    }

    /// Silence after which a pull with a heartbeat is given up: two and a half heartbeats.
    pub(super) fn heartbeat_missed(&self) -> Millis {
        self.heartbeat.fraction(5, 2)
    }

    /// A pull asks for a heartbeat if it lives long enough to be allowed one by the server.
    pub(super) fn heartbeat_for(&self, expires: Millis) -> Option<Millis> {
        (expires >= self.heartbeat * 2).then_some(self.heartbeat)
    }

    /// The longest time in which a healthy server says nothing to an idle worker.
    fn longest_silence(&self) -> Millis {
        let idle_pull = if self.queues.len() == 1 {
            self.pull_expires
        } else {
            self.sentinel_expires
        };
        match self.heartbeat_for(idle_pull) {
            Some(_) => self.heartbeat_missed(),
            None => idle_pull + self.pull_grace,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.slots == 0 {
            return Err(ConfigError::NoSlots);
        }
        if self.queues.is_empty() || self.queues.len() > QUEUES_MAX {
            return Err(ConfigError::Queues(self.queues.len()));
        }
        if self.pulls_max == 0 || self.pulls_max > LANES_MAX {
            return Err(ConfigError::Pulls(self.pulls_max));
        }
        if self.settling_max == 0 {
            return Err(ConfigError::NoSettling);
        }
        if self.order == Order::Weighted
            && let Some(queue) = self.queues.iter().find(|queue| queue.weight == 0)
        {
            return Err(ConfigError::Weight(queue.name.clone()));
        }
        for (name, span, least) in self.spans() {
            if span < least {
                return Err(ConfigError::TooShort { name, span, least });
            }
        }
        Ok(())
    }

    /// Each time span, with its least value.
    fn spans(&self) -> [(&'static str, Millis, Millis); 16] {
        let any = Millis(1);
        [
            ("ack_wait", self.ack_wait, Millis(3)),
            ("pull_expires", self.pull_expires, any),
            ("short_expires", self.short_expires, any),
            ("sentinel_expires", self.sentinel_expires, any),
            ("heartbeat", self.heartbeat, any),
            ("pull_grace", self.pull_grace, any),
            ("probe_interval", self.probe_interval, any),
            ("probe_expires", self.probe_expires, any),
            ("confirm_timeout", self.confirm_timeout, any),
            ("retry", self.retry.0, any),
            ("retry maximum", self.retry.1, self.retry.0),
            ("refused_retry", self.refused_retry.0, any),
            (
                "refused_retry maximum",
                self.refused_retry.1,
                self.refused_retry.0,
            ),
            ("reconcile", self.reconcile, any),
            ("cancel_grace", self.cancel_grace, any),
            ("watchdog", self.watchdog, self.longest_silence() + any),
        ]
    }
}

/// A config that the engine cannot work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No slot at all.
    #[error("slots is 0, expected at least 1")]
    NoSlots,
    /// No queue, or more than a pull id can name.
    #[error("{0} queues configured, expected 1 to {QUEUES_MAX}")]
    Queues(usize),
    /// No pull could ever be opened, or more than a pull id can name.
    #[error("pulls_max is {0}, expected 1 to {LANES_MAX}")]
    Pulls(u32),
    /// No job could ever be settled.
    #[error("settling_max is 0, expected at least 1")]
    NoSettling,
    /// A queue that weights would starve.
    #[error("weight of queue `{0}` is 0, expected at least 1")]
    Weight(String),
    /// A time span that makes no sense beside the others.
    #[error("{name} is {span}, expected at least {least}")]
    TooShort {
        /// The setting.
        name: &'static str,
        /// Its value.
        span: Millis,
        /// The least value that works with the other settings.
        least: Millis,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new(
            4,
            vec![QueueConfig {
                name: "mail".into(),
                weight: 1,
            }],
        )
    }

    #[test]
    fn the_defaults_are_accepted() {
        assert_eq!(config().check(), Ok(()));
    }

    #[test]
    fn no_slots_is_refused() {
        assert_eq!(
            Config {
                slots: 0,
                ..config()
            }
            .check(),
            Err(ConfigError::NoSlots)
        );
    }

    #[test]
    fn a_weight_of_zero_is_refused_by_name() {
        let mut config = Config {
            order: Order::Weighted,
            ..config()
        };
        config.queues[0].weight = 0;
        let error = config.check().unwrap_err();
        assert_eq!(
            error.to_string(),
            "weight of queue `mail` is 0, expected at least 1"
        );
    }

    #[test]
    fn a_watchdog_that_would_bite_an_idle_worker_is_refused() {
        let error = Config {
            watchdog: Millis(12_500),
            ..config()
        }
        .check()
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "watchdog is 12500 ms, expected at least 12501 ms"
        );
    }
}
