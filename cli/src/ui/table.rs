//! Tables for people: as wide as the terminal, one line a row; whole and plain when piped.

use std::io::IsTerminal;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Color, ColumnConstraint, ContentArrangement, Row, Width};

use super::out;

/// The narrowest terminal that a table is fitted to.
const WIDTH_MIN: u16 = 60;

/// The most of its content that a column keeps when the table is fitted.
const KEPT_MAX: usize = 9;

/// The space between columns.
const GAP: u16 = 2;

/// A table in the making.
pub(crate) struct Table {
    inner: comfy_table::Table,
}

/// One cell.
pub(crate) struct Cell(comfy_table::Cell);

impl Cell {
    /// A cell in a colour that only repeats what the text says, so that nothing is lost without it.
    pub(crate) fn painted(text: impl Into<String>) -> Self {
        let text = text.into();
        let color = color_of(&text).filter(|_| is_colored());
        let cell = comfy_table::Cell::new(one_line(&text));
        Self(match color {
            Some(color) => cell.fg(color),
            None => cell,
        })
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self(comfy_table::Cell::new(one_line(&text.into())))
    }
}

impl Table {
    /// A table with these columns. The first column is never cut: it names the row.
    pub(crate) fn new(columns: &[&str]) -> Self {
        let mut inner = comfy_table::Table::new();
        inner.load_style(NOTHING).set_header(columns.to_vec());
        for column in inner.column_iter_mut() {
            column.set_padding((0, GAP));
        }
        Self { inner }
    }

    /// The same with these columns (from 0) to the right, for numbers.
    pub(crate) fn right(mut self, columns: &[usize]) -> Self {
        for index in columns {
            if let Some(column) = self.inner.column_mut(*index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        self
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        let mut row = Row::from(cells.map(|cell| cell.0).to_vec());
        row.max_height(1);
        self.inner.add_row(row);
    }

    /// Whether it has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// Writes it to stdout.
    pub(crate) fn print(mut self) -> anyhow::Result<()> {
        if std::io::stdout().is_terminal() {
            let width = self.inner.width();
            self.fit(width.unwrap_or(WIDTH_MIN));
        }
        Ok(out::line(self.inner.trim_fmt())?)
    }

    /// Cuts long values so that rows fit into the width. Headers and short values stay whole.
    fn fit(&mut self, width: u16) {
        self.inner
            .set_content_arrangement(ContentArrangement::Dynamic);
        self.inner.set_width(width.max(WIDTH_MIN));
        let headers: Vec<usize> = self.inner.header().map_or(Vec::new(), |header| {
            header
                .cell_iter()
                .map(|cell| cell.content().chars().count())
                .collect()
        });
        let contents = self.inner.column_max_content_widths();
        for (index, column) in self.inner.column_iter_mut().enumerate() {
            let header = headers.get(index).copied().unwrap_or_default();
            let content = usize::from(contents.get(index).copied().unwrap_or_default());
            let kept = header.max(content.min(KEPT_MAX));
            let kept = u16::try_from(kept).unwrap_or(u16::MAX).saturating_add(GAP);
            column.set_constraint(match index {
                0 => ColumnConstraint::ContentWidth,
                _ => ColumnConstraint::LowerBoundary(Width::Fixed(kept)),
            });
        }
    }
}

/// Text without line breaks and other control characters.
pub(crate) fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_control())
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn is_colored() -> bool {
    std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn color_of(word: &str) -> Option<Color> {
    match word {
        "running" | "succeeded" | "ok" | "active" => Some(Color::Green),
        "later" | "retrying" | "snoozed" | "paused" | "warning" | "draining" => Some(Color::Yellow),
        "dead" | "failed" | "error" | "expired" => Some(Color::Red),
        "cancelled" => Some(Color::Magenta),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piped_table_is_plain_and_whole() {
        let long = "x".repeat(300);
        let mut table = Table::new(&["ID", "READY", "ERROR"]).right(&[1]);
        table.row(["a".into(), "7".into(), long.clone().into()]);
        table.row([
            "long-name".into(),
            "1200".into(),
            "two\nlines\u{1b}[31m".into(),
        ]);
        let text = table.inner.trim_fmt();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[1].ends_with(&long));
        assert_eq!(lines[2], "long-name   1200  two lines [31m");
        assert!(!text.contains('\u{1b}'), "no control characters: {text:?}");
    }

    #[test]
    fn a_fitted_table_keeps_headers_and_short_values() {
        let mut table = Table::new(&["ID", "STATE", "ATTEMPT", "DETAIL"]);
        let id = "01a20a91-409e-77d2-b51b-4643555c18a2";
        table.row([
            id.into(),
            "running".into(),
            "1/20".into(),
            "on a worker with a long name".into(),
        ]);
        table.fit(72);
        let text = table.inner.trim_fmt();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0].split_whitespace().collect::<Vec<_>>(),
            ["ID", "STATE", "ATTEMPT", "DETAIL"]
        );
        assert!(
            lines[1].starts_with(id) && lines[1].contains("running  1/20"),
            "{text}"
        );
        assert!(
            lines.iter().all(|line| line.chars().count() <= 72) && lines.len() == 2,
            "{text}"
        );
    }
}
