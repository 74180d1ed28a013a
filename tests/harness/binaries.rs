//! Where the programs are that tests start: our own, freshly built, and a nats-server.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

/// One of Repull's programs, or of its examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    /// `repull-worker`, the stock worker.
    Worker,
    /// `repull-scheduler`.
    Scheduler,
    /// `repull`, the operator's command.
    Cli,
    /// One of the worker's examples.
    Example(&'static str),
}

impl Binary {
    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Worker => "repull-worker",
            Self::Scheduler => "repull-scheduler",
            Self::Cli => "repull",
            Self::Example(name) => name,
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Worker | Self::Example(_) => "repull-worker",
            Self::Scheduler => "repull-scheduler",
            Self::Cli => "repull-cli",
        }
    }

    /// The program's path, built from the sources as they are now.
    ///
    /// Cargo builds a package's own binaries for its tests, but not those of other packages, so the
    /// first use in a test process asks it to; when nothing changed that takes a moment. Whoever
    /// has built them (`tools/test`) says so by `REPULL_TESTS_BUILT`.
    pub fn path(self) -> PathBuf {
        static BUILT: OnceLock<Mutex<HashMap<Binary, PathBuf>>> = OnceLock::new();
        let mut built = BUILT
            .get_or_init(Mutex::default)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        built.entry(self).or_insert_with(|| self.build()).clone()
    }

    fn build(self) -> PathBuf {
        let folder = profile_folder();
        let (kind, path) = match self {
            Self::Example(name) => ("--example", folder.join("examples").join(name)),
            _ => ("--bin", folder.join(self.name())),
        };
        if std::env::var_os("REPULL_TESTS_BUILT").is_some() && path.is_file() {
            return path;
        }
        let profile = match folder.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(name) => name,
        };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .current_dir(repository())
            .args(["build", "--quiet", "--profile", profile])
            .args(["--package", self.package(), kind, self.name()])
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("cannot run cargo: {error}"));
        assert!(
            output.status.success(),
            "cannot build `{}`:\n{}",
            self.name(),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(path.is_file(), "cargo built no `{}`", path.display());
        path
    }
}

/// `target/<profile>`, where the running test was built.
fn profile_folder() -> PathBuf {
    let executable = std::env::current_exe().expect("the test's own path");
    let folder = executable.parent().expect("the test's folder");
    match folder.file_name().and_then(|name| name.to_str()) {
        Some("deps" | "examples") => folder.parent().expect("the profile's folder").to_owned(),
        _ => folder.to_owned(),
    }
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests are a member's folder")
}

/// A nats-server new enough for Repull, fetched if need be; see `tools/nats-server`.
pub fn nats_server() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let output = Command::new(repository().join("tools/nats-server"))
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("cannot run tools/nats-server: {error}"));
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    })
}
