//! `repull job submit --lines`: many jobs from JSON Lines, at pipelined speed.
//!
//! Each line has an id that follows from the line itself, so that the same command run again after
//! an interruption makes no job twice: one that waits or runs is refused by the broker, one that
//! has ended is recognised by its outcome. That second look costs a request a line and is taken
//! only where a probe of the first lines finds that there was an earlier run.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use clap::Args;
use futures_util::{Stream, StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use repull::client::{Client, PIPELINE_WINDOW};
use repull::connect::ConnectArgs;
use repull::id::{JobId, TaskName};
use repull::job::Job;
use repull::wire::{Address, Place};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::line::{self, Line};
use super::submit::JobOptions;
use crate::cmd;
use crate::ui::{out, report};

/// How many lines are looked at for traces of an earlier run.
const PROBED: usize = 16;

/// How many bad lines are told one by one.
const ERRORS_SHOWN: u64 = 20;

/// The options of a bulk submission.
#[derive(Args, Debug)]
#[command(next_help_heading = "Many jobs")]
pub(crate) struct LinesArgs {
    /// A job for each line of a file, or of stdin (`-`): its arguments where TASK is given, else an
    /// object {task, args, id, queue, priority, run_at, max_attempts, backoff, timeout, deadline,
    /// expires, keep_result, headers}
    #[arg(long, value_name = "FILE")]
    lines: Option<String>,
    /// Leave out so many lines
    #[arg(long, value_name = "N", default_value_t = 0, requires = "lines")]
    skip: u64,
    /// Do not look for what an earlier run of the same lines has enqueued
    #[arg(long, requires = "lines")]
    fresh: bool,
    /// Do not print the ids
    #[arg(long, requires = "lines")]
    quiet: bool,
}

impl LinesArgs {
    /// Whether this is a bulk submission.
    pub(crate) fn is_given(&self) -> bool {
        self.lines.is_some()
    }
}

/// What became of all lines.
#[derive(Debug, Default, serde::Serialize)]
struct Counts {
    lines: u64,
    enqueued: u64,
    already_there: u64,
    failed: u64,
}

/// Enqueues a job for each line.
pub(crate) async fn run(
    args: LinesArgs,
    task: Option<TaskName>,
    options: JobOptions,
    json: bool,
    connect: &ConnectArgs,
) -> anyhow::Result<ExitCode> {
    let path = args.lines.clone().unwrap_or_default();
    let (input, size) = open(&path)?;
    let client = cmd::connect(connect).await?;
    options.check_lane(&client).await?;
    let bar = progress_bar(size);
    let stop = CancellationToken::new();
    let lines = read_lines(input, args.skip, bar.clone(), stop.clone());
    let bulk = Bulk {
        client,
        task,
        options,
        prints_ids: !json && !args.quiet && !std::io::stdout().is_terminal(),
        bar,
        numbers: HashMap::new(),
        counts: Counts::default(),
        known: Arc::default(),
    };
    let interrupt = tokio::spawn({
        let stop = stop.clone();
        async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                stop.cancel();
            }
        }
    });
    let counts = bulk.run(lines, args.fresh).await?;
    interrupt.abort();
    finish(&counts, json, stop.is_cancelled())
}

