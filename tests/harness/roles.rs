//! Workers and schedulers of a world, each a process of its own.

use std::path::Path;
use std::time::Duration;

use crate::clock::Clock;
use crate::process::{Process, ProcessBuilder};
use crate::world::World;

/// Sets up a worker.
#[must_use]
pub struct WorkerBuilder<'a> {
    world: &'a World,
    process: ProcessBuilder,
}

impl<'a> WorkerBuilder<'a> {
    pub(crate) fn new(world: &'a World, process: ProcessBuilder) -> Self {
        Self { world, process }
    }

    /// How many jobs it runs at once.
    pub fn slots(self, slots: u32) -> Self {
        self.arg("--slots").arg(&slots.to_string())
    }

    /// A queue it serves; several calls add up, in order.
    pub fn queue(self, queue: &str) -> Self {
        self.arg("--queue").arg(queue)
    }

    /// Its configuration file's text.
    pub fn config(self, toml: &str) -> Self {
        let path = self.world.write_file("worker.toml", toml);
        let path = path.to_string_lossy().into_owned();
        self.arg("--config").arg(&path)
    }

    /// How long running jobs may take to finish once it is asked to end.
    pub fn drain(self, drain: Duration) -> Self {
        let text = format!("{}ms", drain.as_millis());
        self.arg("--drain").arg(&text)
    }

    /// Another way to the server than the world's, a proxy of the worker's own for example.
    pub fn url(self, url: &str) -> Self {
        self.env("NATS_URL", url)
    }

    /// Another build of it, from that folder.
    pub fn built_in(mut self, folder: &Path) -> Self {
        self.process = self.process.built_in(folder);
        self
    }

    /// An argument.
    pub fn arg(mut self, argument: &str) -> Self {
        self.process = self.process.arg(argument);
        self
    }

    /// A variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.process = self.process.env(name, value);
        self
    }

    /// Starts it and returns at once.
    pub fn spawn(self) -> Process {
        self.process.spawn()
    }

    /// Starts it and waits until it is ready for jobs.
    pub async fn start(self) -> Process {
        self.process.start().await
    }
}

/// Sets up a scheduler.
#[derive(Clone)]
#[must_use]
pub struct SchedulerBuilder {
    process: ProcessBuilder,
}

impl SchedulerBuilder {
    pub(crate) fn new(process: ProcessBuilder) -> Self {
        Self { process }
    }

    /// Another way to the server than the world's.
    pub fn url(self, url: &str) -> Self {
        self.env("NATS_URL", url)
    }

    /// A wall clock of its own.
    pub fn clock(mut self, clock: &Clock) -> Self {
        for (name, value) in clock.variables() {
            self.process = self.process.env(name, value);
        }
        self
    }

    /// Its id, by which it is also called in the report of a failed test.
    pub fn id(mut self, id: &str) -> Self {
        self.process = self.process.name(id);
        self.arg("--id").arg(id)
    }

    /// Another build of it, from that folder.
    pub fn built_in(mut self, folder: &Path) -> Self {
        self.process = self.process.built_in(folder);
        self
    }

    /// An argument.
    pub fn arg(mut self, argument: &str) -> Self {
        self.process = self.process.arg(argument);
        self
    }

    /// A variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.process = self.process.env(name, value);
        self
    }

    /// Starts it and returns at once.
    pub fn spawn(self) -> Process {
        self.process.spawn()
    }

    /// Starts it and waits until it is ready, as leader or standby.
    pub async fn start(self) -> Process {
        self.process.start().await
    }
}
