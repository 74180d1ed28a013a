//! What happens in the demo, and when: the burst, the second worker, the end of the first.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use repull::client::{Client, DeadFilter, Expect};
use repull::id::{JobId, Lane, QueueName, ScheduleId};
use repull::job::Job;
use repull::wire::Place;
use repull_worker::Shutdown;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::super::DevArgs;
use super::super::stack::Stack;
use super::cast::Cast;
use super::clock;
use super::files::Files;
use super::ledger::{Entry, Ledger};
use super::load;
use super::results::{self, Live, Point};
use super::screen::{Screen, View};
use super::summary::{Removed, Summary};
use super::usage::Usage;

/// The most fires of the schedule, and for how many jobs there is one: a small load is done soon.
const FIRES_MAX: u32 = 20;
const JOBS_PER_FIRE: u32 = 100;
const FIRES_MIN: u32 = 3;

/// What the workers are called.
const FIRST: &str = "first";
const SECOND: &str = "second";

/// The second worker joins when this much of the load is done, and the first leaves at this much.
const JOIN_AT_PERCENT: u64 = 30;
const LEAVE_AT_PERCENT: u64 = 60;

/// How often the view is renewed.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// When nothing has happened for this long, the load has stalled.
const STALL: Duration = Duration::from_secs(60);

/// How long the queues may take to be empty after the last outcome: its ack is on its way.
const SETTLE: Duration = Duration::from_secs(10);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Everything has an outcome.
    Complete,
    /// Nothing happened any more.
    Stalled,
    /// A signal came.
    Interrupted,
}

/// One run.
pub(super) struct Play {
    queue: QueueName,
    clock_queue: QueueName,
    cast: Cast,
    files: Arc<Files>,
    live: Live,
    point: Point,
    follower: JoinHandle<()>,
    submission: Option<JoinHandle<anyhow::Result<()>>>,
    submitted: Arc<AtomicU64>,
    jobs: u64,
    started: Instant,
    took: Duration,
    joined: Option<Duration>,
    left: Option<(Duration, u32)>,
    usage: Usage,
}

impl Play {
    /// Puts the schedule up, starts the first worker and lets the burst go.
    pub(super) async fn start(
        stack: &mut Stack,
        args: &DevArgs,
        files: Arc<Files>,
    ) -> anyhow::Result<Self> {
        let client = stack.client().clone();
        // Queues of its own, so that it meets nobody else's jobs in a folder that is kept.
        let run = JobId::generate().to_string();
        let queue = QueueName::new(format!("demo-{}", &run[run.len() - 6..]))?;
        let clock_queue = QueueName::new(format!("{queue}-clock"))?;

        let fires = (args.jobs / JOBS_PER_FIRE).clamp(FIRES_MIN, FIRES_MAX);
        let load = load::plan(&queue, args.jobs, &files.paths)?;
        let schedule = clock::schedule(&clock_queue, fires, repull::clock::now())?;
        let mut ledger = Ledger::default();
        for planned in &load {
            ledger.expect(planned.job.id.to_string(), Entry::Job(planned.kind));
        }
        for (id, fire) in clock::fires(&schedule) {
            ledger.expect(id, Entry::Fire(fire));
        }
        let point = results::end_of_results(&client).await?;
        let live = Live::new(ledger);
        let follower = live.follow(&client, point).await?;

        client.put_schedule(schedule, Expect::Nothing).await?;
        let mut cast = Cast::new(files.clone(), args.slots);
        cast.start_clock(stack, &clock_queue).await?;
        cast.join(stack, FIRST, &queue).await?;
        let submitted = Arc::new(AtomicU64::new(0));
        let jobs = load.into_iter().map(|planned| planned.job).collect();
        let submission = submit(client, jobs, submitted.clone());
        Ok(Self {
            queue,
            clock_queue,
            cast,
            files,
            live,
            point,
            follower,
            submission: Some(tokio::spawn(submission)),
            submitted,
            jobs: args.jobs.into(),
            started: Instant::now(),
            took: Duration::ZERO,
            joined: None,
            left: None,
            usage: Usage::default(),
        })
    }

