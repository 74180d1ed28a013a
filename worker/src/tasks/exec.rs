//! A task that is a program: arguments on stdin, the value on stdout, the log on stderr.
//!
//! | It ends with | The attempt |
//! | --- | --- |
//! | 0, or one of `success_codes` | succeeded; stdout is the value |
//! | 64 or 65 (`EX_USAGE`, `EX_DATAERR`), or one of `permanent_codes` | failed for good |
//! | 75 (`EX_TEMPFAIL`), any other code, a signal | failed, tried again |
//!
//! The program leads a process group. On timeout or cancel the group gets SIGTERM, and SIGKILL a
//! little before the grace is over; whatever of the group is left when the program has ended is
//! killed too. The variables of the connection to NATS and of the worker (`NATS_*`, `REPULL_*`) are
//! not handed on; the job is described by variables of its own.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use repull::telemetry::trace;
use repull::wire;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};

use super::group::Group;
use super::text::Bounded;
use crate::run::{Context, Handler, Output, TaskError, raw};

/// A line of stderr longer than this is logged in pieces.
const LINE_BYTES_MAX: usize = 4 * 1024;

/// How long output is waited for after the program ended and its group was killed: a process that
/// left the group may hold the pipe open for ever.
const PIPE_PATIENCE: Duration = Duration::from_secs(1);

/// How much of stderr's end goes into the error of a failed attempt, in characters.
const ERROR_TAIL_CHARS: usize = 200;

/// A program and how it is run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ExecSpec {
    /// The program as the file names it.
    pub(super) name: String,
    /// The same, found.
    pub(super) program: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) cwd: Option<PathBuf>,
    pub(super) env: Vec<(String, String)>,
    pub(super) success_codes: Vec<i32>,
    pub(super) permanent_codes: Vec<i32>,
}

/// The program of this name: a path, from `cwd` if relative, or a name to be found on PATH.
pub(super) fn find_program(name: &str, cwd: Option<&Path>) -> Option<PathBuf> {
    let candidates: Vec<PathBuf> = if name.contains('/') {
        // Relative paths are resolved here: the system leaves open from where it would.
        let base = std::path::absolute(cwd.unwrap_or(Path::new("."))).ok()?;
        vec![base.join(name)]
    } else {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .map(|folder| folder.join(name))
            .collect()
    };
    candidates.into_iter().find(|path| {
        path.metadata()
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
}

/// The handler that runs it.
pub(super) fn handler(spec: Arc<ExecSpec>) -> Handler {
    raw(move |context: Context, body| {
        let spec = spec.clone();
        async move { spec.run(&context, &body).await }
    })
}

impl ExecSpec {
    async fn run(&self, context: &Context, body: &[u8]) -> Result<Output, TaskError> {
        let mut child = self
            .command(context)
            .spawn()
            .map_err(|error| TaskError::retry(format!("can't start `{}`: {error}", self.name)))?;
        let mut group = Group::of(&child);
        let mut value = Bounded::new(context.value_bytes_max());
        let mut log = Log::new(context);
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let status = {
            let mut pipes = std::pin::pin!(async {
                tokio::join!(
                    feed(stdin, body),
                    drain(stdout, |bytes| value.push(bytes)),
                    drain(stderr, |bytes| log.push(bytes)),
                );
            });
            // The pipes must be served while the program runs: it blocks on a full one.
            let mut are_served = false;
            let mut ended = std::pin::pin!(end_of(&mut child, &mut group, context));
            let status = loop {
                tokio::select! {
                    status = &mut ended => break status,
                    () = &mut pipes, if !are_served => are_served = true,
                }
            };
            if !are_served {
                let patience = PIPE_PATIENCE.min(context.cancel_grace() / 10);
                let _ = tokio::time::timeout(patience, pipes).await;
            }
            status
        };
        log.finish();
        if let Some(bytes) = value.overflow() {
            context.log(format!(
                "(stdout had {bytes} bytes, the first {} are the value)",
                context.value_bytes_max()
            ));
        }
        let status =
            status.map_err(|error| TaskError::retry(format!("lost `{}`: {error}", self.name)))?;
        self.judge(status, value, &log)
    }

    fn command(&self, context: &Context) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg0(&self.name)
            .args(&self.args)
            .process_group(0)
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| !is_ours(name)))
            .envs(describe(context))
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        command
    }

    fn judge(
        &self,
        status: ExitStatus,
        value: Bounded,
        log: &Log<'_>,
    ) -> Result<Output, TaskError> {
        use std::os::unix::process::ExitStatusExt;
        let ended = match (status.code(), status.signal()) {
            (Some(code), _) if self.success_codes.contains(&code) => {
                return Ok(value.into_output());
            }
            (Some(code), _) => format!("ended with exit code {code}"),
            (None, signal) => format!("was killed by signal {}", signal.unwrap_or_default()),
        };
        let error = format!("`{}` {ended}{}", self.name, log.tail());
        let is_permanent = status
            .code()
            .is_some_and(|code| self.permanent_codes.contains(&code));
        Err(if is_permanent {
            TaskError::permanent(error)
        } else {
            TaskError::retry(error)
        })
    }
}

