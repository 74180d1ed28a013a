//! One thing in detail: names on the left, values on the right.

use super::out;
use super::table::one_line;

/// Details in the making, in sections that each have a column of their own.
pub(crate) struct Details {
    sections: Vec<Section>,
}

#[derive(Default)]
struct Section {
    title: Option<String>,
    lines: Vec<(String, String)>,
}

impl Default for Details {
    fn default() -> Self {
        Self {
            sections: vec![Section::default()],
        }
    }
}

impl Details {
    /// Adds a line.
    pub(crate) fn add(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        if let Some(section) = self.sections.last_mut() {
            section.lines.push((name.to_owned(), value.into()));
        }
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

    /// Begins a section with a headline.
    pub(crate) fn section(&mut self, title: &str) -> &mut Self {
        self.sections.push(Section {
            title: Some(title.to_owned()),
            lines: Vec::new(),
        });
        self
    }

    /// Writes it to stdout.
    pub(crate) fn print(&self) -> anyhow::Result<()> {
        Ok(out::line(self.text())?)
    }

    fn text(&self) -> String {
        let sections: Vec<String> = self.sections.iter().map(Section::text).collect();
        sections.join("\n\n")
    }
}

impl Section {
    fn text(&self) -> String {
        let width = self.lines.iter().map(|(name, _)| name.chars().count());
        let width = width.max().unwrap_or(0);
        let indent = if self.title.is_some() { "  " } else { "" };
        let title = self.title.iter().map(|title| format!("{title}:"));
        let lines = self.lines.iter().map(|(name, value)| {
            let line = format!("{indent}{name:width$}  {}", one_line(value));
            line.trim_end().to_owned()
        });
        title.chain(lines).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_in_one_column_for_each_section() {
        let mut details = Details::default();
        details
            .add("id", "a-1")
            .some("schedule", Some("nightly"))
            .some("error", None::<String>);
        details.section("events").add("10:00", "one\ntwo");
        details
            .section("arguments")
            .block("body", "{\n  \"x\": 1\n}");
        assert_eq!(
            details.text(),
            "id        a-1\n\
             schedule  nightly\n\
             \n\
             events:\n\
             \x20 10:00  one two\n\
             \n\
             arguments:\n\
             \x20 body  {\n\
             \x20         \"x\": 1\n\
             \x20       }"
        );
    }
}
