//! A table of a file, read field by field, so that all that is wrong with it is found at once.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use toml::{Table, Value};

use super::expand::expand;
use crate::config::Problems;

/// The most of a value that a problem quotes.
const QUOTED_CHARS_MAX: usize = 100;

/// A table that is being read. Each field is taken out; what remains is unknown.
pub(super) struct Fields<'p> {
    /// Where the table stands, such as `tasks.resize`; empty for the file itself.
    path: String,
    table: Table,
    known: Vec<&'static str>,
    problems: &'p mut Problems,
}

impl<'p> Fields<'p> {
    pub(super) fn new(path: String, table: Table, problems: &'p mut Problems) -> Self {
        Self {
            path,
            table,
            known: Vec::new(),
            problems,
        }
    }

    /// Takes a field and reads it; one that can't be read is a problem and counts as absent.
    pub(super) fn take<T>(
        &mut self,
        key: &'static str,
        expected: impl fmt::Display,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        self.known.push(key);
        let value = self.table.remove(key)?;
        let result = read(&value);
        if result.is_none() {
            self.refuse(key, &value, expected);
        }
        result
    }

    pub(super) fn text(&mut self, key: &'static str, expected: &str) -> Option<String> {
        self.take(key, expected, |value| Some(value.as_str()?.to_owned()))
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.take(key, "true or false", Value::as_bool)
    }

    pub(super) fn parse<T: FromStr>(&mut self, key: &'static str, expected: &str) -> Option<T> {
        self.take(key, expected, |value| value.as_str()?.parse().ok())
    }

    pub(super) fn duration(&mut self, key: &'static str) -> Option<Duration> {
        self.take(key, "a duration above zero such as `90s`", |value| {
            let duration = humantime::parse_duration(value.as_str()?).ok()?;
            (!duration.is_zero()).then_some(duration)
        })
    }

    /// A list of exit codes.
    pub(super) fn codes(&mut self, key: &'static str) -> Option<Vec<i32>> {
        self.take(key, "a list of exit codes from 0 to 255", |value| {
            let codes = value.as_array()?.iter().map(|code| {
                let code = code.as_integer()?;
                (0..=255)
                    .contains(&code)
                    .then(|| i32::try_from(code).ok())?
            });
            codes.collect()
        })
    }

    /// A table of texts in which `${NAME}` stands for a variable of the worker's environment.
    pub(super) fn texts(&mut self, key: &'static str) -> Vec<(String, String)> {
        let expected = "a table of texts such as `{ LEVEL = \"9\" }`";
        let table = self.take(key, expected, |value| {
            let table = value.as_table()?;
            table
                .iter()
                .map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned())))
                .collect::<Option<Vec<_>>>()
        });
        let mut texts = Vec::new();
        for (name, text) in table.unwrap_or_default() {
            match expand(&text) {
                Ok(text) => texts.push((name, text)),
                Err(reason) => self.problem_in(key, &name, &reason),
            }
        }
        texts
    }

    /// Notes a problem with a field that could be read.
    pub(super) fn refuse(&mut self, key: &str, value: &Value, expected: impl fmt::Display) {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let value: String = value.chars().take(QUOTED_CHARS_MAX).collect();
        let field = self.field(key);
        self.problems.add(field, value, expected);
    }

    /// Notes a problem with a field in its own words.
    pub(super) fn problem(&mut self, key: &str, problem: &str) {
        let field = self.field(key);
        self.problems.say(format!("{field} {problem}"));
    }

    /// Notes a problem with an entry of a field that is a table.
    pub(super) fn problem_in(&mut self, key: &str, entry: &str, problem: &str) {
        let field = join(&self.field(key), entry);
        self.problems.say(format!("{field} {problem}"));
    }

    /// Notes a problem with the table itself.
    pub(super) fn say(&mut self, problem: &str) {
        self.problems.say(format!("{} {problem}", self.path));
    }

    /// Whether the table has this field and it was not taken.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Reports what is left as unknown.
    pub(super) fn end(self) {
        let known = self.known.join("`, `");
        for key in self.table.keys() {
            let field = join(&self.path, key);
            self.problems
                .say(format!("{field} is unknown, expected one of `{known}`"));
        }
    }

    fn field(&self, key: &str) -> String {
        join(&self.path, key)
    }
}

/// The name of a field below `path`, quoted as TOML wants it.
pub(super) fn join(path: &str, key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let key = if !key.is_empty() && key.chars().all(is_bare) {
        key.to_owned()
    } else {
        format!("\"{key}\"")
    };
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}
