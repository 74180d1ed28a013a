//! Kills what a test process leaves behind when it cannot clean up itself.
//!
//! Dropping a child kills it, but nothing is dropped when the test process is killed or interrupted.
//! So each test process keeps one small shell beside it that knows the children by number and waits
//! on a pipe: the pipe ends with the test process, however that ends, and the shell kills the rest.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

const SCRIPT: &str = r#"
children=
while read -r sign pid; do
    if [ "$sign" = + ]; then
        children="$children $pid"
    else
        left=
        for child in $children; do [ "$child" = "$pid" ] || left="$left $child"; done
        children=$left
    fi
done
for child in $children; do kill -9 "$child" 2>/dev/null; done
"#;

static PIPE: LazyLock<Mutex<Option<ChildStdin>>> = LazyLock::new(|| Mutex::new(start()));

fn start() -> Option<ChildStdin> {
    let shell = Command::new("sh")
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Its own group: an interrupt from the terminal must not reach it.
        .process_group(0)
        .spawn();
    shell.ok()?.stdin
}

fn write(sign: char, pid: u32) {
    let mut pipe = PIPE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pipe) = pipe.as_mut() {
        // Without the shell tests still pass; only an interrupted run leaves processes behind.
        let _ = writeln!(pipe, "{sign} {pid}");
    }
}

/// A child that must not outlive this process.
pub(crate) fn watch(pid: u32) {
    write('+', pid);
}

/// A child that has ended: its number may belong to another process soon.
pub(crate) fn forget(pid: u32) {
    write('-', pid);
}
