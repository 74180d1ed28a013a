//! One thing in detail: names on the left, values on the right.

use super::out;
use super::table::one_line;

/// Details in the making.
#[derive(Default)]
pub(crate) struct Details {
    lines: Vec<(String, String)>,
}

impl Details {
    /// Adds a line.
    pub(crate) fn add(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.lines.push((name.to_owned(), value.into()));
        self
    }

    /// Adds a line where there is a value.
    pub(crate) fn some(&mut self, name: &str, value: Option<impl Into<String>>) -> &mut Self {
        if let Some(value) = value {
            self.add(name, value);
        }
        self
    }

    /// Adds a value of several lines, its name on the first.
    pub(crate) fn block(&mut self, name: &str, value: &str) -> &mut Self {
        for (index, line) in value.lines().enumerate() {
            self.add(if index == 0 { name } else { "" }, line);
        }
        self
    }

    /// Adds a headline with an empty line before it.
    pub(crate) fn section(&mut self, title: &str) -> &mut Self {
        self.lines.push((String::new(), String::new()));
        self.lines.push((format!("{title}:"), String::new()));
        self
    }

    /// Writes it to stdout.
    pub(crate) fn print(&self) -> anyhow::Result<()> {
        Ok(out::line(self.text())?)
    }

    fn text(&self) -> String {
        let names = self.lines.iter().filter(|(_, value)| !value.is_empty());
        let width = names.map(|(name, _)| name.len()).max().unwrap_or(0);
        let lines: Vec<String> = self
            .lines
            .iter()
            .map(|(name, value)| {
                let line = format!("{name:width$}  {}", one_line(value));
                line.trim_end().to_owned()
            })
            .collect();
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_in_one_column() {
        let mut details = Details::default();
        details
            .add("id", "a-1")
            .some("schedule", Some("nightly"))
            .some("error", None::<String>);
        details.section("arguments").block("", "{\n  \"x\": 1\n}");
        assert_eq!(
            details.text(),
            "id        a-1\nschedule  nightly\n\narguments:\n          {\n            \"x\": 1\n          }"
        );
    }
}
