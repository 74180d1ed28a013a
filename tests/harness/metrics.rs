//! Prometheus text as numbers that a test can ask for.

use std::collections::BTreeMap;

/// The samples of one scrape, each under its name and labels as they were written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    samples: BTreeMap<String, f64>,
}

impl Metrics {
    /// Reads the Prometheus text format; comments and time stamps are ignored.
    pub fn parse(text: &str) -> Self {
        let mut samples = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            // The value follows the labels, whose values may hold spaces.
            let split = line
                .rfind('}')
                .map_or_else(|| line.find(' '), |end| Some(end + 1));
            let Some((series, rest)) = split.and_then(|at| line.split_at_checked(at)) else {
                continue;
            };
            let value = rest.split_whitespace().next().map(str::parse);
            if let Some(Ok(value)) = value {
                samples.insert(series.trim().to_owned(), value);
            }
        }
        Self { samples }
    }

    /// The sum of all samples of that name that carry all those labels; `None` if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut matching = self
            .samples
            .iter()
            .filter(|(series, _)| fits(series, name, labels))
            .map(|(_, value)| *value)
            .peekable();
        matching.peek()?;
        Some(matching.sum())
    }

    /// The sum of all samples of that name, whatever their labels.
    ///
    /// # Panics
    ///
    /// When there is no such sample; the text lists those there are.
    pub fn value(&self, name: &str) -> f64 {
        self.sum(name, &[]).unwrap_or_else(|| {
            let there: Vec<_> = self.samples.keys().collect();
            panic!("no metric `{name}` among {there:#?}")
        })
    }

    /// Every sample, as `name{labels}` and its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.samples
            .iter()
            .map(|(series, value)| (series.as_str(), *value))
    }
}

fn fits(series: &str, name: &str, labels: &[(&str, &str)]) -> bool {
    let (series_name, rest) = series.split_once('{').unwrap_or((series, ""));
    let rest = format!(",{}", rest.trim_end_matches('}'));
    series_name == name
        && labels
            .iter()
            .all(|(label, value)| format!("{rest},").contains(&format!(",{label}=\"{value}\",")))
}