fn finish(counts: &Counts, json: bool, is_interrupted: bool) -> anyhow::Result<ExitCode> {
    if json {
        out::json(counts)?;
    }
    report::note(format_args!(
        "{} lines: {} enqueued, {} there already, {} failed",
        counts.lines, counts.enqueued, counts.already_there, counts.failed
    ));
    if is_interrupted {
        report::note("error: interrupted");
        report::hint("run the same command again: it goes on without doubles");
    } else if counts.failed > 0 {
        report::hint(
            "correct those lines and run the same command again: the others are left alone",
        );
    }
    Ok(if is_interrupted || counts.failed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

type Input = Box<dyn Read + Send>;

fn open(path: &str) -> anyhow::Result<(Input, Option<u64>)> {
    if path == "-" {
        return Ok((Box::new(std::io::stdin()), None));
    }
    let file = std::fs::File::open(path).with_context(|| format!("can't read `{path}`"))?;
    let size = file.metadata().ok().filter(std::fs::Metadata::is_file);
    Ok((Box::new(file), size.map(|metadata| metadata.len())))
}

fn progress_bar(size: Option<u64>) -> ProgressBar {
    let style = |template: &str| {
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
    };
    match size {
        Some(size) => ProgressBar::new(size).with_style(style(
            "{bar:30} {percent:>3} %  {msg}  {elapsed} of {duration}",
        )),
        None => ProgressBar::new_spinner().with_style(style("{spinner} {msg}  {elapsed}")),
    }
}

/// Reads on a thread of its own: files and stdin have no other way of being waited for.
fn read_lines(
    input: Input,
    skip: u64,
    bar: ProgressBar,
    stop: CancellationToken,
) -> mpsc::Receiver<std::io::Result<Line>> {
    let (sender, receiver) = mpsc::channel(PIPELINE_WINDOW);
    std::thread::spawn(move || {
        let mut input = BufReader::with_capacity(1 << 18, input);
        for number in 1.. {
            let mut bytes = Vec::new();
            let read = match input.read_until(b'\n', &mut bytes) {
                Ok(0) => return,
                Ok(read) => read,
                Err(error) => {
                    let _ = sender.blocking_send(Err(error));
                    return;
                }
            };
            bar.inc(read as u64);
            let line = Line { number, bytes };
            if number <= skip || line.is_blank() {
                continue;
            }
            if stop.is_cancelled() || sender.blocking_send(Ok(line)).is_err() {
                return;
            }
        }
    });
    receiver
}

struct Bulk {
    client: Client,
    task: Option<TaskName>,
    options: JobOptions,
    prints_ids: bool,
    bar: ProgressBar,
    /// Lines under way, for their errors.
    numbers: HashMap<JobId, u64>,
    counts: Counts,
    /// Lines that an earlier run has seen to their end.
    known: Arc<AtomicU64>,
}

impl Bulk {
    async fn run(
        mut self,
        mut lines: mpsc::Receiver<std::io::Result<Line>>,
        is_fresh: bool,
    ) -> anyhow::Result<Counts> {
        let mut first = Vec::new();
        while first.len() < PROBED
            && let Some(job) = self.next_job(&mut lines).await?
        {
            first.push(job);
        }
        let looks = !is_fresh && self.is_known_to_some(&first).await?;
        if looks {
            report::note("an earlier run of these lines left jobs: going on behind them");
        }
        let (feed, jobs) = mpsc::channel(1);
        let jobs = stream::unfold(
            jobs,
            |mut jobs| async move { Some((jobs.recv().await?, jobs)) },
        );
        let known = self.known.clone();
        let jobs: std::pin::Pin<Box<dyn Stream<Item = Job> + Send>> = if looks {
            Box::pin(without_known(self.client.clone(), jobs, known))
        } else {
            Box::pin(jobs)
        };
        let mut results = Box::pin(self.client.clone().enqueue_many(jobs));
        let mut first = first.into_iter();
        let mut feed = Some(feed);
        loop {
            // Feeding and taking in turn, so that neither can hold the other up.
            let room = async { Some(feed.as_ref()?.reserve().await.is_ok()) };
            let has_room = tokio::select! {
                biased;
                result = results.next() => match result {
                    Some(result) => {
                        self.take(result)?;
                        continue;
                    }
                    None => break,
                },
                Some(has_room) = room => has_room,
            };
            let job = match first.next() {
                Some(job) if has_room => Some(job),
                None if has_room => self.next_job(&mut lines).await?,
                _ => None,
            };
            // Nobody else feeds, so the room that was there still is.
            feed = feed.filter(|feed| job.is_some_and(|job| feed.try_send(job).is_ok()));
        }
        drop(results);
        self.counts.already_there += self.known.load(Ordering::Relaxed);
        self.bar.finish_and_clear();
        Ok(self.counts)
    }

    /// The job of the next line that is one.
    async fn next_job(
        &mut self,
        lines: &mut mpsc::Receiver<std::io::Result<Line>>,
    ) -> anyhow::Result<Option<Job>> {
        while let Some(line) = lines.recv().await {
            let line = line.context("can't read the lines")?;
            self.counts.lines += 1;
            match line::job(&line, self.task.as_ref(), &self.options) {
                Ok(job) => {
                    self.numbers.insert(job.id.clone(), line.number);
                    return Ok(Some(job));
                }
                Err(error) => self.fail(line.number, &report::chain(&error)),
            }
        }
        Ok(None)
    }

    fn take(
        &mut self,
        result: Result<repull::client::Enqueued, repull::client::EnqueueError>,
    ) -> anyhow::Result<()> {
        match result {
            Ok(enqueued) => {
                self.numbers.remove(&enqueued.address.id);
                if enqueued.is_new {
                    self.counts.enqueued += 1;
                    if self.prints_ids {
                        out::line(enqueued.address.id.as_str())?;
                    }
                } else {
                    self.counts.already_there += 1;
                }
            }
            Err(error) => {
                let number = JobId::new(&error.id)
                    .ok()
                    .and_then(|id| self.numbers.remove(&id));
                self.fail(number.unwrap_or_default(), &error.source.to_string());
            }
        }
        if self.counts.enqueued.is_multiple_of(256) {
            self.bar
                .set_message(format!("{} jobs", self.counts.enqueued));
        }
        Ok(())
    }

    fn fail(&mut self, number: u64, error: &str) {
        self.counts.failed += 1;
        if self.counts.failed <= ERRORS_SHOWN {
            self.bar
                .suspend(|| report::note(format_args!("error: line {number}: {error}")));
        } else if self.counts.failed == ERRORS_SHOWN + 1 {
            self.bar
                .suspend(|| report::note("error: more lines failed; the count is at the end"));
        }
    }

    async fn is_known_to_some(&self, jobs: &[Job]) -> anyhow::Result<bool> {
        for job in jobs {
            let address = address_of(job);
            if has_ended(&self.client, &address).await? {
                return Ok(true);
            }
            for place in [Place::Jobs, Place::Later] {
                let subject = address.subject(self.client.namespace(), place);
                if self
                    .client
                    .last_on_subject(place, &subject)
                    .await?
                    .is_some()
                {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// The jobs that have no outcome yet. One that can't be looked up is kept: the broker refuses it
/// while it is there, and an error of the look-up will be one of the enqueueing too.
fn without_known(
    client: Client,
    jobs: impl Stream<Item = Job> + Send,
    known: Arc<AtomicU64>,
) -> impl Stream<Item = Job> + Send {
    jobs.map(move |job| {
        let (client, known) = (client.clone(), known.clone());
        async move {
            if has_ended(&client, &address_of(&job)).await.unwrap_or(false) {
                known.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            Some(job)
        }
    })
    .buffer_unordered(PIPELINE_WINDOW)
    .filter_map(std::future::ready)
}

async fn has_ended(client: &Client, address: &Address) -> Result<bool, repull::client::Error> {
    let last = client.last_event(address).await?;
    if last.is_some_and(|event| event.kind.is_outcome()) {
        return Ok(true);
    }
    let subject = address.subject(client.namespace(), Place::Dead);
    Ok(client
        .last_on_subject(Place::Dead, &subject)
        .await?
        .is_some())
}

fn address_of(job: &Job) -> Address {
    Address {
        lane: job.lane(),
        task: job.task.clone(),
        id: job.id.clone(),
    }
}
