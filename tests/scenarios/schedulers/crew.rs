//! Several schedulers of one world, and which of them leads.

use repull_tests::{DEADLINE, Process, SchedulerBuilder, World, eventually};

use super::load::LEASE;

/// Schedulers, each a process of its own, by number.
pub(super) struct Crew {
    scheduler: SchedulerBuilder,
    shards: usize,
    members: Vec<Member>,
}

struct Member {
    process: Process,
    /// Neither asked nor expected to lead.
    is_away: bool,
}

impl Crew {
    /// Starts so many schedulers over so many shards and waits until all shards are led.
    pub(super) async fn start(world: &World, schedulers: usize, shards: usize) -> Self {
        let replicas = world.url().split(',').count();
        let scheduler = world
            .scheduler()
            .arg(&format!("--lease={}s", LEASE.as_secs()));
        let mut crew = Self {
            scheduler: scheduler
                .arg(&format!("--shards={shards}"))
                .arg(&format!("--replicas={replicas}")),
            shards,
            members: Vec::new(),
        };
        for _ in 0..schedulers {
            crew.join(|scheduler| scheduler).await;
        }
        crew
    }

    /// Starts another scheduler and waits until all shards are led; answers its number.
    pub(super) async fn join(
        &mut self,
        change: impl FnOnce(SchedulerBuilder) -> SchedulerBuilder,
    ) -> usize {
        let number = self.members.len();
        let scheduler = self.scheduler.clone();
        let scheduler = scheduler.id(&format!("scheduler-{number}"));
        let process = change(scheduler).start().await;
        self.members.push(Member {
            process,
            is_away: false,
        });
        self.is_led().await;
        number
    }

    /// How many shards each scheduler leads that is not away.
    async fn led(&mut self) -> Vec<(usize, usize)> {
        let mut led = Vec::new();
        for (number, member) in self.members.iter_mut().enumerate() {
            if !member.is_away {
                let metrics = member.process.metrics().await;
                led.push((number, metrics.value("repull_scheduler_leader") as usize));
            }
        }
        led
    }

    /// Waits until those that are not away lead all shards, each by one of them.
    pub(super) async fn is_led(&mut self) {
        let (shards, mut all) = (self.shards, 0);
        let what = format!("{shards} shards are led");
        eventually(DEADLINE, &what, async || {
            all = self.led().await.iter().map(|(_, count)| count).sum();
            (all == shards).then_some(())
        })
        .await;
    }

    /// The scheduler that leads most shards.
    pub(super) async fn leader(&mut self) -> usize {
        self.is_led().await;
        let led = self.led().await;
        let most = led.into_iter().max_by_key(|(_, count)| *count);
        most.expect("a scheduler that leads").0
    }

    /// A scheduler's process.
    pub(super) fn process(&mut self, number: usize) -> &mut Process {
        &mut self.members[number].process
    }

    /// Counts a scheduler as away, and waits until others lead in its place.
    pub(super) async fn without(&mut self, number: usize) {
        self.members[number].is_away = true;
        self.is_led().await;
    }

    /// Counts a scheduler in again.
    pub(super) fn back(&mut self, number: usize) {
        self.members[number].is_away = false;
    }

    /// Kills a scheduler and waits until others lead in its place.
    pub(super) async fn kill(&mut self, number: usize) {
        self.process(number).kill().await;
        self.without(number).await;
    }

    /// Freezes a scheduler until others lead in its place, and lets it go on.
    pub(super) async fn freeze(&mut self, number: usize) {
        self.process(number).pause();
        self.without(number).await;
        self.process(number).resume();
        self.back(number);
        self.is_led().await;
    }
}