    /// Goes on until everything has an outcome, nothing happens any more, or a signal comes.
    pub(super) async fn run(
        &mut self,
        stack: &mut Stack,
        signals: &Shutdown,
    ) -> anyhow::Result<Ended> {
        let mut screen = Screen::open();
        let ended = self.run_on(&mut screen, stack, signals).await;
        self.took = self.started.elapsed();
        self.follower.abort();
        screen.close();
        ended
    }

    async fn run_on(
        &mut self,
        screen: &mut Screen,
        stack: &mut Stack,
        signals: &Shutdown,
    ) -> anyhow::Result<Ended> {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = (Instant::now(), (0, 0, 0));
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = signals.drain.cancelled() => return Ok(Ended::Interrupted),
                error = stack.failed() => return Err(error),
            }
            let view = self.look(stack.client()).await?;
            self.usage.look(self.started.elapsed(), &view);
            screen.show(&view);
            self.direct(&view, stack, screen).await?;
            let have_left = self.cast.have_left().await?;
            if have_left && self.live.read(Ledger::is_complete) {
                screen.show_last(&view);
                return Ok(Ended::Complete);
            }
            let state = (
                view.done + view.fires_run,
                view.retried,
                self.cast.started(),
            );
            if state != last.1 {
                last = (Instant::now(), state);
            } else if last.0.elapsed() > STALL {
                screen.show_last(&view);
                return Ok(Ended::Stalled);
            }
        }
    }

    /// Lets workers come and go when their time has come.
    async fn direct(
        &mut self,
        view: &View,
        stack: &mut Stack,
        screen: &Screen,
    ) -> anyhow::Result<()> {
        if let Some(submission) = self.submission.take_if(|task| task.is_finished()) {
            submission.await.context("the submission broke")??;
        }
        let percent = view.done * 100 / self.jobs;
        let now = self.started.elapsed();
        if percent >= JOIN_AT_PERCENT && self.joined.is_none() {
            self.cast.join(stack, SECOND, &self.queue).await?;
            self.joined = Some(now);
            screen.say("a second worker joins");
        }
        if percent >= LEAVE_AT_PERCENT && self.joined.is_some() && self.left.is_none() {
            let running = self.cast.leave(FIRST);
            self.left = Some((now, running));
            screen.say(&format!(
                "the first worker is removed while it runs {running} jobs"
            ));
        }
        Ok(())
    }

    async fn look(&self, client: &Client) -> anyhow::Result<View> {
        let (ended, expected, retried) = self
            .live
            .read(|ledger| (ledger.ended(), ledger.expected(), ledger.retries()));
        let info = client.lane_info(&Lane::normal(self.queue.clone())).await?;
        let (waiting, running) = info.map_or((0, 0), |info| {
            (info.num_pending, info.num_ack_pending as u64)
        });
        let done = ended.jobs as u64;
        let submitted = self.submitted.load(Ordering::Relaxed);
        Ok(View {
            jobs: self.jobs,
            waiting,
            running,
            later: submitted.saturating_sub(done + waiting + running),
            done,
            retried,
            fires_run: ended.fires as u64,
            fires: expected.fires as u64,
            workers: self.cast.view(),
        })
    }

    /// What is to be said when a signal came in the middle.
    pub(super) fn interrupted(&self) -> String {
        let ended = self.live.read(Ledger::ended);
        format!(
            "interrupted after {:.1}s: {} of {} jobs had an outcome",
            self.took.as_secs_f64(),
            ended.jobs,
            self.jobs
        )
    }

    /// Reads the account anew from the streams, and sums up.
    pub(super) async fn sum_up(&self, stack: &Stack, ended: Ended) -> anyhow::Result<Summary> {
        let client = stack.client();
        let left_over = self.wait_until_settled(client).await?;
        // Not what was seen while it went on: what is stored.
        let mut ledger = self.live.read(Ledger::blank);
        results::read_through(client, self.point, &mut ledger).await?;
        let dead = dead_ids(client, &self.queue, self.jobs).await?;
        Ok(Summary {
            is_complete: ended == Ended::Complete,
            took: self.took,
            server: stack.server().version(),
            balance: ledger.balance(&dead),
            left_over,
            joined: self.joined,
            removed: self.removed(&ledger),
            usage: self.usage.clone(),
            refill_max: self.cast.refill_max(),
            held_max: self.cast.held_max(),
            slots: self.cast.slots(),
            watchdog_actions: self.cast.watchdog_actions(),
            files: self.files.clone(),
        })
    }

    fn removed(&self, ledger: &Ledger) -> Option<Removed> {
        let (at, running) = self.left?;
        let id = self.cast.id(FIRST)?;
        let cut_short = self.cast.tally().of(id).cut_short;
        let elsewhere = |job: &&String| {
            ledger
                .worker_of(job)
                .is_some_and(|worker| worker != id.as_str())
        };
        Some(Removed {
            at,
            running,
            handed_back: cut_short.len(),
            run_elsewhere: cut_short.iter().filter(elsewhere).count(),
        })
    }

    /// Waits until the queues are empty, and says what they still hold where they never are.
    async fn wait_until_settled(&self, client: &Client) -> anyhow::Result<u64> {
        let deadline = Instant::now() + SETTLE;
        loop {
            let mut left_over = 0;
            for queue in [&self.queue, &self.clock_queue] {
                let view = client.queue(queue).await?;
                left_over += view.ready + view.running + view.later;
            }
            if left_over == 0 || Instant::now() > deadline {
                return Ok(left_over);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Ends the workers.
    pub(super) async fn finish(&mut self, hurry: &Shutdown) -> anyhow::Result<()> {
        self.stop_watching();
        self.cast.finish(hurry).await
    }

    /// Ends the workers at once.
    pub(super) async fn abandon(&mut self) {
        self.stop_watching();
        self.cast.abandon().await;
    }

    fn stop_watching(&mut self) {
        self.follower.abort();
        if let Some(submission) = self.submission.take() {
            submission.abort();
        }
    }

    /// Removes what a run leaves behind in a folder that is kept. The queues are this run's own.
    pub(super) async fn clean_up(&self, client: &Client) -> anyhow::Result<()> {
        client
            .delete_schedule(&ScheduleId::new(&self.clock_queue)?)
            .await?;
        let namespace = client.namespace();
        for queue in [&self.queue, &self.clock_queue] {
            let lane = Lane::normal(queue.clone());
            for place in [Place::Jobs, Place::Later, Place::Dead] {
                let name = place.stream(namespace);
                let stream = client.jetstream().get_stream_no_info(&name).await?;
                let filter = place.lane_wildcard(namespace, &lane);
                stream.purge().filter(filter).await?;
                if place == Place::Jobs {
                    // Absent where no worker had made it yet.
                    let _ = stream.delete_consumer(&lane.to_string()).await;
                }
            }
        }
        Ok(())
    }
}

/// Submits the burst.
async fn submit(client: Client, jobs: Vec<Job>, submitted: Arc<AtomicU64>) -> anyhow::Result<()> {
    let enqueued = client.enqueue_many(futures_util::stream::iter(jobs));
    let mut enqueued = std::pin::pin!(enqueued);
    while let Some(enqueued) = enqueued.next().await {
        let enqueued = enqueued?;
        ensure!(
            enqueued.is_new,
            "job `{}` was there already",
            enqueued.address.id
        );
        submitted.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// The ids of the dead jobs of a queue.
async fn dead_ids(
    client: &Client,
    queue: &QueueName,
    jobs: u64,
) -> anyhow::Result<HashSet<String>> {
    let filter = DeadFilter {
        queue: Some(queue.clone()),
        ..DeadFilter::default()
    };
    let limit = usize::try_from(jobs).unwrap_or(usize::MAX);
    let dead = client.dead_jobs(&filter, limit).await?;
    Ok(dead.jobs.into_iter().filter_map(|dead| dead.id).collect())
}
