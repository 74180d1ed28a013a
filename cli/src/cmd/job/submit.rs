//! `repull job submit`: one job from the command line.

use std::process::ExitCode;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use clap::Args;
use repull::client::Client;
use repull::connect::ConnectArgs;
use repull::id::{Priority, QueueName, TaskName};
use repull::job::{Job, Timeout};
use repull::retry::Backoff;
use repull::wire::Place;
use repull::wire::headers::{PREFIX, SERVER_PREFIX};

use super::lines::{self, LinesArgs};
use super::unique::UniqueOptions;
use super::wait;
use crate::cmd;
use crate::ui::{out, read, report, time};

/// The options of `repull job submit`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  repull job submit echo '{\"x\": 1}' --wait
  repull job submit mail.send @mail.json --queue mail --in 10m
  repull job submit report @report.json --unique-fields customer --unique-for 1d
  repull job submit resize --lines images.jsonl")]
pub(crate) struct SubmitArgs {
    /// Task that handles the job, such as `mail.send`
    #[arg(required_unless_present = "lines")]
    task: Option<TaskName>,
    /// Its arguments: JSON, `-` for stdin or `@FILE`
    #[arg(value_name = "JSON", conflicts_with = "lines")]
    arguments: Option<String>,
    #[command(flatten)]
    options: JobOptions,
    #[command(flatten)]
    unique: UniqueOptions,
    /// Media type of arguments that are not JSON
    #[arg(long, value_name = "TYPE", requires = "arguments")]
    content_type: Option<String>,
    /// Wait for the outcome and print its value
    #[arg(long, conflicts_with = "lines")]
    wait: bool,
    /// Give up waiting after this long
    #[arg(long, value_name = "DURATION", value_parser = time::duration, requires = "wait")]
    wait_timeout: Option<Duration>,
    #[command(flatten)]
    lines: LinesArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What holds for one job or for all of many.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct JobOptions {
    /// Queue it waits on
    #[arg(long, short, default_value_t)]
    queue: QueueName,
    /// Lane of the queue: high, normal or low
    #[arg(long, default_value = "normal")]
    priority: Priority,
    /// Not before this long from now
    #[arg(long = "in", value_name = "DURATION", value_parser = time::duration)]
    delay: Option<Duration>,
    /// Not before this time
    #[arg(long, value_name = "TIME", value_parser = time::instant, conflicts_with = "delay")]
    at: Option<DateTime<Utc>>,
    /// Attempts in all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_attempts: Option<u32>,
    /// Wait between attempts: `<first>,<factor>,<cap>` such as `1s,2,6h`
    #[arg(long)]
    backoff: Option<Backoff>,
    /// How long one attempt may run, or `never`
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    timeout: Option<Timeout>,
    /// Fails for good when it has not succeeded this long from now
    #[arg(long, value_name = "DURATION", value_parser = time::duration)]
    deadline: Option<Duration>,
    /// Ends `expired` when it has not started this long from now
    #[arg(long, value_name = "DURATION", value_parser = time::duration)]
    expires: Option<Duration>,
    /// Do not store its outcome
    #[arg(long)]
    no_result: bool,
    /// Header of your own for the handler; can be repeated
    #[arg(long = "header", short = 'H', value_name = "NAME=VALUE", value_parser = read::pair)]
    headers: Vec<(String, String)>,
}

/// Reads a duration, or `never`.
pub(crate) fn timeout(text: &str) -> Result<Timeout, String> {
    match text {
        "never" => Ok(Timeout::Never),
        _ => match time::duration(text)? {
            Duration::ZERO => Err("a timeout of zero lets nothing run".to_owned()),
            after => Ok(Timeout::After(after)),
        },
    }
}

impl JobOptions {
    /// Refuses a lane that no worker will ever look at.
    pub(crate) async fn check_lane(&self, client: &Client) -> anyhow::Result<()> {
        cmd::queue::check_lane(client, &self.queue, self.priority).await
    }