/// Waits for the program's end, and sees to it when the attempt is cancelled. What is left of its
/// group is gone after that.
async fn end_of(
    child: &mut Child,
    group: &mut Group,
    context: &Context,
) -> std::io::Result<ExitStatus> {
    let ended = tokio::select! {
        status = child.wait() => Some(status),
        () = context.cancelled() => None,
    };
    let status = match ended {
        Some(status) => status,
        None => {
            group.terminate();
            // Before the grace is over: it must be this code that sees the end.
            let patience = context.cancel_grace().mul_f64(0.8);
            match tokio::time::timeout(patience, child.wait()).await {
                Ok(status) => status,
                Err(_) => {
                    group.kill();
                    child.wait().await
                }
            }
        }
    };
    group.kill();
    status
}

/// Writes the arguments. A program that does not read them all closes the pipe, which is its right.
async fn feed(stdin: Option<ChildStdin>, body: &[u8]) {
    if let Some(mut stdin) = stdin
        && let Err(error) = stdin.write_all(body).await
        && error.kind() != ErrorKind::BrokenPipe
    {
        tracing::debug!(%error, "a program's stdin broke");
    }
}

/// Reads a pipe to its end.
async fn drain<R: AsyncRead + Unpin>(pipe: Option<R>, mut take: impl FnMut(&[u8])) {
    let Some(mut pipe) = pipe else {
        return;
    };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(bytes @ 1..) = pipe.read(&mut buffer).await {
        take(&buffer[..bytes]);
    }
}

/// Variables that concern the worker and not the program; the connection's secrets are among them.
pub(super) fn is_ours(name: &OsString) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b"NATS_") || name.starts_with(b"REPULL_")
}

/// The job as variables.
fn describe(context: &Context) -> Vec<(&'static str, String)> {
    let job = context.job();
    let mut variables = vec![
        ("REPULL_JOB_ID", job.id.to_string()),
        ("REPULL_TASK", job.task.to_string()),
        ("REPULL_QUEUE", job.queue.to_string()),
        ("REPULL_ATTEMPT", context.attempt().to_string()),
        ("REPULL_MAX_ATTEMPTS", context.max_attempts().to_string()),
        ("REPULL_WORKER", context.worker().to_string()),
    ];
    let optional = [
        ("REPULL_DEADLINE", context.deadline().map(wire::write_time)),
        (
            "REPULL_SCHEDULE",
            job.schedule.as_ref().map(ToString::to_string),
        ),
        ("REPULL_FIRE", job.fire.map(wire::write_time)),
        ("REPULL_CONTENT_TYPE", job.content_type.clone()),
    ];
    for (name, value) in optional {
        variables.extend(value.map(|value| (name, value)));
    }
    for (header, value) in trace::handed_on(&job.headers) {
        let name = match header {
            "traceparent" => "TRACEPARENT",
            _ => "TRACESTATE",
        };
        variables.push((name, value));
    }
    // A NUL can't stand in a variable, and spawning would fail for it.
    variables.retain(|(_, value)| !value.contains('\0'));
    variables
}

/// Stderr, line by line, into the job's log.
struct Log<'c> {
    context: &'c Context,
    line: Vec<u8>,
    last: String,
}

impl<'c> Log<'c> {
    fn new(context: &'c Context) -> Self {
        Self {
            context,
            line: Vec::new(),
            last: String::new(),
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if self.line.ends_with(b"\n") || self.line.len() >= LINE_BYTES_MAX {
                self.end_line();
            }
        }
    }

    fn finish(&mut self) {
        if !self.line.is_empty() {
            self.end_line();
        }
    }

    fn end_line(&mut self) {
        let text = String::from_utf8_lossy(&self.line).into_owned();
        let text = text.trim_end();
        self.context.log(text);
        if !text.is_empty() {
            text.clone_into(&mut self.last);
        }
        self.line.clear();
    }

    /// The last line, for the end of an error: most programs say there what was wrong.
    fn tail(&self) -> String {
        let line = self.last.trim();
        if line.is_empty() {
            return String::new();
        }
        let start = line.chars().count().saturating_sub(ERROR_TAIL_CHARS);
        format!(": {}", line.chars().skip(start).collect::<String>())
    }
}
