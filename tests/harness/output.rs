//! What a finished command left behind.

use serde_json::Value;

/// The exit code and the outputs of a command.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command as it was typed, for the text of a panic.
    pub command: String,
    /// Its exit code; -1 when a signal ended it.
    pub status: i32,
    /// What it wrote as data.
    pub stdout: String,
    /// What it wrote for people.
    pub stderr: String,
}

impl Output {
    /// Asserts that the command succeeded.
    #[must_use]
    pub fn success(self) -> Self {
        self.code(0)
    }

    /// Asserts the exit code.
    #[must_use]
    pub fn code(self, expected: i32) -> Self {
        assert_eq!(self.status, expected, "the exit code of {self}");
        self
    }

    /// The data as one JSON value.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON, {error}: {self}"))
    }

    /// The data as one JSON value a line.
    pub fn json_lines(&self) -> Vec<Value> {
        let parse = |line| {
            serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("no JSON in `{line}`, {error}: {self}"))
        };
        self.stdout.lines().map(parse).collect()
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "`{}`, which ended with {}\n--- stdout:\n{}--- stderr:\n{}",
            self.command, self.status, self.stdout, self.stderr
        )
    }
}