    /// A job for `task` with these options.
    pub(crate) fn job(&self, task: TaskName) -> anyhow::Result<Job> {
        let mut job = Job::new(task);
        job.queue = self.queue.clone();
        job.priority = self.priority;
        job.run_at = match self.delay {
            Some(delay) => Some(time::ahead(delay)?),
            None => self.at,
        };
        job.max_attempts = self.max_attempts;
        job.backoff = self.backoff;
        job.timeout = self.timeout;
        job.deadline = self.deadline.map(time::ahead).transpose()?;
        job.expires = self.expires.map(time::ahead).transpose()?;
        job.keep_result = self.no_result.then_some(false);
        job.headers = headers(&self.headers)?;
        Ok(job)
    }
}

/// Headers of the submitter's own. Ours and the server's are set by options.
pub(crate) fn headers(pairs: &[(String, String)]) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let refused =
            |why: &str| report::usage(format!("header `{name}={value}` can't be sent: {why}"));
        if name.starts_with(PREFIX) || name.starts_with(SERVER_PREFIX) || name == "Content-Type" {
            return Err(refused("the name is reserved"));
        }
        let name: HeaderName = name
            .parse()
            .map_err(|_| refused("the name is not a header's"))?;
        let value: HeaderValue = value
            .parse()
            .map_err(|_| refused("the value holds a line break"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// Enqueues.
pub(crate) async fn run(args: SubmitArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    if args.lines.is_given() {
        return lines::run(args.lines, args.task, args.options, args.json, connect).await;
    }
    let Some(task) = &args.task else {
        return Err(report::usage("no task is named"));
    };
    // Everything that can be wrong is found before a connection is made.
    let mut job = args.options.job(task.clone())?;
    job.args = arguments(&args)?;
    job.content_type = args.content_type.clone();
    let job = args.unique.apply(job)?;
    let client = cmd::connect(connect).await?;
    cmd::queue::check_lane(&client, &job.queue, job.priority).await?;
    submit(&client, job, &args).await
}

fn arguments(args: &SubmitArgs) -> anyhow::Result<Bytes> {
    let Some(argument) = &args.arguments else {
        return Ok(Bytes::new());
    };
    let is_json = args
        .content_type
        .as_ref()
        .is_none_or(|kind| kind.contains("json"));
    if !is_json {
        return Ok(read::bytes(argument)?.into());
    }
    let value = read::json("arguments", argument)?;
    Ok(serde_json::to_vec(&value)?.into())
}

async fn submit(client: &Client, job: Job, args: &SubmitArgs) -> anyhow::Result<ExitCode> {
    let enqueued = client.enqueue(job).await?;
    let id = &enqueued.address.id;
    if !enqueued.is_new {
        let there = match enqueued.place {
            Place::Results => "ended in this period already",
            _ => "is there already",
        };
        report::note(format_args!(
            "a job `{id}` for task `{}` {there}; nothing was enqueued",
            enqueued.address.task
        ));
    } else if enqueued.replaced {
        report::note(format_args!("it replaced the job `{id}` that waited"));
    }
    if args.wait {
        if !args.json {
            report::note(format_args!("job {id}"));
        }
        let waiting = wait::Waiting {
            address: &enqueued.address,
            nonce: enqueued.nonce.as_deref(),
            timeout: args.wait_timeout,
            json: args.json,
        };
        return waiting.run(client).await;
    }
    if args.json {
        out::json(&serde_json::json!({
            "id": id,
            "queue": enqueued.address.lane.queue,
            "priority": enqueued.address.lane.priority,
            "task": enqueued.address.task,
            "state": match enqueued.place {
                Place::Jobs => "queued",
                Place::Results => "done",
                other => other.token(),
            },
            "is_new": enqueued.is_new,
            "replaced": enqueued.replaced,
        }))?;
    } else {
        out::line(id.as_str())?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Harness {
        #[command(flatten)]
        args: SubmitArgs,
    }

    fn parse(line: &[&str]) -> Result<SubmitArgs, clap::Error> {
        let words = std::iter::once("x").chain(line.iter().copied());
        Harness::try_parse_from(words).map(|harness| harness.args)
    }

    #[test]
    fn options_become_the_job() {
        let args = parse(&[
            "mail.send",
            "{\"a\": 1}",
            "-q",
            "mail",
            "--priority",
            "high",
            "--in",
            "10m",
            "--max-attempts",
            "3",
            "--backoff",
            "1s,2,1h",
            "--timeout",
            "never",
            "--expires",
            "1h",
            "--no-result",
            "-H",
            "tenant=a",
            "--id",
            "m-1",
        ])
        .unwrap();
        let job = args.options.job(args.task.clone().unwrap()).unwrap();
        assert_eq!((job.queue.as_str(), job.priority), ("mail", Priority::High));
        assert!(job.run_at.unwrap() > repull::clock::now());
        assert_eq!(
            (job.max_attempts, job.timeout),
            (Some(3), Some(Timeout::Never))
        );
        assert_eq!(job.keep_result, Some(false));
        assert_eq!(job.headers.get("tenant").unwrap().as_str(), "a");
        assert_eq!(&arguments(&args).unwrap()[..], b"{\"a\":1}");
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for line in [
            &["echo", "--in", "1s", "--at", "2026-11-23T10:00:00Z"][..],
            &["echo", "--max-attempts", "0"],
            &["echo", "--timeout", "0s"],
            &["echo", "--priority", "urgent"],
            &["echo", "--wait-timeout", "1s"],
            &["a..b"],
            &["echo", "--queue", "a.b"],
            &["echo", "{}", "--lines", "x"],
            &[],
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn reserved_and_broken_headers_are_refused() {
        for (name, value) in [
            ("Repull-Attempt", "1"),
            ("Nats-Msg-Id", "1"),
            ("Content-Type", "x"),
            ("a b", "1"),
            ("a", "1\n2"),
        ] {
            let error = headers(&[(name.into(), value.into())]).unwrap_err();
            assert!(
                error.to_string().contains("can't be sent"),
                "{name}: {error}"
            );
        }
    }
}
