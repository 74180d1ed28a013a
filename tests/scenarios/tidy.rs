//! House rules that a tool can check, each as a test that lists every violation as `path:line`.

use std::fmt::Write as _;
use std::path::Path;

use repull_tests::repository;

/// Modules that decide and do nothing else: no I/O, no tasks, no clock.
const PURE: [&str; 4] = [
    "worker/src/engine/",
    "scheduler/src/due/",
    "shared/src/trigger/",
    "shared/src/retry.rs",
];

/// What a pure module must not mention.
const IMPURE: [&str; 9] = [
    "tokio",
    "async_nats",
    "futures",
    "async fn",
    ".await",
    "::now()",
    "std::fs",
    "std::net",
    "std::thread",
];

/// Longer files hold more than one thing.
const LINES_MAX: usize = 500;

/// Folders that are not ours to judge.
const SKIPPED: [&str; 5] = ["target", ".git", ".tools", "repull-data", "node_modules"];

/// A text file of the repository.
struct Source {
    /// Relative to the repository, with slashes.
    path: String,
    text: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Lines with their numbers, without those that are only a comment.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }
}

fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    collect(repository(), &mut sources);
    assert!(
        sources.len() > 20,
        "the walk found only {} files",
        sources.len()
    );
    sources
}

fn collect(folder: &Path, sources: &mut Vec<Source>) {
    for entry in std::fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if SKIPPED.contains(&&*name) {
            continue;
        }
        if path.is_dir() {
            collect(&path, sources);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            let path = path
                .strip_prefix(repository())
                .expect("a path below the root");
            let path = path.to_string_lossy().replace('\\', "/");
            sources.push(Source { path, text });
        }
    }
}

/// Fails with every violation, where a rule has found some.
fn report(rule: &str, violations: &[String]) {
    let mut text = String::new();
    for violation in violations {
        let _ = writeln!(text, "  {violation}");
    }
    assert!(violations.is_empty(), "{rule}:\n{text}");
}

fn check(rule: &str, violations_of: impl Fn(&Source) -> Vec<String>) {
    let violations: Vec<_> = sources().iter().flat_map(violations_of).collect();
    report(rule, &violations);
}

fn impurities(source: &Source) -> Vec<String> {
    if !PURE.iter().any(|pure| source.path.starts_with(pure)) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (number, line) in source.code() {
        for word in IMPURE.iter().filter(|word| line.contains(*word)) {
            found.push(format!("{}:{number}: `{word}`", source.path));
        }
    }
    found
}

#[test]
fn pure_modules_import_nothing_async_and_read_no_clock() {
    check("pure modules decide and do nothing else", impurities);
}

fn missing_opening(source: &Source) -> Vec<String> {
    let opens = source.text.starts_with("//! ");
    let wants_one = source.is_rust() && !source.path.contains("/snapshots/");
    if wants_one && !opens {
        return vec![format!("{}:1: no `//!` paragraph", source.path)];
    }
    Vec::new()
}

#[test]
fn every_source_file_opens_with_a_paragraph() {
    check("a source file opens with what it is for", missing_opening);
}

fn too_long(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if source.is_rust() && lines > LINES_MAX {
        return vec![format!(
            "{}:{lines}: more than {LINES_MAX} lines",
            source.path
        )];
    }
    Vec::new()
}

#[test]
fn no_source_file_is_too_long() {
    check("a source file fits into a reader's head", too_long);
}

/// Only the command line speaks to a person; the others log. A binary's `main.rs` may still say why
/// it cannot start, on stderr.
fn prints(source: &Source) -> Vec<String> {
    let speaks = ["cli/", "tests/", "worker/examples/"];
    let is_test = source.path.contains("/tests/");
    if !source.is_rust() || is_test || speaks.iter().any(|path| source.path.starts_with(path)) {
        return Vec::new();
    }
    let printed = |line: &str| {
        let line = line.replace("eprintln!", "").replace("eprint!", "");
        line.contains("println!") || line.contains("print!")
    };
    let lines = source.code().filter(|(_, line)| printed(line));
    lines
        .map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim()))
        .collect()
}

