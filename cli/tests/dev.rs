//! `repull dev` as its users meet it: the real program, a real nats-server, real signals.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

/// Far above what anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A running `repull dev`. Killed on drop.
struct Dev {
    child: Child,
    folder: PathBuf,
    url: String,
}

impl Dev {
    /// Starts it on a folder and waits until it says where it listens.
    fn start(folder: &Path) -> Self {
        let mut child = repull()
            .args(["dev", "--data"])
            .arg(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("repull starts");
        let lines = lines_of(child.stdout.take().expect("stdout is piped"));
        let url = wait_for("the line with NATS_URL", || {
            let line = lines.try_recv().ok()?;
            Some(line.split_once("NATS_URL=")?.1.to_owned())
        });
        Self {
            child,
            folder: folder.to_owned(),
            url,
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(pid(self.child.id()), signal).expect("the process is there");
    }

    /// The process of its server.
    fn server(&self) -> Pid {
        let text = std::fs::read_to_string(self.folder.join("nats-server.pid"));
        pid(text.expect("a pid file").trim().parse().expect("a number"))
    }

    /// Runs another command against it.
    fn repull(&self, args: &[&str]) -> Output {
        let output = repull().env("NATS_URL", &self.url).args(args).output();
        let output = output.expect("repull runs");
        assert!(output.status.success(), "{args:?}: {}", errors(&output));
        output
    }

    fn wait(&mut self) -> ExitStatus {
        wait_for("the end of repull", || {
            self.child.try_wait().expect("a child")
        })
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, told nothing by the variables of whoever runs the tests but where the server is.
fn repull() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_repull"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let is_ours = text.starts_with("NATS_") || text.starts_with("REPULL_");
        if is_ours && text != "REPULL_NATS_SERVER" {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).expect("a pid")).expect("a pid")
}

fn is_alive(process: Pid) -> bool {
    // A process that has ended and that nobody has asked about is still listed, as a zombie.
    let stat = format!("/proc/{}/stat", process.as_raw_nonzero());
    match std::fs::read_to_string(stat) {
        Ok(stat) => !stat.contains(") Z "),
        Err(_) => !Path::new("/proc/self").exists() && test_kill_process(process).is_ok(),
    }
}

fn lines_of(out: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn data_stays_for_the_next_start_and_the_server_goes_with_the_first() {
    let folder = folder();
    let mut dev = Dev::start(folder.path());
    let server = dev.server();
    let said = dev.repull(&[
        "job",
        "submit",
        "echo",
        r#"{"x": 1}"#,
        "--id",
        "kept",
        "--wait",
    ]);
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), r#"{"x":1}"#);
    dev.signal(Signal::TERM);
    assert!(dev.wait().success());
    assert!(!is_alive(server), "the server outlived repull");

    let mut dev = Dev::start(folder.path());
    let said = dev.repull(&["job", "list", "--state", "done"]);
    assert!(String::from_utf8_lossy(&said.stdout).contains("kept"));
    dev.signal(Signal::INT);
    assert!(dev.wait().success());
}

#[test]
fn two_on_the_same_folder_are_one_too_many() {
    let folder = folder();
    let dev = Dev::start(folder.path());
    let second = repull()
        .args(["dev", "--data"])
        .arg(folder.path())
        .output()
        .expect("repull runs");
    assert_eq!(second.status.code(), Some(1));
    let number = dev.child.id().to_string();
    let text = errors(&second);
    assert!(text.contains("in use") && text.contains(&number), "{text}");
    assert!(text.contains("hint: "), "{text}");
}

#[test]
fn a_killed_one_leaves_no_server_behind() {
    let folder = folder();
    let mut dev = Dev::start(folder.path());
    let server = dev.server();
    dev.signal(Signal::KILL);
    dev.wait();
    wait_for("the end of the server", || {
        (!is_alive(server)).then_some(())
    });
    Dev::start(folder.path());
}

#[test]
fn a_server_that_was_left_behind_all_the_same_is_ended_by_the_next_start() {
    let folder = folder();
    let mut dev = Dev::start(folder.path());
    let server = dev.server();
    for guard in children_of(dev.child.id(), "sh") {
        kill_process(guard, Signal::KILL).expect("the guard is there");
    }
    dev.signal(Signal::KILL);
    dev.wait();
    assert!(is_alive(server), "nobody was there to end it");
    let dev = Dev::start(folder.path());
    assert!(!is_alive(server));
    assert_ne!(dev.server(), server);
}

/// The children of a process that run this program.
fn children_of(parent: u32, program: &str) -> Vec<Pid> {
    let output = Command::new("ps")
        .args(["-A", "-o", "pid=,ppid=,comm="])
        .output();
    let text = String::from_utf8_lossy(&output.expect("ps runs").stdout).into_owned();
    let child = |line: &str| {
        let mut words = line.split_whitespace();
        let (number, of, name) = (words.next()?, words.next()?, words.next()?);
        let is_one = of == parent.to_string() && name.rsplit('/').next() == Some(program);
        is_one.then(|| pid(number.parse().expect("a number")))
    };
    let children: Vec<Pid> = text.lines().filter_map(child).collect();
    assert!(!children.is_empty(), "no `{program}` below {parent}");
    children
}

#[test]
fn without_a_server_it_says_what_to_do() {
    let folder = folder();
    let data = folder.path().join("data");
    let output = repull()
        .args(["dev", "--data"])
        .arg(&data)
        .env("REPULL_NATS_SERVER", folder.path().join("nowhere"))
        .output()
        .expect("repull runs");
    assert_eq!(output.status.code(), Some(1));
    let text = errors(&output);
    assert!(text.contains("REPULL_NATS_SERVER is"), "{text}");
    assert!(text.contains("hint: "), "{text}");
    assert!(!data.exists(), "a folder for nothing");
}

#[test]
fn the_demo_accounts_for_every_job() {
    let files = folder();
    for index in 0..30 {
        let name = files.path().join(format!("file-{index}"));
        std::fs::write(name, format!("{index}\n").repeat(index)).expect("a file");
    }
    let log = files.path().join(".stderr");
    let output = repull()
        .args(["dev", "--jobs", "300", "--slots", "40", "--demo"])
        .arg(files.path())
        .stderr(File::create(&log).expect("a file"))
        .output()
        .expect("repull runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let log = std::fs::read_to_string(log).expect("a file");
    assert!(output.status.success(), "{said}\n{log}");
    assert!(
        said.contains("All 300 jobs and all 3 fires are accounted for"),
        "{said}"
    );
    assert!(said.contains("30 files"), "{said}");
    assert!(log.contains("a second worker joins"), "{log}");
    assert!(
        log.contains("the first worker is removed while it runs"),
        "{log}"
    );
}
