//! Figures of several rounds: median, spread, and the ratio to the raw loop round by round.

use serde::Serialize;

/// One measured figure over all counted rounds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    /// Repull's value in each round.
    pub(crate) repull: Vec<f64>,
    /// The raw loop's in the same rounds.
    pub(crate) raw: Vec<f64>,
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            unit,
            repull: Vec::new(),
            raw: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, repull: f64, raw: f64) {
        self.repull.push(repull);
        self.raw.push(raw);
    }

    /// Repull over raw, round by round.
    fn ratios(&self) -> Vec<f64> {
        self.repull
            .iter()
            .zip(&self.raw)
            .map(|(repull, raw)| repull / raw)
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
        println!();
        println!(
            "{:<34} {:>26} {:>26} {:>22}",
            "", "repull", "raw loop", "ratio"
        );
        for figure in &self.figures {
            let name = format!("{}, {}", figure.name, figure.unit);
            let ratio = spread(&figure.ratios(), 3);
            println!(
                "{name:<34} {:>26} {:>26} {ratio:>22}",
                spread(&figure.repull, 0),
                spread(&figure.raw, 0)
            );
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
}
