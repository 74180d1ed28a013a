//! Figures of several rounds: median, spread, and the ratio round by round to what they are held
//! against.

use serde::Serialize;

/// What a figure is held against unless it says otherwise.
const RAW_LOOP: &str = "raw loop";

/// One measured figure over all counted rounds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    /// Repull's value in each round.
    pub(crate) repull: Vec<f64>,
    /// What `raw` is.
    pub(crate) against: String,
    /// The other side's in the same rounds.
    pub(crate) raw: Vec<f64>,
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            unit,
            repull: Vec::new(),
            against: RAW_LOOP.to_owned(),
            raw: Vec::new(),
        }
    }

    /// The same, held against something else than the raw loop.
    pub(crate) fn against(mut self, what: impl Into<String>) -> Self {
        self.against = what.into();
        self
    }

    /// The same with these values; one side may have none.
    pub(crate) fn of(
        mut self,
        repull: impl IntoIterator<Item = f64>,
        raw: impl IntoIterator<Item = f64>,
    ) -> Self {
        self.repull.extend(repull);
        self.raw.extend(raw);
        self
    }

    pub(crate) fn push(&mut self, repull: f64, raw: f64) {
        self.repull.push(repull);
        self.raw.push(raw);
    }

    fn is_empty(&self) -> bool {
        self.repull.is_empty() && self.raw.is_empty()
    }

    /// Repull over raw, round by round; none of a round in which the other side has nothing.
    fn ratios(&self) -> Vec<f64> {
        self.repull
            .iter()
            .zip(&self.raw)
            .map(|(repull, raw)| repull / raw)
            .filter(|ratio| ratio.is_finite())
            .collect()
    }
}

/// A whole measurement.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) what: String,
    pub(crate) server: String,
    pub(crate) cores: usize,
    pub(crate) figures: Vec<Figure>,
}

impl Report {
    pub(crate) fn new(what: String, server: &str) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            what,
            server: server.to_owned(),
            cores,
            figures: Vec::new(),
        }
    }

    /// Adds a figure; one without any value is left out.
    pub(crate) fn add(&mut self, figure: Figure) {
        if !figure.is_empty() {
            self.figures.push(figure);
        }
    }

    pub(crate) fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        println!("{}", self.what);
        println!(
            "nats-server {}, {} cores; medians (least to most)",
            self.server, self.cores
        );
        let title = |figure: &Figure| format!("{}, {}", figure.name, figure.unit);
        let width = self
            .figures
            .iter()
            .map(|figure| title(figure).chars().count())
            .max()
            .unwrap_or_default();
        for same in self
            .figures
            .chunk_by(|one, next| one.against == next.against)
        {
            let against = same.first().map_or(RAW_LOOP, |figure| &figure.against);
            println!();
            println!(
                "{:<width$} {:>26} {against:>26} {:>22}",
                "", "repull", "ratio"
            );
            for figure in same {
                println!(
                    "{:<width$} {:>26} {:>26} {:>22}",
                    title(figure),
                    spread(&figure.repull, 0),
                    spread(&figure.raw, 0),
                    spread(&figure.ratios(), 3)
                );
            }
        }
        Ok(())
    }
}

fn spread(values: &[f64], digits: usize) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (sorted.first(), sorted.last()) else {
        return "-".to_owned();
    };
    // Small figures need their digits whatever the column's habit.
    let digits = if *most < 10.0 { digits.max(3) } else { digits };
    format!(
        "{:.digits$} ({least:.digits$}-{most:.digits$})",
        median(&sorted)
    )
}

/// The middle of sorted values.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    match (
        sorted.get(sorted.len().saturating_sub(1) / 2),
        sorted.get(sorted.len() / 2),
    ) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(&[1.0, 2.0, 9.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[1.0, 2.0, 4.0, 9.0]) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_figure_of_one_side_has_no_ratio() {
        let figure = Figure::new("work off", "jobs/s").of([1.0, 2.0], []);
        assert_eq!(spread(&figure.repull, 0), "1.500 (1.000-2.000)");
        assert_eq!(spread(&figure.ratios(), 3), "-");
    }
}
