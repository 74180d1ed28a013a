//! The file of tasks, checked as a whole before anything starts.

use std::path::{Path, PathBuf};

use repull::id::TaskName;
use repull::job::Timeout;
use repull::retry::Backoff;
use toml::{Table, Value};

use super::exec::{self, ExecSpec};
use super::fields::{Fields, join};
use super::http::HttpSpec;
use crate::config::Problems;
use crate::run::TaskOptions;

/// Exit codes that say: another attempt would be no better (`EX_USAGE` and `EX_DATAERR` of
/// sysexits.h).
const PERMANENT_CODES: [i32; 2] = [64, 65];

/// Tasks from a file: programs to run and URLs to call.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskFile {
    /// Whether the built-in tasks are served too.
    pub builtins: bool,
    pub(super) tasks: Vec<TaskSpec>,
}

/// One task of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TaskSpec {
    pub(super) name: TaskName,
    pub(super) options: TaskOptions,
    pub(super) kind: Kind,
}

/// What a task does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Exec(ExecSpec),
    Http(HttpSpec),
}

/// Why a file of tasks can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TaskFileError {
    /// It can't be read.
    #[error("can't read the file of tasks `{path}`")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its content is not valid.
    #[error("the file of tasks `{path}` is not valid: {problems}")]
    Invalid {
        /// The file.
        path: String,
        /// Everything that is wrong with it.
        problems: Problems,
    },
}

impl TaskFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// It can't be read, or everything that is wrong with it.
    pub fn read(path: &Path) -> Result<Self, TaskFileError> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(|problems| TaskFileError::Invalid {
                path: name,
                problems,
            }),
            Err(source) => Err(TaskFileError::Read { path: name, source }),
        }
    }

    /// Reads and checks a file's text.
    ///
    /// # Errors
    /// Everything that is wrong with it; of a text that is not TOML, the first mistake.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let table: Table = match text.parse() {
            Ok(table) => table,
            Err(error) => {
                problems.say(format!("it is not TOML: {}", error.to_string().trim_end()));
                return Err(problems);
            }
        };
        let mut fields = Fields::new(String::new(), table, &mut problems);
        let builtins = fields.flag("builtins").unwrap_or(false);
        let table = fields.take("tasks", "a table such as `[tasks.resize]`", |value| {
            value.as_table().cloned()
        });
        fields.end();
        let mut tasks = Vec::new();
        for (name, value) in table.unwrap_or_default() {
            tasks.extend(read_task(&name, value, &mut problems));
        }
        if tasks.is_empty() && !builtins && problems.is_empty() {
            problems.say("it has no task, expected at least one `[tasks.<name>]`");
        }
        problems.into_result()?;
        Ok(Self { builtins, tasks })
    }
}

fn read_task(name: &str, value: Value, problems: &mut Problems) -> Option<TaskSpec> {
    let path = join("tasks", name);
    let task_name = match TaskName::new(name) {
        Ok(name) => Some(name),
        Err(error) => {
            problems.say(format!("{path}: {error}"));
            None
        }
    };
    let table = match value {
        Value::Table(table) => table,
        // `[tasks.mail.send]` instead of `[tasks."mail.send"]` ends here too, as an unknown field.
        other => {
            problems.add(path, other, "a table with `exec` or `http`");
            return None;
        }
    };
    let mut fields = Fields::new(path, table, problems);
    let options = read_options(&mut fields);
    let kind = match (fields.has("exec"), fields.has("http")) {
        (true, false) => read_exec(&mut fields).map(Kind::Exec),
        (false, true) => read_http(&mut fields).map(Kind::Http),
        (both, _) => {
            let found = if both {
                "has both `exec` and `http`"
            } else {
                "has neither `exec` nor `http`"
            };
            fields.say(&format!(
                "{found}, expected one of the two (a dotted name is quoted: `[tasks.\"mail.send\"]`)"
            ));
            return None;
        }
    };
    fields.end();
    Some(TaskSpec {
        name: task_name?,
        options,
        kind: kind?,
    })
}

fn read_options(fields: &mut Fields<'_>) -> TaskOptions {
    TaskOptions {
        timeout: fields.take(
            "timeout",
            "a duration such as `90s`, or `never`",
            |value| match value.as_str()? {
                "never" => Some(Timeout::Never),
                text => {
                    let timeout = humantime::parse_duration(text).ok()?;
                    (!timeout.is_zero()).then_some(Timeout::After(timeout))
                }
            },
        ),
        max_attempts: fields.take("max_attempts", "a whole number of at least 1", |value| {
            u32::try_from(value.as_integer()?).ok().filter(|n| *n > 0)
        }),
        backoff: fields.parse::<Backoff>("backoff", "`<first>,<factor>,<cap>` such as `1s,2,6h`"),
        keep_result: fields.flag("keep_result"),
    }
}

fn read_exec(fields: &mut Fields<'_>) -> Option<ExecSpec> {
    let expected =
        "a list of the program and its arguments such as `[\"./resize\", \"--size\", \"200\"]`";
    let command: Option<Vec<String>> = fields.take("exec", expected, |value| {
        let parts = value.as_array()?.iter();
        let parts: Option<Vec<_>> = parts.map(|part| Some(part.as_str()?.to_owned())).collect();
        parts.filter(|parts| parts.first().is_some_and(|program| !program.is_empty()))
    });
    let cwd: Option<PathBuf> = fields.take("cwd", "a folder that is there", |value| {
        Some(PathBuf::from(value.as_str()?)).filter(|path| path.is_dir())
    });
    let env = fields.texts("env");
    let success_codes = fields.codes("success_codes").unwrap_or_else(|| vec![0]);
    let permanent_codes = fields
        .codes("permanent_codes")
        .unwrap_or_else(|| PERMANENT_CODES.to_vec());
    let mut command = command?.into_iter();
    let name = command.next()?;
    let Some(program) = exec::find_program(&name, cwd.as_deref()) else {
        let value = Value::String(name);
        fields.refuse(
            "exec",
            &value,
            "a program that is there and can be executed",
        );
        return None;
    };
    Some(ExecSpec {
        name,
        program,
        args: command.collect(),
        cwd,
        env,
        success_codes,
        permanent_codes,
    })
}

