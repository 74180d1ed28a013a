//! One of Repull's programs as a process of its own.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::child::{Child, Stream};
use crate::{Binary, DEADLINE, Metrics, Output, eventually, http};

/// Sets up a process: its arguments and its environment.
///
/// Variables of this machine that Repull or NATS would read are not passed on.
#[derive(Clone)]
pub struct ProcessBuilder {
    binary: Binary,
    name: String,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    built_in: Option<PathBuf>,
}

impl ProcessBuilder {
    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item: Into<OsString>>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable; the last value counts.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The folder it works in.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Takes the program from that folder, another build than that of the sources as they are now.
    #[must_use]
    pub fn built_in(mut self, folder: impl Into<PathBuf>) -> Self {
        self.built_in = Some(folder.into());
        self
    }

    /// How it is called in the report of a failed test.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(match &self.built_in {
            Some(folder) => folder.join(self.binary.name()),
            None => self.binary.path(),
        });
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("NATS_") || text.starts_with("REPULL_") {
                command.env_remove(&name);
            }
        }
        command
            .args(&self.arguments)
            .env("NO_COLOR", "1")
            .env("RUST_BACKTRACE", "1")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .kill_on_drop(true);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }

    /// Starts it and returns at once.
    pub fn spawn(self) -> Process {
        Process {
            child: Child::spawn(&self.name, self.command()),
            address: None,
        }
    }

    /// Starts it and waits until it says over HTTP that it is ready to work.
    pub async fn start(self) -> Process {
        let mut process = self.spawn();
        process.wait_until_ready().await;
        process
    }

    /// Runs it to its end with that input.
    pub async fn run(self, input: &[u8]) -> Output {
        let mut words = vec![self.binary.name().to_owned()];
        words.extend(
            self.arguments
                .iter()
                .map(|word| word.to_string_lossy().into_owned()),
        );
        let command_line = words.join(" ");
        let mut command = self.command();
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let running = async {
            let mut child = command.spawn()?;
            let mut stdin = child.stdin.take().expect("the input was piped");
            let input = input.to_vec();
            // A command that does not read its input ends this with an error that is not ours.
            let feeding = tokio::spawn(async move { stdin.write_all(&input).await });
            let output = child.wait_with_output().await;
            feeding.abort();
            output
        };
        let output = tokio::time::timeout(2 * DEADLINE, running)
            .await
            .unwrap_or_else(|_| panic!("not within {:?}: `{command_line}` ends", 2 * DEADLINE))
            .unwrap_or_else(|error| panic!("cannot run `{command_line}`: {error}"));
        Output {
            command: command_line,
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A running program. Killed on drop.
pub struct Process {
    child: Child,
    address: Option<String>,
}

impl Process {
    /// Sets up a process.
    pub fn builder(binary: Binary) -> ProcessBuilder {
        ProcessBuilder {
            binary,
            name: binary.name().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            folder: None,
            built_in: None,
        }
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Ends it at once (SIGKILL) and waits until it is gone.
    pub async fn kill(&mut self) {
        self.child.kill().await;
    }

    /// Asks it to end (SIGTERM) and returns at once.
    pub fn terminate(&mut self) {
        self.child.signal(Signal::TERM);
    }

    /// Interrupts it (SIGINT), as Ctrl-C does, and returns at once.
    pub fn interrupt(&mut self) {
        self.child.signal(Signal::INT);
    }

    /// Freezes it (SIGSTOP).
    pub fn pause(&mut self) {
        self.child.pause();
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&mut self) {
        self.child.resume();
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_none()
    }

    /// Waits until it has ended and everything it wrote is there.
    pub async fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        let status = self.child.wait(within).await;
        self.child.wait_for_readers().await;
        status
    }

    /// Asks it to end, and waits until it has; asserts that it ended well.
    pub async fn stop(&mut self) {
        self.terminate();
        let status = self.wait_exit(DEADLINE).await;
        assert!(
            status.success(),
            "`{}` ended with {status}\n{}",
            self.child.name(),
            self.child.tail()
        );
    }

    /// Waits for a line that contains `text`, among those it wrote and those to come.
    pub async fn wait_for_line(&mut self, text: &str, within: Duration) -> String {
        let pick = |line: &str| line.contains(text).then(|| line.to_owned());
        self.child
            .wait_for(&format!("`{text}`"), within, pick)
            .await
    }

    /// The lines so far that contain `text`.
    pub fn lines_with(&self, text: &str) -> Vec<String> {
        let mut lines = self.child.all_lines();
        lines.retain(|line| line.contains(text));
        lines
    }

    /// What it wrote as data so far.
    pub fn stdout(&self) -> String {
        self.child.text(Stream::Stdout)
    }

    /// What it logged so far.
    pub fn stderr(&self) -> String {
        self.child.text(Stream::Stderr)
    }

    /// The address of its HTTP server, which it logs when it starts.
    pub async fn http_address(&mut self) -> String {
        if let Some(address) = &self.address {
            return address.clone();
        }
        let what = "the address it listens on for HTTP";
        let address = self.child.wait_for(what, DEADLINE, http_address_in).await;
        self.address = Some(address.clone());
        address
    }

    /// A page of its HTTP server: the status and the body.
    pub async fn http(&mut self, path: &str) -> (u16, String) {
        let address = self.http_address().await;
        match http::get(&address, path).await {
            Ok(answer) => answer,
            Err(error) => panic!("{error:#}\n{}", self.child.tail()),
        }
    }

    /// Its metrics now.
    pub async fn metrics(&mut self) -> Metrics {
        let (status, body) = self.http("/metrics").await;
        assert_eq!(status, 200, "GET /metrics answered `{body}`");
        Metrics::parse(&body)
    }

    /// Waits until a metric, summed over its labels, satisfies `condition`; answers its value. A
    /// metric that is not there yet counts as zero.
    pub async fn wait_for_metric(
        &mut self,
        name: &str,
        what: &str,
        condition: impl Fn(f64) -> bool,
    ) -> f64 {
        let address = self.http_address().await;
        eventually(
            DEADLINE,
            &format!("`{name}` shows that {what}"),
            async || {
                let (_, body) = http::get(&address, "/metrics").await.ok()?;
                let value = Metrics::parse(&body).sum(name, &[]).unwrap_or(0.0);
                condition(value).then_some(value)
            },
        )
        .await
    }

    /// Waits until it says that it is ready to work.
    pub async fn wait_until_ready(&mut self) {
        let address = self.http_address().await;
        let what = format!("`{}` is ready", self.child.name());
        eventually(DEADLINE, &what, async || {
            let (status, _) = http::get(&address, "/readyz").await.ok()?;
            (status == 200).then_some(())
        })
        .await;
    }
}

/// The address in a log line such as `… http listening address=127.0.0.1:1234`, in text or JSON.
fn http_address_in(line: &str) -> Option<String> {
    if !line.contains("http listening") {
        return None;
    }
    let field = line.split_once("address").map(|(_, rest)| rest)?;
    let value = field.trim_start_matches(['=', ':', '"', ' ']);
    let end = value.find(['"', ' ', ',', '}']).unwrap_or(value.len());
    Some(value[..end].to_owned())
}
