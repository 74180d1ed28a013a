//! How the demo shows that it goes on: bars on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::super::log;
use crate::ui::report::note;

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Where the load stands at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    /// Jobs of the load.
    pub(super) jobs: u64,
    /// Those that wait for a worker.
    pub(super) waiting: u64,
    /// Those that a worker has.
    pub(super) running: u64,
    /// Those that wait for their next attempt.
    pub(super) later: u64,
    /// Those with an outcome.
    pub(super) done: u64,
    /// Attempts that failed and are followed by another.
    pub(super) retried: u64,
    /// Fires of the schedule that have run.
    pub(super) fires_run: u64,
    /// Fires that are due by the end of the demo.
    pub(super) fires: u64,
    /// The workers, in the order in which they came.
    pub(super) workers: Vec<WorkerView>,
}

/// A worker's slots at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WorkerView {
    /// What it is called.
    pub(super) name: &'static str,
    /// Its slots.
    pub(super) slots: u64,
    /// Those with a running job.
    pub(super) running: u64,
    /// What else there is to say of it, or nothing.
    pub(super) state: &'static str,
}

/// The view on stderr.
pub(super) enum Screen {
    Bars(Box<Bars>),
    Lines { started: Instant, next: Instant },
}

pub(super) struct Bars {
    all: MultiProgress,
    done: ProgressBar,
    waiting: ProgressBar,
    running: ProgressBar,
    retried: ProgressBar,
    fires: ProgressBar,
    workers: Vec<ProgressBar>,
}

impl Screen {
    /// Bars where stderr is a terminal that can show them.
    pub(super) fn open() -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if std::io::stderr().is_terminal() && !is_dumb {
            Self::Bars(Box::new(Bars::open()))
        } else {
            let now = Instant::now();
            Self::Lines {
                started: now,
                next: now,
            }
        }
    }

    /// Shows where the load stands.
    pub(super) fn show(&mut self, view: &View) {
        match self {
            Self::Bars(bars) => bars.show(view),
            Self::Lines { started, next } => {
                let now = Instant::now();
                if now >= *next {
                    *next = now + LINE_EVERY;
                    note(line(view, now - *started));
                }
            }
        }
    }

    /// Says something that stays.
    pub(super) fn say(&self, text: &str) {
        match self {
            Self::Bars(bars) => bars.all.suspend(|| note(text)),
            Self::Lines { .. } => note(text),
        }
    }

    /// Shows how it ended, whenever the last line was.
    pub(super) fn show_last(&mut self, view: &View) {
        if let Self::Lines { next, .. } = self {
            *next = Instant::now();
        }
        self.show(view);
    }

    /// Takes the bars away.
    pub(super) fn close(self) {
        if let Self::Bars(bars) = self {
            log::beside(None);
            let _ = bars.all.clear();
        }
    }
}

impl Bars {
    fn open() -> Self {
        let all = MultiProgress::new();
        log::beside(Some(all.clone()));
        let bar = |name: &'static str, color: &str| {
            let bar = all.add(ProgressBar::new(0).with_style(style(color)));
            bar.set_prefix(name);
            bar
        };
        Self {
            done: bar("done", "green"),
            waiting: bar("waiting", "blue"),
            running: bar("running", "cyan"),
            retried: bar("retried", "yellow"),
            fires: bar("fires", "magenta"),
            workers: Vec::new(),
            all,
        }
    }

    fn show(&mut self, view: &View) {
        let set = |bar: &ProgressBar, position: u64, length: u64, message: String| {
            bar.set_length(length.max(1));
            bar.set_position(position);
            bar.set_message(message);
        };
        let slots: u64 = view.workers.iter().map(|worker| worker.slots).sum();
        let of = |count: u64, all: u64| format!("{count} of {all}");
        set(&self.done, view.done, view.jobs, of(view.done, view.jobs));
        set(
            &self.waiting,
            view.waiting,
            view.jobs,
            view.waiting.to_string(),
        );
        set(&self.running, view.running, slots, view.running.to_string());
        let retried = format!(
            "{}, {} wait for their next attempt",
            view.retried, view.later
        );
        set(&self.retried, view.retried, view.jobs / 10, retried);
        set(
            &self.fires,
            view.fires_run,
            view.fires,
            of(view.fires_run, view.fires),
        );
        for (index, worker) in view.workers.iter().enumerate() {
            if self.workers.len() == index {
                let bar = ProgressBar::new(0).with_style(style("white"));
                bar.set_prefix(worker.name);
                self.workers.push(self.all.add(bar));
            }
            let mut message = format!("{} slots in use", of(worker.running, worker.slots));
            if !worker.state.is_empty() {
                message = format!("{message}, {}", worker.state);
            }
            set(&self.workers[index], worker.running, worker.slots, message);
        }
    }
}

fn style(color: &str) -> ProgressStyle {
    let template = format!("{{prefix:>8}} {{bar:30.{color}/dim}} {{msg}}");
    ProgressStyle::with_template(&template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━━─")
}

/// The view as one line.
fn line(view: &View, elapsed: Duration) -> String {
    let mut text = format!(
        "{:5.1}s  waiting {:>4}  running {:>3}  later {:>3}  done {:>4} of {}  retried {}  fires {} of {}",
        elapsed.as_secs_f64(),
        view.waiting,
        view.running,
        view.later,
        view.done,
        view.jobs,
        view.retried,
        view.fires_run,
        view.fires,
    );
    for worker in &view.workers {
        text.push_str(&format!(
            "  {} {}/{}",
            worker.name, worker.running, worker.slots
        ));
        if !worker.state.is_empty() {
            text.push_str(&format!(" ({})", worker.state));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_the_bars_say() {
        let view = View {
            jobs: 2_000,
            waiting: 1_500,
            running: 100,
            later: 7,
            done: 393,
            retried: 31,
            fires_run: 4,
            fires: 20,
            workers: vec![WorkerView {
                name: "first",
                slots: 100,
                running: 100,
                state: "draining",
            }],
        };
        assert_eq!(
            line(&view, Duration::from_millis(4_250)),
            "  4.2s  waiting 1500  running 100  later   7  done  393 of 2000  retried 31  fires 4 of 20  first 100/100 (draining)"
        );
    }
}
