//! Times that many handlers note at once, and their percentiles.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::report::Figure;

/// The longest time that is told apart from longer ones, in microseconds: an hour.
const MICROS_MAX: u64 = 3_600_000_000;

/// Times in microseconds, to three digits.
#[derive(Debug)]
pub(crate) struct Latencies(Mutex<Histogram<u64>>);

impl Latencies {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self(Mutex::new(Histogram::new_with_bounds(
            1, MICROS_MAX, 3,
        )?)))
    }

    pub(crate) fn record(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(MICROS_MAX);
        self.lock().saturating_record(micros.max(1));
    }

    /// The time that this share of all stays within, in microseconds; none where none was noted.
    fn at(&self, quantile: f64) -> Option<f64> {
        let histogram = self.lock();
        (!histogram.is_empty()).then(|| histogram.value_at_quantile(quantile) as f64)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Histogram<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Figures of some percentiles over all rounds.
pub(crate) struct Percentiles {
    figures: Vec<(f64, Figure)>,
}

impl Percentiles {
    /// The middle and the 99th of a hundred.
    pub(crate) const SHORT: &'static [(f64, &'static str)] = &[(0.5, "p50"), (0.99, "p99")];

    /// All that tell of a tail.
    pub(crate) const LONG: &'static [(f64, &'static str)] = &[
        (0.5, "p50"),
        (0.9, "p90"),
        (0.99, "p99"),
        (0.999, "p99.9"),
        (1.0, "most"),
    ];

    pub(crate) fn new(name: &str, of: &[(f64, &str)]) -> Self {
        let figure = |&(quantile, short): &(f64, &str)| {
            (quantile, Figure::new(format!("{name}, {short}"), "us"))
        };
        Self {
            figures: of.iter().map(figure).collect(),
        }
    }

    /// Adds a round.
    pub(crate) fn push(&mut self, repull: &Latencies, raw: &Latencies) {
        for (quantile, figure) in &mut self.figures {
            figure.repull.extend(repull.at(*quantile));
            figure.raw.extend(raw.at(*quantile));
        }
    }

    pub(crate) fn into_figures(self) -> impl Iterator<Item = Figure> {
        self.figures.into_iter().map(|(_, figure)| figure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_hundred_times() {
        let times = Latencies::new().unwrap();
        assert_eq!(times.at(0.5), None);
        for millis in 1..=100 {
            times.record(Duration::from_millis(millis));
        }
        let near = |quantile: f64, expected: f64| {
            let found = times.at(quantile).unwrap();
            assert!((found / expected - 1.0).abs() < 0.002, "{found}");
        };
        near(0.5, 50_000.0);
        near(0.99, 99_000.0);
        near(1.0, 100_000.0);
    }
}
