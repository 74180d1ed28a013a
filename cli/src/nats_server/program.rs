//! Which `nats-server` to start: the first that is new enough.
//!
//! The same order as `tools/nats-server`: the program that `REPULL_NATS_SERVER` names, where a bad
//! one is an error and not skipped; the project's own tools folder; the PATH; where Debian keeps
//! servers.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use repull::connect::{SERVER_VERSION_MIN, ServerVersion};
use tokio::process::Command;

use crate::ui::report::hinted;

/// Names the program to use, before any other that could be found.
pub(crate) const PROGRAM_VARIABLE: &str = "REPULL_NATS_SERVER";

/// Folders of servers that are not on every user's PATH.
const SERVER_FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// How long a program may take to say its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

/// A server's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// The version it says it is.
    pub(crate) version: ServerVersion,
}

/// Finds a program that is new enough.
///
/// # Errors
/// There is none; says what was found instead, and what to do.
pub(crate) async fn find() -> anyhow::Result<Program> {
    if let Some(named) = std::env::var_os(PROGRAM_VARIABLE).filter(|named| !named.is_empty()) {
        let path = PathBuf::from(named);
        return look_at(&path).await.map_err(|error| {
            hinted(
                error.context(format!("{PROGRAM_VARIABLE} is `{}`", path.display())),
                format!("unset it, or point it at a nats-server of at least {SERVER_VERSION_MIN}"),
            )
        });
    }
    let mut refused = Vec::new();
    for path in candidates() {
        match look_at(&path).await {
            Ok(program) => return Ok(program),
            Err(error) => refused.push(format!("`{}`: {error:#}", path.display())),
        }
    }
    let found = match refused.as_slice() {
        [] => "there is none on PATH".to_owned(),
        all => all.join("; "),
    };
    Err(hinted(
        anyhow::anyhow!("no nats-server of at least {SERVER_VERSION_MIN} was found ({found})"),
        format!(
            "run `tools/nats-server` in the project's folder, which gets one; or install one and name it in {PROGRAM_VARIABLE}"
        ),
    ))
}

/// Existing files that could be the program, best first, each once.
fn candidates() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = tools_folders()
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(SERVER_FOLDERS.map(PathBuf::from));
    let mut candidates: Vec<PathBuf> = Vec::new();
    for folder in folders.filter(|folder| folder.is_absolute()) {
        let program = folder.join("nats-server");
        if program.is_file() && !candidates.contains(&program) {
            candidates.push(program);
        }
    }
    candidates
}

/// The project's tools folders. Looked for above this program, which was built in the project, and
/// above the package that cargo runs; never above the folder one happens to stand in, which may
/// belong to anybody.
fn tools_folders() -> Vec<PathBuf> {
    let program = std::env::current_exe().unwrap_or_default();
    let package = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let above = program.ancestors().chain(package.ancestors());
    above.map(|folder| folder.join(".tools")).collect()
}

/// Asks a program for its version.
async fn look_at(path: &Path) -> anyhow::Result<Program> {
    let asked = Command::new(path)
        .arg("--version")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(VERSION_TIMEOUT, asked)
        .await
        .with_context(|| format!("did not say its version within {VERSION_TIMEOUT:?}"))?
        .context("can't be started")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let Some(version) = read_version(&said) else {
        bail!("is no nats-server, it says `{}`", first_line(&said));
    };
    if version < SERVER_VERSION_MIN {
        bail!("is version {version}, expected at least {SERVER_VERSION_MIN}");
    }
    let path = absolute(path);
    Ok(Program { path, version })
}

/// The version in `nats-server: v2.12.12`.
fn read_version(said: &str) -> Option<ServerVersion> {
    let rest = first_line(said).strip_prefix("nats-server:")?;
    ServerVersion::parse(rest)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim()
}

/// The program's place, also after the working folder has changed. A bare name stays one for PATH.
fn absolute(path: &Path) -> PathBuf {
    let is_bare = path.components().count() == 1 && path.file_name() == Some(path.as_os_str());
    if is_bare || path.as_os_str() == OsStr::new("") {
        return path.to_owned();
    }
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_what_the_program_says() {
        let version = read_version("nats-server: v2.12.0-RC.1\n").unwrap();
        assert_eq!(version.to_string(), "2.12.0");
        assert_eq!(read_version("nats: v2.12.0"), None);
        assert_eq!(read_version(""), None);
    }

    #[tokio::test]
    async fn a_program_that_is_something_else_is_refused() {
        let error = look_at(Path::new("/bin/echo")).await.unwrap_err();
        assert!(
            format!("{error:#}").contains("is no nats-server"),
            "{error:#}"
        );
        let error = look_at(Path::new("/nowhere/nats-server"))
            .await
            .unwrap_err();
        assert!(
            format!("{error:#}").contains("can't be started"),
            "{error:#}"
        );
    }
}
