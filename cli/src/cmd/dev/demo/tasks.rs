//! What the demo's jobs do: hash and count files, wait as if for a network, fail where they are
//! told to. And what the handlers saw, to be held against what the streams say.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::num::NonZero;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use repull::id::WorkerId;
use repull_worker::{Context, TaskError, WorkerBuilder};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::files::{FILE_BYTES_MAX, Files};
use super::load::{HashArgs, Kind};

/// The task of the schedule's jobs.
pub(super) const TICK: &str = "clock.tick";

/// In how many steps the whole folder is read, with a wait after each.
const SURVEY_STEPS: usize = 20;

/// How much of a file is read at once.
const CHUNK: usize = 64 * 1024;

/// What all handlers share.
#[derive(Debug, Clone)]
pub(super) struct Library {
    files: Arc<Files>,
    tally: Tally,
    /// Reading needs a core: no more at once than there are, so that the workers' loops get theirs.
    cores: Arc<Semaphore>,
}

impl Library {
    pub(super) fn new(files: Arc<Files>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            files,
            tally: Tally::default(),
            cores: Arc::new(Semaphore::new(cores)),
        }
    }

    /// What the handlers saw.
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Adds the demo's tasks to a worker.
    pub(super) fn register(&self, builder: WorkerBuilder) -> WorkerBuilder {
        let builder = Kind::ALL
            .into_iter()
            .fold(builder.state(self.clone()), |builder, kind| {
                builder.task(kind.task(), hash)
            });
        builder.task(TICK, |_, fire: serde_json::Value| async move { Ok(fire) })
    }
}

/// What reading files gave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Findings {
    /// Files that were read.
    pub(super) files: u64,
    /// Their bytes; of each file its first mebibyte.
    pub(super) bytes: u64,
    /// Their lines.
    pub(super) lines: u64,
    /// Files that are not there any more or can't be read.
    pub(super) unreadable: u64,
    /// The digest of names and contents, in order.
    pub(super) sha256: String,
}

/// Hashes and counts files, and takes its time.
async fn hash(context: Context, args: HashArgs) -> Result<Findings, TaskError> {
    let library = context.state::<Library>()?;
    let run = library.tally.begin(&context);
    let all = if args.files.is_empty() {
        library.files.paths.clone()
    } else {
        args.files
    };
    let steps = if all.len() > SURVEY_STEPS {
        SURVEY_STEPS
    } else {
        1
    };
    let pause = Duration::from_millis(args.pace_ms / steps as u64);
    let mut reading = Reading::default();
    for (step, names) in all.chunks(all.len().div_ceil(steps)).enumerate() {
        let (names, root) = (names.to_vec(), library.files.root.clone());
        let core = library.cores.clone().acquire_owned().await?;
        let read = move || {
            let reading = reading.read_all(&root, &names);
            drop(core);
            reading
        };
        reading = tokio::task::spawn_blocking(read).await??;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = context.cancelled() => return Err(TaskError::retry("interrupted while it read files")),
        }
        if steps > 1 {
            let fraction = (step + 1) as f64 / steps as f64;
            context.progress(fraction, format!("{} files read", reading.findings.files));
        }
    }
    run.ended();
    let attempt = context.attempt();
    if attempt <= args.failures {
        return Err(TaskError::retry(format!(
            "the demo wants attempt {attempt} to fail"
        )));
    }
    Ok(reading.finish())
}

/// Files read so far.
#[derive(Default)]
struct Reading {
    findings: Findings,
    digest: Sha256,
}

impl Reading {
    fn read_all(mut self, root: &Path, names: &[String]) -> std::io::Result<Self> {
        for name in names {
            self.digest.update(name.as_bytes());
            self.digest.update([0]);
            match self.read(&root.join(name)) {
                Ok(()) => self.findings.files += 1,
                // Somebody works in the folder while we read it: no reason to fail.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::IsADirectory
                    ) =>
                {
                    self.findings.unreadable += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self)
    }

    fn read(&mut self, path: &Path) -> std::io::Result<()> {
        let mut file = File::open(path)?.take(FILE_BYTES_MAX);
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = file.read(&mut chunk)?;
            if read == 0 {
                return Ok(());
            }
            let bytes = &chunk[..read];
            self.digest.update(bytes);
            self.findings.bytes += read as u64;
            self.findings.lines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
    }

    fn finish(self) -> Findings {
        let digest = self.digest.finalize();
        Findings {
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            ..self.findings
        }
    }
}

/// What the handlers of each worker saw. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally(Arc<Mutex<HashMap<WorkerId, Seen>>>);

/// What the handlers of one worker saw.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Attempts that were started.
    pub(super) started: u64,
    /// Jobs whose attempt did not come to its end, since the worker drained.
    pub(super) cut_short: HashSet<String>,
}

impl Tally {
    /// What was seen on this worker.
    pub(super) fn of(&self, worker: &WorkerId) -> Seen {
        self.lock().get(worker).cloned().unwrap_or_default()
    }

    fn begin(&self, context: &Context) -> Run {
        let worker = context.worker().clone();
        self.lock().entry(worker.clone()).or_default().started += 1;
        Run {
            tally: self.clone(),
            worker,
            job: context.id().to_string(),
            has_ended: false,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<WorkerId, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One attempt as its handler sees it; dropped before its end it was cut short.
struct Run {
    tally: Tally,
    worker: WorkerId,
    job: String,
    has_ended: bool,
}

impl Run {
    fn ended(mut self) {
        self.has_ended = true;
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.has_ended {
            let job = std::mem::take(&mut self.job);
            let mut seen = self.tally.lock();
            let seen = seen.entry(self.worker.clone()).or_default();
            seen.cut_short.insert(job);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_give_the_same_digest_however_they_are_cut_into_steps() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            std::fs::write(folder.path().join(name), format!("{name}\nx\n")).unwrap();
        }
        let names: Vec<String> = ["a", "b", "c", "gone"].map(str::to_owned).into();
        let at_once = Reading::default().read_all(folder.path(), &names).unwrap();
        let mut in_steps = Reading::default();
        for names in names.chunks(1) {
            in_steps = in_steps.read_all(folder.path(), names).unwrap();
        }
        let (at_once, in_steps) = (at_once.finish(), in_steps.finish());
        assert_eq!(at_once, in_steps);
        assert_eq!(
            (
                at_once.files,
                at_once.bytes,
                at_once.lines,
                at_once.unreadable
            ),
            (3, 12, 6, 1)
        );
        assert_eq!(at_once.sha256.len(), 64);
    }
}
