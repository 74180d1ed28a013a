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

use super::super::usage::Usage;

/// How often the process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long a start may take, and how long a scheduler may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(600);

/// A scheduler's process. Killed on drop.
pub(crate) struct SchedulerProcess {
    child: Child,
    port: u16,
    /// From its start until it was ready.
    pub(crate) ready_after: Duration,
}

impl SchedulerProcess {
    /// Starts it and waits until it leads.
    pub(crate) async fn start(
        program: Option<PathBuf>,
        settings: &Settings,
        lease: Duration,
    ) -> anyhow::Result<Self> {
        let mut process = Self::start_beside(program, settings, lease).await?;
        process
            .wait_for("/metrics", |page| leads(page) == Some(true))
            .await?;
        Ok(process)
    }

    /// Starts it and waits until it is ready, whoever leads.
    pub(crate) async fn start_beside(
        program: Option<PathBuf>,
        settings: &Settings,
        lease: Duration,
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
            .arg("--log=warn")
            .arg(format!("--lease={}", humantime::format_duration(lease)))
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
        Ok(process)
    }

    /// Whether it leads.
    pub(crate) async fn leads(&self) -> bool {
        let page = get(self.port, "/metrics").await;
        page.and_then(|page| leads(&page)) == Some(true)
    }

    /// Waits until it knows that many schedules.
    pub(crate) async fn knows(&mut self, schedules: usize) -> anyhow::Result<()> {
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
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_child(&self.child);
        Ok(kill_process(pid, signal)?)
    }

    /// What it has used; none where the system does not tell.
    pub(crate) fn usage(&self) -> Option<Usage> {
        Usage::of(self.child.id())
    }

    /// Asks it to end and waits until it has.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
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

fn leads(page: &str) -> Option<bool> {
    metric(page, "repull_scheduler_leader").map(|leader| leader >= 1.0)
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
