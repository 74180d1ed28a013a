//! What a measurement says of itself while it runs: a bar on a terminal, lines elsewhere, nothing
//! where the report is for a program.

use std::fmt::Display;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often the bar's clock moves on: often enough to see that it lives, too seldom to cost a
/// measurement anything.
const TICK: Duration = Duration::from_millis(500);

/// The progress of one measurement on stderr.
pub(crate) struct Progress {
    bar: ProgressBar,
    silent: bool,
}

impl Progress {
    /// For so many steps; silent where the report is for a program.
    pub(crate) fn new(steps: u64, silent: bool) -> Self {
        let bar = if silent {
            ProgressBar::hidden()
        } else {
            // Hides itself where stderr is no terminal.
            ProgressBar::new(steps)
        };
        let style = ProgressStyle::with_template("{elapsed:>4} {bar:30} {pos}/{len}  {msg}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        if !bar.is_hidden() {
            bar.enable_steady_tick(TICK);
        }
        Self { bar, silent }
    }

    /// A step begins.
    pub(crate) fn begin(&self, what: impl Into<String>) {
        self.bar.set_message(what.into());
    }

    /// A step is done.
    pub(crate) fn done(&self) {
        self.bar.inc(1);
    }

    /// Says something that stays.
    pub(crate) fn note(&self, text: impl Display) {
        if !self.silent {
            self.bar.suspend(|| crate::ui::report::note(text));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
