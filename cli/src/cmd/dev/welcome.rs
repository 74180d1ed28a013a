//! What `repull dev` says when everything runs: what there is, and what to try next.

use std::fmt::Write as _;
use std::path::Path;

use repull_worker::config::ServedQueue;

use super::DevArgs;
use super::stack::Stack;
use crate::nats_server::PORT_DEFAULT;
use crate::ui::out;

/// Prints it to stdout.
pub(super) fn print(stack: &Stack, args: &DevArgs) -> anyhow::Result<()> {
    let mut text = what_runs(stack, args);
    text.push_str(&what_to_try(stack, args));
    Ok(out::line(text.trim_end())?)
}

fn what_runs(stack: &Stack, args: &DevArgs) -> String {
    let server = stack.server();
    let mut text = format!(
        "Repull runs: nats-server {} at {}, a scheduler, and a worker with {} slots on {}.\n",
        server.version(),
        server.url(),
        args.slots,
        queues(&args.queue),
    );
    if stack.is_on_other_port() {
        let _ = writeln!(
            text,
            "Port {PORT_DEFAULT} is taken by somebody else, so this is another one."
        );
    }
    let folder = server.folder();
    let fate = if folder.is_temporary() {
        "removed at the end"
    } else {
        "kept for the next start"
    };
    let _ = writeln!(text, "Data: {}, {fate}.", below_here(folder.path()));
    text.push_str("Ctrl-C ends all of it.\n\n");
    text
}

fn what_to_try(stack: &Stack, args: &DevArgs) -> String {
    let repull = quoted(&program_name());
    let namespace = stack.client().namespace();
    let queue = args.queue.first();
    let queue = queue.map_or("default", |queue| queue.name.as_str());
    let on = if queue == "default" {
        String::new()
    } else {
        format!(" --queue {queue}")
    };
    let mut text = format!(
        "Try, in another terminal:\n  export NATS_URL={}\n",
        stack.server().url()
    );
    let mut line = |line: String| {
        let _ = writeln!(text, "  {line}");
    };
    if namespace.as_str() != "repull" {
        line(format!("export REPULL_NAMESPACE={namespace}"));
    }
    if args.config.is_none() {
        line(format!(
            r#"{repull} job submit echo '{{"hello": "world"}}'{on} --wait"#
        ));
        line(format!(
            r#"{repull} job submit fail '{{"times": 2}}'{on} --wait"#
        ));
        line(format!(
            r#"{repull} schedule add tick --every 1s --task echo --args '{{"tick": true}}'{on}"#
        ));
        line(format!(
            r#"nats pub '{namespace}.jobs.{queue}.echo.hello-1' '{{"x": 1}}'"#
        ));
    }
    line(format!("{repull} queue list"));
    line(format!("{repull} job list --state done"));
    text
}

fn queues(served: &[ServedQueue]) -> String {
    let names: Vec<String> = served
        .iter()
        .map(|queue| format!("`{}`", queue.name))
        .collect();
    match names.as_slice() {
        [] => "queue `default`".to_owned(),
        [one] => format!("queue {one}"),
        all => format!("queues {}", all.join(", ")),
    }
}

/// What to type for this program: its name where the PATH finds it, else where it is.
fn program_name() -> String {
    let Ok(program) = std::env::current_exe().and_then(|program| program.canonicalize()) else {
        return "repull".to_owned();
    };
    let name = program.file_name().unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file());
    if found.and_then(|found| found.canonicalize().ok()).as_ref() == Some(&program) {
        return name.to_string_lossy().into_owned();
    }
    below_here(&program)
}

/// A path as one types it where one stands.
fn below_here(path: &Path) -> String {
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    let short = here
        .ok()
        .and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    match short {
        Some(short) if !short.as_os_str().is_empty() => short.display().to_string(),
        _ => path.display().to_string(),
    }
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./~+".contains(c);
    if word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_blanks_is_quoted_for_the_shell() {
        assert_eq!(quoted("target/debug/repull"), "target/debug/repull");
        assert_eq!(quoted("/a b/it's"), r"'/a b/it'\''s'");
    }

    #[test]
    fn queues_are_named_without_their_weights() {
        let served = |text: &str| text.parse::<ServedQueue>().unwrap();
        assert_eq!(queues(&[]), "queue `default`");
        assert_eq!(queues(&[served("mail=3")]), "queue `mail`");
        assert_eq!(queues(&[served("a"), served("b=2")]), "queues `a`, `b`");
    }
}
