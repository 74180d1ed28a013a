//! The scheduler as a process of its own, so that its memory and its time are its alone.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use repull::connect::Settings;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How often the process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long a start may take, and how long a scheduler may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(600);

/// In which the system counts processor time, on every architecture that we know.
const TICKS_PER_SECOND: f64 = 100.0;

/// A scheduler's process. Killed on drop.
pub(super) struct SchedulerProcess {
    child: Child,
    port: u16,
    /// From its start until it was ready.
    pub(super) ready_after: Duration,
}

/// What a process has used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// Resident memory now, in bytes.
    pub(super) memory: f64,
    /// The most it ever was.
    pub(super) memory_peak: f64,
    /// Processor time, in seconds.
    pub(super) cpu: f64,
}

impl SchedulerProcess {
    /// Starts it and waits until it leads.
    pub(super) async fn start(
        program: Option<PathBuf>,
        settings: &Settings,
    ) -> anyhow::Result<Self> {
        let program = match program {
            Some(program) => program,
            None => std::env::current_exe()?.with_file_name("repull-scheduler"),
        };
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let started = Instant::now();
        let child = Command::new(&program)
            // Longer than it is frozen for, to see it catch up by itself.
            .args(["--lease=60s", "--log=warn"])
            .arg(format!("--http=127.0.0.1:{port}"))
            .env("NATS_URL", &settings.servers)
            .env("REPULL_NAMESPACE", settings.namespace.as_str())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| {
                format!(
                    "can't start `{}`, expected the scheduler's program there or named by --scheduler",
                    program.display()
                )
            })?;
        let mut process = Self {
            child,
            port,
            ready_after: Duration::ZERO,
        };
        process.wait_for("/readyz", |_| true).await?;
        process.ready_after = started.elapsed();
        process
            .wait_for("/metrics", |page| {
                metric(page, "repull_scheduler_leader") == Some(1.0)
            })
            .await?;
        Ok(process)
    }

    /// Waits until it knows that many schedules.
    pub(super) async fn knows(&mut self, schedules: usize) -> anyhow::Result<()> {
        self.wait_for("/metrics", |page| {
            metric(page, "repull_scheduler_schedules") == Some(schedules as f64)
        })
        .await
    }

    /// Waits until a page satisfies a condition.
    async fn wait_for(&mut self, path: &str, is_so: impl Fn(&str) -> bool) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            if let Some(page) = get(self.port, path).await
                && is_so(&page)
            {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the scheduler ended with {status} in the middle of the measurement");
            }
            if started.elapsed() > PATIENCE {
                bail!("the scheduler did not come so far in {PATIENCE:?} that {path} says so");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Freezes it, or lets it go on.
    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_child(&self.child);
        Ok(kill_process(pid, signal)?)
    }

    /// What it has used; none where the system does not tell.
    pub(super) fn usage(&self) -> Option<Usage> {
        let folder = PathBuf::from(format!("/proc/{}", self.child.id()));
        let status = std::fs::read_to_string(folder.join("status")).ok()?;
        let kilobytes = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<f64>().ok()
        };
        let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
        // After the name, which may hold spaces: the state, then utime and stime as 12th and 13th.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
        Some(Usage {
            memory: kilobytes("VmRSS:")? * 1024.0,
            memory_peak: kilobytes("VmHWM:")? * 1024.0,
            cpu: (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
        })
    }

    /// Asks it to end and waits until it has.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        while self.child.try_wait()?.is_none() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

impl Drop for SchedulerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A page that is answered with 200.
async fn get(port: u16, path: &str) -> Option<String> {
    let exchange = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), exchange).await;
    let answer = answer.ok()?.ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(answer)
}

fn metric(page: &str, name: &str) -> Option<f64> {
    page.lines().find_map(|line| {
        line.strip_prefix(name)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let page = "HTTP/1.1 200 OK\r\n\r\n# HELP a b\nleader_changes_total 2\nleader 1\n";
        assert_eq!(metric(page, "leader"), Some(1.0));
        assert_eq!(metric(page, "schedules"), None);
    }
}
