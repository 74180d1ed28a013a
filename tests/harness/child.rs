//! A child process: its signals, its exit, and every line it wrote.
//!
//! Lines are read by threads, not tasks, so that they are complete even when the test's runtime is
//! busy or gone, and can be printed when the test panics.

use std::io::{BufRead, BufReader, PipeReader};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::process::Command;
use tokio::sync::watch;

use crate::reaper;

const LINES_SHOWN: usize = 200;

/// How often, a millisecond apart, a frozen process is looked at before we give up on it.
const PAUSE_LOOKS: u32 = 10_000;

/// Which of a child's outputs a line was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

struct Line {
    stream: Stream,
    text: String,
}

/// What a child wrote so far; shared with the threads that read it.
#[derive(Clone)]
struct Lines {
    lines: Arc<Mutex<Vec<Line>>>,
    count: Arc<watch::Sender<usize>>,
}

impl Lines {
    fn new() -> Self {
        Self {
            lines: Arc::default(),
            count: Arc::new(watch::Sender::new(0)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn collect(&self, stream: Stream, reader: PipeReader) -> std::thread::JoinHandle<()> {
        let lines = self.clone();
        std::thread::spawn(move || {
            for bytes in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
                let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                let count = {
                    let mut all = lines.lock();
                    all.push(Line { stream, text });
                    all.len()
                };
                lines.count.send_replace(count);
            }
        })
    }
}

/// A running or ended child process. Killed on drop.
pub(crate) struct Child {
    name: String,
    inner: tokio::process::Child,
    pid: u32,
    lines: Lines,
    readers: Vec<std::thread::JoinHandle<()>>,
    ended: Option<ExitStatus>,
}

impl Child {
    /// Starts `command` with its outputs captured and no input.
    pub(crate) fn spawn(name: &str, mut command: Command) -> Self {
        let lines = Lines::new();
        let (stdout, stdout_writer) = std::io::pipe().expect("a pipe");
        let (stderr, stderr_writer) = std::io::pipe().expect("a pipe");
        command
            .stdin(Stdio::null())
            .stdout(stdout_writer)
            .stderr(stderr_writer)
            .kill_on_drop(true);
        let inner = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start `{name}`: {error}"));
        // The command holds the pipes' other ends; the readers would never see them closed.
        drop(command);
        let pid = inner.id().expect("a child that was just started");
        reaper::watch(pid);
        let readers = vec![
            lines.collect(Stream::Stdout, stdout),
            lines.collect(Stream::Stderr, stderr),
        ];
        Self {
            name: name.to_owned(),
            inner,
            pid,
            lines,
            readers,
            ended: None,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal; does nothing to a process that has ended.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.try_wait().is_some() {
            return;
        }
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let pid = pid.expect("a process number");
        kill_process(pid, signal)
            .unwrap_or_else(|error| panic!("cannot signal `{}`: {error}", self.name));
    }

    /// Freezes it (SIGSTOP), and returns when every one of its threads stands still: until then a
    /// thread on another core could still answer somebody.
    pub(crate) fn pause(&mut self) {
        self.signal(Signal::STOP);
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let process = WaitId::Pid(pid.expect("a process number"));
        // Only looks: taking the status away is the business of whoever waits for the exit.
        let look = WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        for _ in 0..PAUSE_LOOKS {
            if matches!(waitid(process.clone(), look), Ok(Some(status)) if status.stopped())
                || self.try_wait().is_some()
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("`{}` does not stand still after SIGSTOP", self.name);
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    /// The exit status, if it has ended.
    pub(crate) fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none()
            && let Ok(Some(status)) = self.inner.try_wait()
        {
            self.end(status);
        }
        self.ended
    }

    /// Waits for the exit and for the last line. Panics at the deadline.
    pub(crate) async fn wait(&mut self, within: Duration) -> ExitStatus {
        if let Some(status) = self.ended {
            return status;
        }
        let Ok(status) = tokio::time::timeout(within, self.inner.wait()).await else {
            panic!(
                "not within {within:?}: `{}` exits\n{}",
                self.name,
                self.tail()
            );
        };
        let status = status.unwrap_or_else(|error| panic!("cannot wait: {error}"));
        self.end(status);
        status
    }

    fn end(&mut self, status: ExitStatus) {
        self.ended = Some(status);
        reaper::forget(self.pid);
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait(Duration::from_secs(30)).await;
    }

    /// Waits until everything the ended child wrote has been read, as far as its own descendants
    /// let go of the pipes.
    pub(crate) async fn wait_for_readers(&self) {
        let done = || {
            self.readers
                .iter()
                .all(std::thread::JoinHandle::is_finished)
        };
        for _ in 0..200 {
            if done() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for a line for which `pick` has an answer, from the first line on. Panics at the
    /// deadline, or at once when the child ended without such a line.
    pub(crate) async fn wait_for<T>(
        &mut self,
        what: &str,
        within: Duration,
        pick: impl Fn(&str) -> Option<T>,
    ) -> T {
        match self.look_for(within, pick).await {
            Ok(found) => found,
            Err(missed) => panic!("{missed}: `{}` writes {what}\n{}", self.name, self.tail()),
        }
    }

    /// As [`Child::wait_for`], but says how it was missed instead of panicking.
    pub(crate) async fn look_for<T>(
        &mut self,
        within: Duration,
        pick: impl Fn(&str) -> Option<T>,
    ) -> Result<T, String> {
        let lines = self.lines.clone();
        let mut count = lines.count.subscribe();
        let mut looked_at = 0;
        let mut find = move || {
            let all = lines.lock();
            let found = all[looked_at..].iter().find_map(|line| pick(&line.text));
            looked_at = all.len();
            found
        };
        let deadline = tokio::time::Instant::now() + within;
        loop {
            if let Some(found) = find() {
                return Ok(found);
            }
            tokio::select! {
                changed = count.changed() => changed.expect("the sender lives in self"),
                status = self.inner.wait() => {
                    let status = status.map_err(|error| format!("cannot wait: {error}"))?;
                    self.end(status);
                    self.wait_for_readers().await;
                    return find().ok_or_else(|| format!("ended with {status} first"));
                }
                () = tokio::time::sleep_until(deadline) => {
                    return Err(format!("not within {within:?}"));
                }
            }
        }
    }

    /// What it wrote to one of its outputs.
    pub(crate) fn text(&self, stream: Stream) -> String {
        let lines = self.lines.lock();
        let of_stream = lines.iter().filter(|line| line.stream == stream);
        of_stream.map(|line| format!("{}\n", line.text)).collect()
    }

    /// All lines, in the order in which they were read.
    pub(crate) fn all_lines(&self) -> Vec<String> {
        let lines = self.lines.lock();
        lines.iter().map(|line| line.text.clone()).collect()
    }

    /// The last lines, for the text of a panic.
    pub(crate) fn tail(&self) -> String {
        let lines = self.lines.lock();
        let skipped = lines.len().saturating_sub(LINES_SHOWN);
        let mut text = format!("--- `{}` (process {}) wrote:\n", self.name, self.pid);
        if skipped > 0 {
            text += &format!("    ({skipped} lines before)\n");
        }
        for line in &lines[skipped..] {
            text += &format!("    {}\n", line.text);
        }
        text
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprint!("{}", self.tail());
        }
        if self.try_wait().is_some() {
            return;
        }
        let _ = self.inner.start_kill();
        // A killed process ends in a moment. Whoever drops this removes its folder next, and
        // should not race with its last writes.
        for _ in 0..400 {
            if self.try_wait().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
