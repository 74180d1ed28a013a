//! Tasks without code: programs and URLs from a file, and built-in ones for trying things out.
//!
//! ```toml
//! builtins = true                            # also serve echo, sleep and fail
//!
//! [tasks.resize]                             # a dotted name is quoted: [tasks."mail.send"]
//! exec = ["./resize", "--size", "200"]       # the program and its arguments; never a shell
//! cwd = "/srv/images"                        # where it runs; else where the worker does
//! env = { LEVEL = "9", KEY = "${API_KEY}" }  # on top of the worker's, `${…}` is the worker's
//! success_codes = [0]                        # exit codes that mean success
//! permanent_codes = [64, 65]                 # exit codes after which no attempt is better
//! timeout = "5m"                             # these four for any task
//! max_attempts = 5
//! backoff = "1s,2,10m"
//! keep_result = true
//!
//! [tasks.hook]
//! http = "https://example.org/hook"          # POST with the arguments as the body
//! headers = { Authorization = "Bearer ${HOOK_TOKEN}" }
//! ```

mod builtin;
mod exec;
mod expand;
mod fields;
mod file;
mod group;
mod http;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

pub use file::{TaskFile, TaskFileError};

use crate::builder::WorkerBuilder;
use crate::run::TaskOptions;
use file::{Kind, TaskSpec};

impl WorkerBuilder {
    /// Serves the built-in tasks: `echo` returns its arguments, `sleep` takes `{"ms": 10}`, `fail`
    /// takes `{"times": 2}` and then succeeds.
    pub fn builtins(self) -> Self {
        self.handler("echo", TaskOptions::default(), builtin::echo())
            .handler("sleep", TaskOptions::default(), builtin::sleep())
            .handler("fail", TaskOptions::default(), builtin::fail())
    }

    /// Serves the tasks of a file, and the built-in ones where it says so.
    pub fn task_file(self, file: TaskFile) -> Self {
        let builder = if file.builtins { self.builtins() } else { self };
        file.tasks.into_iter().fold(builder, |builder, task| {
            let TaskSpec {
                name,
                options,
                kind,
            } = task;
            let handler = match kind {
                Kind::Exec(spec) => Ok(exec::handler(Arc::new(spec))),
                Kind::Http(spec) => http::handler(&spec),
            };
            match handler {
                Ok(handler) => builder.handler(name.as_str(), options, handler),
                Err(reason) => builder.problem(format!("task `{name}`: {reason}")),
            }
        })
    }
}
