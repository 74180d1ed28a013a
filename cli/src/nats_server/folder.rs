//! The folder that a server keeps its data in: one user at a time, and nothing left running in it.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::ui::report::{hinted, note};

/// How long a server that was left behind may take to end in good order.
const STALE_TIMEOUT: Duration = Duration::from_secs(10);

/// A data folder that nobody else uses while this value lives: the operating system frees the lock
/// however this process ends.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: File,
    /// Set where the folder goes with this value.
    temporary: Option<TempDir>,
}

impl DataFolder {
    /// Takes a folder, which is made where it is not there yet, and ends a server that an earlier
    /// user left behind in it.
    pub(crate) async fn open(path: &Path) -> anyhow::Result<Self> {
        let folder = Self::take(path, None)?;
        folder.end_stale_server().await?;
        Ok(folder)
    }

    /// Makes a folder that is removed with this value.
    pub(crate) fn temporary() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("repull-")
            .tempdir()
            .context("can't make a temporary folder")?;
        let path = folder.path().to_owned();
        Self::take(&path, Some(folder))
    }

    fn take(path: &Path, temporary: Option<TempDir>) -> anyhow::Result<Self> {
        let shown = path.display();
        std::fs::create_dir_all(path)
            .with_context(|| format!("can't make the folder `{shown}`"))?;
        // Absolute, so that the server's arguments name it whatever the working folder is.
        let path = path
            .canonicalize()
            .with_context(|| format!("can't use the folder `{shown}`"))?;
        let lock = lock(&path)?;
        Ok(Self {
            path,
            _lock: lock,
            temporary,
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it goes with this value.
    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    /// What the server is told.
    pub(super) fn config(&self) -> PathBuf {
        self.path.join("nats-server.conf")
    }

    /// What the server says.
    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("nats-server.log")
    }

    fn pid_file(&self) -> PathBuf {
        self.path.join("nats-server.pid")
    }

    /// Remembers the process that uses the folder, for the case that we can't end it ourselves.
    pub(super) fn remember(&self, pid: u32) -> anyhow::Result<()> {
        let file = self.pid_file();
        std::fs::write(&file, format!("{pid}\n"))
            .with_context(|| format!("can't write `{}`", file.display()))
    }

    /// Nothing uses the folder any more.
    pub(super) fn forget(&self) {
        // One that stays names a process that is gone or is somebody else's: found out when read.
        let _ = std::fs::remove_file(self.pid_file());
    }

    /// Two servers on the same data would destroy it. We hold the lock, so a server that still runs
    /// here has lost its owner.
    async fn end_stale_server(&self) -> anyhow::Result<()> {
        let Some(pid) = self.stale_server() else {
            self.forget();
            return Ok(());
        };
        let number = pid.as_raw_nonzero();
        note(format_args!(
            "note: ending the nats-server (process {number}) that an earlier start left behind"
        ));
        let _ = kill_process(pid, Signal::TERM);
        if !is_gone_within(STALE_TIMEOUT, || self.stale_server().is_none()).await {
            let _ = kill_process(pid, Signal::KILL);
            if !is_gone_within(STALE_TIMEOUT, || self.stale_server().is_none()).await {
                bail!(
                    "nats-server (process {number}) still uses `{}` and can't be ended",
                    self.path.display()
                );
            }
        }
        self.forget();
        Ok(())
    }

    /// The remembered process, where it lives and is the server of this folder and not another
    /// process that was given its number.
    fn stale_server(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.pid_file()).ok()?;
        let pid = Pid::from_raw(text.trim().parse().ok()?)?;
        test_kill_process(pid).ok()?;
        let config = self.config().to_string_lossy().into_owned();
        arguments(pid)?.contains(&config).then_some(pid)
    }
}

/// Locks the folder, and leaves our number in the lock for whoever finds it taken.
fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("lock");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("can't write to the folder `{}`", folder.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            let _ = file.read_to_string(&mut owner);
            return Err(in_use(folder, owner.trim()));
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("can't lock `{}`", path.display()));
        }
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .with_context(|| format!("can't write to the folder `{}`", folder.display()))?;
    Ok(file)
}

fn in_use(folder: &Path, owner: &str) -> anyhow::Error {
    let owner = match owner {
        "" => String::new(),
        number => format!(" (process {number})"),
    };
    hinted(
        anyhow::anyhow!(
            "the data folder `{}` is in use by another `repull dev`{owner}",
            folder.display()
        ),
        "end that one first, or name another folder with --data",
    )
}

/// A process's command line, from the kernel where it tells, else from `ps`.
fn arguments(pid: Pid) -> Option<String> {
    let number = pid.as_raw_nonzero().to_string();
    if let Ok(bytes) = std::fs::read(format!("/proc/{number}/cmdline")) {
        return Some(String::from_utf8_lossy(&bytes).replace('\0', " "));
    }
    let output = std::process::Command::new("ps")
        .args(["-o", "args=", "-p", &number])
        .output()
        .ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn is_gone_within(timeout: Duration, is_gone: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + timeout;
    while !is_gone() {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_has_one_user_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let first = DataFolder::open(&path).await.unwrap();
        let refused = DataFolder::open(&path).await.unwrap_err().to_string();
        let number = std::process::id().to_string();
        assert!(
            refused.contains("in use") && refused.contains(&number),
            "{refused}"
        );
        drop(first);
        DataFolder::open(&path).await.unwrap();
    }

    #[tokio::test]
    async fn a_remembered_number_of_another_process_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(parent.path()).await.unwrap();
        folder.remember(std::process::id()).unwrap();
        assert_eq!(folder.stale_server(), None);
        folder.end_stale_server().await.unwrap();
        assert!(!folder.pid_file().exists());
    }

    #[test]
    fn a_temporary_folder_goes_with_its_value() {
        let folder = DataFolder::temporary().unwrap();
        let path = folder.path().to_owned();
        assert!(path.is_dir() && folder.is_temporary());
        drop(folder);
        assert!(!path.exists());
    }
}
