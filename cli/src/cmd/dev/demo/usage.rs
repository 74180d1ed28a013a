//! How well slots are used while jobs wait, looked at from outside: by what the server says of
//! waiting jobs, not by what a worker believes. Pure.

use std::time::Duration;

use super::screen::View;

/// Slots that are in use, over those there are, as long as jobs wait.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Usage {
    /// How long jobs waited.
    time: Duration,
    /// Busy slots times time.
    busy: Duration,
    /// All slots times time.
    all: Duration,
    /// Whether jobs waited when it was last looked, and when that was.
    last: Option<(Duration, bool)>,
}

/// Where jobs waited for less than this, nothing can be said.
const TIME_MIN: Duration = Duration::from_secs(2);

impl Usage {
    /// Takes what was seen, this long after the start. A worker that takes no more jobs has no slots.
    pub(super) fn look(&mut self, at: Duration, view: &View) {
        let waits = view.waiting > 0;
        let before = self.last.replace((at, waits));
        let Some((since, true)) = before.filter(|_| waits) else {
            return;
        };
        let passed = at.saturating_sub(since);
        self.time += passed;
        for worker in view.workers.iter().filter(|worker| worker.state.is_empty()) {
            self.busy += times(passed, worker.running);
            self.all += times(passed, worker.slots);
        }
    }

    /// In words.
    pub(super) fn text(&self) -> String {
        if self.time < TIME_MIN {
            return "so many that jobs hardly waited".to_owned();
        }
        let percent = self.busy.as_secs_f64() / self.all.as_secs_f64().max(f64::EPSILON) * 100.0;
        let seconds = self.time.as_secs_f64();
        format!("{percent:.1} % in use during the {seconds:.1}s in which jobs waited")
    }
}

fn times(duration: Duration, count: u64) -> Duration {
    duration.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::screen::WorkerView;
    use super::*;

    fn view(waiting: u64, workers: &[(u64, &'static str)]) -> View {
        let workers = workers.iter().map(|&(running, state)| WorkerView {
            name: "first",
            slots: 100,
            running,
            state,
        });
        View {
            waiting,
            workers: workers.collect(),
            ..View::default()
        }
    }

    #[test]
    fn slots_count_while_jobs_wait_and_their_worker_takes_jobs() {
        let mut usage = Usage::default();
        let at = Duration::from_secs;
        usage.look(at(0), &view(500, &[(100, "")]));
        usage.look(at(2), &view(300, &[(100, "")]));
        usage.look(at(4), &view(100, &[(50, ""), (7, "draining")]));
        usage.look(at(6), &view(0, &[(3, "")]));
        usage.look(at(8), &view(0, &[(0, "")]));
        assert_eq!(
            usage.text(),
            "75.0 % in use during the 4.0s in which jobs waited"
        );
    }

    #[test]
    fn of_a_moment_nothing_is_said() {
        let mut usage = Usage::default();
        usage.look(Duration::ZERO, &view(1, &[(0, "")]));
        usage.look(Duration::from_millis(300), &view(1, &[(0, "")]));
        assert!(usage.text().contains("hardly waited"));
    }
}