#[test]
fn only_the_command_line_prints() {
    check("data on stdout belongs to the command line", prints);
}

/// What must not be named, put together here so that this file does not name it.
fn unspeakable() -> Vec<String> {
    let hosts = [
        ["crates", "io"],
        ["static.rust-lang", "org"],
        ["proxy.golang", "org"],
        ["registry.npmjs", "org"],
        ["pypi", "org"],
        ["pythonhosted", "org"],
        ["deb.debian", "org"],
        ["archive.ubuntu", "com"],
    ];
    let mut words: Vec<_> = hosts.iter().map(|parts| parts.join(".")).collect();
    words.push(["TO", "DO"].concat());
    words.push(["FIX", "ME"].concat());
    words.push(["/work", "/"].concat());
    words.push(["/root", "/"].concat());
    words
}

fn unspeakable_words(source: &Source) -> Vec<String> {
    if source.path.ends_with("Cargo.lock") {
        return Vec::new();
    }
    let words = unspeakable();
    let mut found = Vec::new();
    for (number, line) in source.lines() {
        for word in words.iter().filter(|word| line.contains(*word)) {
            found.push(format!("{}:{number}: `{word}`", source.path));
        }
    }
    found
}

#[test]
fn no_host_of_a_registry_no_path_of_a_machine_and_nothing_left_to_do_is_named() {
    check(
        "what a reader elsewhere cannot use is not named",
        unspeakable_words,
    );
}

#[test]
fn scheduler_and_worker_never_see_each_other() {
    let mut violations = Vec::new();
    for (member, other) in [
        ("scheduler", "repull-worker"),
        ("worker", "repull-scheduler"),
    ] {
        for source in sources() {
            let manifest = source.path == format!("{member}/Cargo.toml");
            let code = source.path.starts_with(&format!("{member}/src/"));
            let word = if manifest {
                other.to_owned()
            } else {
                other.replace('-', "_") + "::"
            };
            if manifest || code {
                let lines = source.code().filter(|(_, line)| line.contains(&word));
                violations.extend(lines.map(|(number, _)| format!("{}:{number}", source.path)));
            }
        }
    }
    report("dependencies point one way, to `shared`", &violations);
}

/// The words `start` begins, followed by capitals or letters, as `allowed` says.
fn words<'a>(
    text: &'a str,
    start: &'a str,
    allowed: impl Fn(char) -> bool + 'a,
) -> impl Iterator<Item = &'a str> {
    text.match_indices(start).map(move |(at, _)| {
        let rest = &text[at + start.len()..];
        let end = rest.find(|c| !allowed(c)).unwrap_or(rest.len());
        &text[at..at + start.len() + end]
    })
}

/// Variables that a program of ours reads: those that an argument names as its `env`.
fn variables(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in source.code() {
        let named = words(line, "env = \"REPULL_", |c| {
            c.is_ascii_uppercase() || c == '_'
        });
        let variable = |word: &str| word.trim_start_matches("env = \"").to_owned();
        found.extend(named.map(|word| (number, variable(word))));
    }
    found
}

/// Headers of our own, as string literals.
fn headers(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in source.code() {
        let named = words(line, "\"Repull-", |c| c.is_ascii_alphanumeric() || c == '-');
        found.extend(named.map(|word| (number, word.trim_start_matches('"').to_owned())));
    }
    found
}

/// Names in our sources that none of the pages mentions; nothing while there is no such page.
fn undocumented(pages: &[&str], names_in: impl Fn(&Source) -> Vec<(usize, String)>) -> Vec<String> {
    let sources = sources();
    let text: String = sources
        .iter()
        .filter(|source| pages.contains(&source.path.as_str()))
        .map(|source| source.text.as_str())
        .collect();
    let ours = sources
        .iter()
        .filter(|source| source.is_rust() && source.path.contains("/src/"));
    let mut missing = Vec::new();
    for source in ours.filter(|_| !text.is_empty()) {
        for (number, name) in names_in(source) {
            if !text.contains(&name) {
                missing.push(format!("{}:{number}: `{name}`", source.path));
            }
        }
    }
    missing
}

