//! A wall clock of a process's own, which a test sets forward and back while the process runs.
//!
//! The program knows nothing of it: a few lines of C before the C library answer for the system.
//! Linux only, and it needs a C compiler, which building Repull needs as well.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use chrono::TimeDelta;

/// A clock to start processes under; see [`World::clock`](crate::World::clock).
pub struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    /// A clock that is right until it is set.
    pub(crate) fn new(folder: &Path) -> Self {
        let clock = Self {
            library: folder.join("clock.so"),
            offset: tempfile::NamedTempFile::new_in(folder)
                .and_then(|file| Ok(file.keep()?.1))
                .expect("a file for the clock"),
        };
        if !clock.library.exists() {
            clock.compile();
        }
        clock.set(TimeDelta::zero());
        clock
    }

    fn compile(&self) {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/harness/clock.c");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let status = Command::new(&compiler)
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&self.library)
            .arg(source)
            .status();
        assert!(
            status.as_ref().is_ok_and(std::process::ExitStatus::success),
            "`{}` cannot compile {source}: {status:?}",
            compiler.display()
        );
    }

    /// Sets the clock to so much after the right time, or before it.
    pub fn set(&self, off: TimeDelta) {
        let nanos = off.num_nanoseconds().expect("less than centuries");
        let file = OpenOptions::new().write(true).open(&self.offset);
        // Eight bytes that lie in one page, written at once.
        file.and_then(|file| file.write_all_at(&nanos.to_ne_bytes(), 0))
            .expect("the clock's file can be written");
    }

    /// The variables that put a process under this clock.
    pub(crate) fn variables(&self) -> [(&'static str, &Path); 2] {
        [
            ("LD_PRELOAD", &self.library),
            ("TEST_CLOCK_OFFSET", &self.offset),
        ]
    }
}