fn read_http(fields: &mut Fields<'_>) -> Option<HttpSpec> {
    let expected = "a URL such as `https://example.org/hook`";
    let text = fields.text("http", expected);
    let headers = fields.texts("headers");
    let connect_timeout = fields.duration("connect_timeout");
    let mut spec = HttpSpec::new(connect_timeout);
    for (name, value) in headers {
        if let Err(reason) = spec.add_header(&name, &value) {
            fields.problem_in("headers", &name, &reason);
        }
    }
    let text = text?;
    let url = super::expand::expand(&text);
    match url.map(|url| spec.set_url(&url)) {
        Ok(true) => Some(spec),
        Ok(false) => {
            fields.refuse("http", &Value::String(text), expected);
            None
        }
        Err(reason) => {
            fields.problem("http", &reason);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_full_file_is_read() {
        let file = TaskFile::parse(
            r#"
            builtins = true
            [tasks."image.resize"]
            exec = ["sh", "-c", "cat"]
            timeout = "5m"
            max_attempts = 5
            backoff = "1s,2,10m"
            keep_result = false
            env = { LEVEL = "9" }
            cwd = "/"
            success_codes = [0, 3]
            [tasks.hook]
            http = "http://127.0.0.1:1/x"
            headers = { X-Key = "k" }
            timeout = "never"
            "#,
        )
        .unwrap();
        assert!(file.builtins);
        let [hook, resize] = file.tasks.as_slice() else {
            panic!("expected two tasks, found {:?}", file.tasks);
        };
        assert_eq!(hook.options.timeout, Some(Timeout::Never));
        assert_eq!(resize.name.as_str(), "image.resize");
        let expected = TaskOptions::new()
            .timeout(Duration::from_secs(300))
            .max_attempts(5)
            .backoff("1s,2,10m".parse().unwrap())
            .keep_result(false);
        assert_eq!(resize.options, expected);
        let Kind::Exec(exec) = &resize.kind else {
            panic!("expected a program, found {:?}", resize.kind);
        };
        assert!(exec.program.is_absolute(), "{:?}", exec.program);
        assert_eq!(
            (&exec.args[..], &exec.success_codes[..]),
            (&["-c".to_owned(), "cat".to_owned()][..], &[0, 3][..])
        );
        assert_eq!(exec.permanent_codes, PERMANENT_CODES);
    }

    #[test]
    fn every_problem_names_its_field_its_value_and_what_was_expected() {
        let text = r#"
            surprise = 1
            [tasks.a]
            exec = "ls -l"
            timeout = "0s"
            max_attempts = 0
            backoff = "1s"
            keep_result = "yes"
            cwd = "/no/such/folder"
            success_codes = [0, 256]
            shell = true
            env = { A = "${REPULL_TEST_NOT_SET}", B = "b" }
            [tasks.b]
            exec = ["/no/such/program"]
            [tasks.c]
            http = "ftp://x"
            headers = { "bad name" = "x" }
            [tasks.d]
            timeout = "1s"
            [tasks.e]
            exec = ["sh"]
            http = "http://x"
            [tasks.mail.send]
            exec = ["sh"]
            [tasks."bad name"]
            exec = ["sh"]
        "#;
        let problems = TaskFile::parse(text).unwrap_err();
        let expected = [
            "surprise is unknown, expected one of `builtins`, `tasks`",
            "tasks.a.exec is `ls -l`, expected a list of the program and its arguments",
            "tasks.a.timeout is `0s`, expected a duration",
            "tasks.a.max_attempts is `0`, expected a whole number of at least 1",
            "tasks.a.backoff is `1s`, expected `<first>,<factor>,<cap>`",
            "tasks.a.keep_result is `yes`, expected true or false",
            "tasks.a.cwd is `/no/such/folder`, expected a folder that is there",
            "tasks.a.success_codes is `[0, 256]`, expected a list of exit codes",
            "tasks.a.shell is unknown, expected one of `timeout`",
            "tasks.a.env.A names `${REPULL_TEST_NOT_SET}`, expected a variable",
            "tasks.b.exec is `/no/such/program`, expected a program that is there",
            "tasks.c.http is `ftp://x`, expected a URL",
            "tasks.c.headers.\"bad name\" is not a header's name",
            "tasks.d has neither `exec` nor `http`",
            "tasks.e has both `exec` and `http`",
            "tasks.mail has neither `exec` nor `http`, expected one of the two (a dotted name is quoted",
            "tasks.\"bad name\": task `bad name` is not valid",
        ];
        let found: Vec<&str> = problems.iter().collect();
        for expected in expected {
            let seen = found.iter().any(|problem| problem.starts_with(expected));
            assert!(seen, "`{expected}` in {problems}");
        }
        assert_eq!(found.len(), expected.len(), "{problems}");
    }

    #[test]
    fn what_is_not_toml_and_what_is_empty_are_refused() {
        assert!(
            TaskFile::parse("[tasks")
                .unwrap_err()
                .to_string()
                .contains("not TOML")
        );
        assert!(
            TaskFile::parse("")
                .unwrap_err()
                .to_string()
                .contains("no task")
        );
        assert!(TaskFile::parse("builtins = true").is_ok());
    }
}
