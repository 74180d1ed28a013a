//! An attempt that a test ran, to be looked at.

use std::sync::Arc;

use repull::job::Job;
use repull::wire::{EventKind, JobEvent};
use serde::de::DeserializeOwned;

use crate::run::Ending;

/// An attempt that ran, and what became of it.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The job as the attempt saw it.
    pub job: Arc<Job>,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// How it ended.
    pub ending: Ending,
    /// What the handler told while it ran: all of it, where a real one tells at most twice a second.
    pub told: Vec<JobEvent>,
}

impl Ran {
    /// The value of a success, read from JSON.
    ///
    /// # Panics
    /// It did not succeed, or its value is of another form.
    #[track_caller]
    pub fn value<T: DeserializeOwned>(&self) -> T {
        let name = format!("job `{}` for task `{}`", self.job.id, self.job.task);
        match &self.ending {
            Ending::Succeeded { value, .. } => {
                serde_json::from_slice(value).unwrap_or_else(|error| {
                    let value = String::from_utf8_lossy(value);
                    panic!("the value of {name} is `{value}`: {error}")
                })
            }
            other => panic!("{name} did not succeed: {other:?}"),
        }
    }

    /// What went wrong; none where nothing did.
    pub fn error(&self) -> Option<&str> {
        match &self.ending {
            Ending::Failed { error }
            | Ending::RetryIn { error, .. }
            | Ending::Permanent { error } => Some(error),
            _ => None,
        }
    }

    /// The fractions and texts that it told as its progress.
    pub fn progress(&self) -> Vec<(f64, String)> {
        let told = self
            .told
            .iter()
            .filter(|event| event.kind == EventKind::Progress);
        told.map(|event| (event.progress.unwrap_or_default(), event.text()))
            .collect()
    }

    /// The lines of its log.
    pub fn log(&self) -> Vec<String> {
        let told = self
            .told
            .iter()
            .filter(|event| event.kind == EventKind::Log);
        told.map(JobEvent::text).collect()
    }
}
