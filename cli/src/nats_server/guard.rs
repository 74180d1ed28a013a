//! Ends the server when we can't: a small shell that waits on a pipe which ends with this process,
//! also by SIGKILL.

use std::path::Path;
use std::process::Stdio;

use anyhow::Context;
use tokio::process::{Child, Command};

/// `$1` is the server, `$2` a folder to remove after it, or nothing.
const SCRIPT: &str = r#"
while read -r _; do :; done
kill -TERM "$1" 2>/dev/null
[ -n "$2" ] || exit 0
for _ in 1 2 3 4 5 6 7 8 9 10; do
    kill -0 "$1" 2>/dev/null || break
    sleep 1
done
rm -rf -- "$2"
"#;

/// The shell; it ends without doing anything where this value is dropped.
#[derive(Debug)]
pub(super) struct Guard {
    _shell: Child,
}

impl Guard {
    /// Sets a guard over a server, and over its folder where that goes with it.
    pub(super) fn set(server: u32, folder: Option<&Path>) -> anyhow::Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "repull-guard", &server.to_string()])
            .arg(folder.unwrap_or(Path::new("")))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Its own group: a Ctrl-C in the terminal is ours alone.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("can't start `sh` to guard nats-server")?;
        Ok(Self { _shell: shell })
    }
}
