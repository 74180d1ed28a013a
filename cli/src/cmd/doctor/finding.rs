//! What the doctor finds.

use std::fmt;

use serde::Serialize;

/// How bad it is; the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// Jobs do not run, or are about to stop.
    Error,
    /// It works, and may not for long.
    Warning,
    /// Somebody chose it; good to know.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// The class of the fault: one of a fixed set of words, for scripts.
    pub(super) class: &'static str,
    /// What has it, such as a queue or a worker.
    pub(super) subject: String,
    /// The fault in words, with its numbers.
    pub(super) what: String,
    /// What to do.
    pub(super) cure: String,
}

impl Finding {
    pub(super) fn error(class: &'static str, subject: impl Into<String>) -> Self {
        Self::new(Severity::Error, class, subject.into())
    }

    pub(super) fn warning(class: &'static str, subject: impl Into<String>) -> Self {
        Self::new(Severity::Warning, class, subject.into())
    }

    pub(super) fn note(class: &'static str, subject: impl Into<String>) -> Self {
        Self::new(Severity::Note, class, subject.into())
    }

    fn new(severity: Severity, class: &'static str, subject: String) -> Self {
        Self {
            severity,
            class,
            subject,
            what: String::new(),
            cure: String::new(),
        }
    }

    pub(super) fn what(mut self, what: impl Into<String>) -> Self {
        self.what = what.into();
        self
    }

    pub(super) fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = cure.into();
        self
    }
}
