//! What a process has used, where the system tells in the way of Linux.

use std::path::PathBuf;
use std::time::Duration;

/// The unit of processor times in `/proc`: fixed for programs at 100 on all of Linux's common platforms.
const TICKS_PER_SECOND: u64 = 100;

/// What a process has used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Resident memory now, in bytes.
    pub(crate) memory: f64,
    /// The most it ever was.
    pub(crate) memory_peak: f64,
    /// Processor time.
    pub(crate) cpu: Duration,
}

impl Usage {
    /// Of a process; none where the system does not tell.
    pub(crate) fn of(process: u32) -> Option<Self> {
        let folder = PathBuf::from(format!("/proc/{process}"));
        let status = std::fs::read_to_string(folder.join("status")).ok()?;
        let bytes = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            let kilobytes = line.split_whitespace().nth(1)?.parse::<f64>().ok()?;
            Some(kilobytes * 1024.0)
        };
        let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
        // After the name in brackets, which may hold spaces: user and system time are 11 and 12 fields
        // on, see proc_pid_stat(5).
        let (_, fields) = stat.rsplit_once(") ")?;
        let mut fields = fields.split(' ').skip(11).map(str::parse::<u64>);
        let ticks = fields.next()?.ok()? + fields.next()?.ok()?;
        Some(Self {
            memory: bytes("VmRSS:")?,
            memory_peak: bytes("VmHWM:")?,
            cpu: Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_uses_memory() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.memory > 0.0 && usage.memory_peak >= usage.memory);
    }
}