#[test]
fn every_header_of_ours_is_in_the_description_of_the_wire() {
    let missing = undocumented(&["docs/WIRE.md"], headers);
    report("docs/WIRE.md names every header", &missing);
}

#[test]
fn every_variable_that_we_read_is_documented() {
    let pages = ["docs/CONFIGURATION.md", "docs/WIRE.md"];
    let missing = undocumented(&pages, variables);
    report("docs/CONFIGURATION.md names every variable", &missing);
}

/// Paths that a page names in backticks: below a folder of the root, or with a source's ending.
fn paths_named(text: &str, roots: &[String]) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for word in line.split('`').skip(1).step_by(2) {
            let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
            let below_root = roots
                .iter()
                .any(|root| word.starts_with(&format!("{root}/")));
            let ending = [".rs", ".md", ".toml"]
                .iter()
                .any(|ending| word.ends_with(ending));
            if word.chars().all(plain) && !word.starts_with('/') && (below_root || ending) {
                named.push((index + 1, word.trim_end_matches('/').to_owned()));
            }
        }
    }
    named
}

#[test]
fn the_map_names_only_what_is_there() {
    let sources = sources();
    let roots: Vec<String> = std::fs::read_dir(repository())
        .expect("the repository")
        .filter_map(Result::ok)
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let there = |named: &str| {
        repository().join(named).exists()
            || sources
                .iter()
                .any(|source| source.path.ends_with(&format!("/{named}")))
    };
    let mut violations = Vec::new();
    for page in sources
        .iter()
        .filter(|source| source.path == "docs/ARCHITECTURE.md")
    {
        let named = paths_named(&page.text, &roots);
        let gone = named.into_iter().filter(|(_, path)| !there(path));
        violations.extend(gone.map(|(number, path)| format!("{}:{number}: `{path}`", page.path)));
    }
    report(
        "docs/ARCHITECTURE.md names only paths that exist",
        &violations,
    );
}

#[test]
fn each_rule_finds_its_violation() {
    let source = |path: &str, text: &str| Source {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    let engine = source(
        "worker/src/engine/mod.rs",
        "//! Pure.\n// tokio in a comment is fine\nlet now = Instant::now();\nuse tokio::spawn;\n",
    );
    assert_eq!(impurities(&engine).len(), 2);
    assert!(impurities(&source("worker/src/driver.rs", &engine.text)).is_empty());
    assert_eq!(
        missing_opening(&source("a/src/b.rs", "use std::fmt;\n")).len(),
        1
    );
    assert_eq!(
        too_long(&source("a/src/b.rs", &"\n".repeat(LINES_MAX + 1))).len(),
        1
    );
    let printing = source("worker/src/a.rs", "println!();\neprintln!();\nprint!();\n");
    assert_eq!(prints(&printing).len(), 2);
    assert!(prints(&source("cli/src/a.rs", "println!();")).is_empty());
    let naming = source("a.md", &unspeakable().join("\n"));
    assert!(unspeakable_words(&naming).len() >= unspeakable().len());
    let names = source(
        "a/src/b.rs",
        "#[arg(env = \"REPULL_HTTP\")]\nlet a = \"Repull-Run-At\";",
    );
    assert_eq!(variables(&names), [(1, "REPULL_HTTP".to_owned())]);
    assert_eq!(headers(&names), [(2, "Repull-Run-At".to_owned())]);
    let page = "See `worker/src/gone.rs`, `/metrics`, `a.b` and `engine/mod.rs`.";
    assert_eq!(paths_named(page, &["worker".to_owned()]).len(), 2);
}
