//! Subjects: `<namespace>.<place>.<queue>.<task>.<id>`, where the task may hold dots.

use std::fmt;

use crate::id::{InvalidName, JobId, LANE_SUFFIX_BYTES_MAX, Lane, Namespace, TaskName};

/// The kinds of place that a job's messages are kept in; each is a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The work queue.
    Jobs,
    /// Waiting for a time.
    Later,
    /// Given up.
    Dead,
    /// Outcomes and other events.
    Results,
}

impl Place {
    /// All of them.
    pub const ALL: [Place; 4] = [Place::Jobs, Place::Later, Place::Dead, Place::Results];

    /// The subject token.
    pub fn token(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::Later => "later",
            Self::Dead => "dead",
            Self::Results => "results",
        }
    }

    /// The stream's name in `namespace`.
    pub fn stream(self, namespace: &Namespace) -> String {
        namespace.asset(match self {
            Self::Jobs => "JOBS",
            Self::Later => "LATER",
            Self::Dead => "DEAD",
            Self::Results => "RESULTS",
        })
    }

    /// The wildcard that all subjects of this place match.
    pub fn wildcard(self, namespace: &Namespace) -> String {
        format!("{namespace}.{}.>", self.token())
    }

    /// The wildcard that all subjects of one lane in this place match.
    pub fn lane_wildcard(self, namespace: &Namespace, lane: &Lane) -> String {
        format!("{namespace}.{}.{lane}.>", self.token())
    }
}

/// What a subject says of a job: its lane, task and id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Queue and priority.
    pub lane: Lane,
    /// The task.
    pub task: TaskName,
    /// The job's id.
    pub id: JobId,
}

impl Address {
    /// The job's subject in `place`.
    pub fn subject(&self, namespace: &Namespace, place: Place) -> String {
        let (place, task, id) = (place.token(), self.task.as_str(), self.id.as_str());
        let lane = self.lane.queue.as_str().len() + LANE_SUFFIX_BYTES_MAX;
        let bytes = namespace.as_str().len() + place.len() + lane + task.len() + id.len() + 4;
        let mut subject = String::with_capacity(bytes);
        subject.push_str(namespace.as_str());
        for token in [place, self.lane.queue.as_str()] {
            subject.push('.');
            subject.push_str(token);
        }
        subject.push_str(self.lane.suffix());
        for token in [task, id] {
            subject.push('.');
            subject.push_str(token);
        }
        subject
    }

    /// Reads a subject of `place`.
    pub fn parse(
        namespace: &Namespace,
        place: Place,
        subject: &str,
    ) -> Result<Self, InvalidSubject> {
        let invalid = |reason: Reason| InvalidSubject {
            subject: subject.to_owned(),
            place,
            reason,
        };
        let rest = subject
            .strip_prefix(namespace.as_str())
            .and_then(|rest| rest.strip_prefix('.'))
            .and_then(|rest| rest.strip_prefix(place.token()))
            .and_then(|rest| rest.strip_prefix('.'))
            .ok_or_else(|| invalid(Reason::Shape))?;
        let (lane, rest) = rest.split_once('.').ok_or_else(|| invalid(Reason::Shape))?;
        let (task, id) = rest
            .rsplit_once('.')
            .ok_or_else(|| invalid(Reason::Shape))?;
        let name = |error: InvalidName| invalid(Reason::Name(error));
        Ok(Self {
            lane: lane.parse().map_err(name)?,
            task: task.parse().map_err(name)?,
            id: id.parse().map_err(name)?,
        })
    }
}

/// A subject that is not a job's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidSubject {
    /// The subject.
    pub subject: String,
    /// The place it was expected to be of.
    pub place: Place,
    /// What is wrong with it.
    reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Reason {
    Shape,
    Name(InvalidName),
}

impl fmt::Display for InvalidSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "subject `{}` names no job", self.subject)?;
        match &self.reason {
            Reason::Shape => {
                write!(
                    f,
                    ", expected `<namespace>.{}.<queue>.<task>.<id>`",
                    self.place.token()
                )
            }
            Reason::Name(error) => write!(f, ": {error}"),
        }
    }
}

impl std::error::Error for InvalidSubject {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_read_back_what_they_write() {
        let namespace = Namespace::default();
        for subject in [
            "repull.jobs.default.echo.1",
            "repull.jobs.default~high.mail.send.now.x-1",
        ] {
            let address = Address::parse(&namespace, Place::Jobs, subject).unwrap();
            assert_eq!(address.subject(&namespace, Place::Jobs), subject);
        }
    }

    #[test]
    fn a_task_may_hold_dots_and_an_id_may_not() {
        let address =
            Address::parse(&Namespace::default(), Place::Jobs, "repull.jobs.q.a.b.c.7").unwrap();
        assert_eq!((address.task.as_str(), address.id.as_str()), ("a.b.c", "7"));
    }

    #[test]
    fn what_is_not_a_job_is_refused_with_the_expected_form() {
        let namespace = Namespace::default();
        for bad in [
            "repull.jobs",
            "repull.jobs.q",
            "repull.jobs.q.t",
            "repull.later.q.t.1",
            "x.jobs.q.t.1",
            "repull.jobs.q.t$.1",
        ] {
            let error = Address::parse(&namespace, Place::Jobs, bad)
                .unwrap_err()
                .to_string();
            assert!(error.contains("expected"), "{error}");
        }
    }
}
