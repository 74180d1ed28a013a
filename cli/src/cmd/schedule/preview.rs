//! `repull schedule preview`: the fires of a trigger that is nowhere stored.
//!
//! With `--json` and no trigger it answers questions line by line, for programs that want to know
//! what a trigger means without a server: see [`answer`].

use std::io::{BufRead, Write};
use std::process::ExitCode;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::Args;
use repull::clock;
use repull::trigger::Trigger;
use serde::Deserialize;
use serde_json::{Value, json};

use super::trigger::TriggerArgs;
use crate::cmd::job::limit;
use crate::ui::table::Table;
use crate::ui::{out, report, time};

/// Fires listed where a question names no number.
const COUNT_DEFAULT: usize = 10;

/// The most fires that one answer lists.
const COUNT_MAX: usize = 100_000;

/// The options of `repull schedule preview`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  repull schedule preview --cron '30 2 * * *' --tz Europe/Berlin
  echo '{\"trigger\": {\"every\": {\"interval\": \"1h\"}}, \"after\": null, \"count\": 3}' |
    repull schedule preview --json")]
pub(crate) struct PreviewArgs {
    #[command(flatten)]
    trigger: TriggerArgs,
    /// Fires after this time instead of now
    #[arg(long, value_name = "TIME", value_parser = time::instant)]
    after: Option<DateTime<Utc>>,
    /// How many fires
    #[arg(long, short = 'n', default_value_t = COUNT_DEFAULT, value_parser = limit)]
    count: usize,
    /// Print JSON; without a trigger, answer each line {"trigger", "after", "count"} on stdin with a
    /// line {"fires": [...]} or {"error": "..."}
    #[arg(long)]
    json: bool,
}

/// A question.
#[derive(Deserialize)]
struct Question {
    trigger: Value,
    #[serde(default)]
    after: Option<String>,
    #[serde(default)]
    count: Option<usize>,
}

/// Previews.
pub(crate) fn run(args: &PreviewArgs) -> anyhow::Result<ExitCode> {
    if args.json && !args.trigger.is_given() {
        return answer_lines();
    }
    let mut trigger = args.trigger.read()?;
    trigger.anchor(clock::now());
    let after = args.after.unwrap_or_else(clock::now);
    if args.json {
        out::json(&json!({ "fires": fires(&trigger, Some(after), args.count) }))?;
        return Ok(ExitCode::SUCCESS);
    }
    report::note(trigger.describe());
    let local = format!("LOCAL ({})", trigger.timezone().name());
    let mut table = Table::new(&[&local, "UTC", "IN"]);
    for fire in trigger.fires(Some(after)).take(args.count) {
        let relative = time::relative(fire);
        table.row([
            time::local(trigger.local(fire)).into(),
            time::seconds(fire).into(),
            relative.trim_start_matches("in ").into(),
        ]);
    }
    if table.is_empty() {
        report::note("no fire is left");
    } else {
        table.print()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One answer for each line that is not blank, whatever the line holds.
fn answer_lines() -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let mut input = std::io::stdin().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let answer = match answer(&line) {
            Ok(fires) => json!({ "fires": fires }),
            Err(error) => json!({ "error": error }),
        };
        serde_json::to_writer(&mut out, &answer)?;
        out.write_all(b"\n")?;
        // Whoever asks line by line waits for the answer before the next question.
        out.flush()?;
    }
}

/// The fires strictly after `after`, or from the trigger's own start where it is null or absent:
/// RFC 3339 with the zone's offset. A list shorter than `count` means that no more will come.
fn answer(line: &[u8]) -> Result<Vec<String>, String> {
    let question: Question = serde_json::from_slice(line).map_err(|error| {
        format!(
            "the line is not a question: {error}, expected {{\"trigger\", \"after\", \"count\"}}"
        )
    })?;
    let count = question.count.unwrap_or(COUNT_DEFAULT);
    if count > COUNT_MAX {
        return Err(format!("count is {count}, expected at most {COUNT_MAX}"));
    }
    let after = question.after.as_deref().map(time::instant).transpose();
    let after = after.map_err(|error| format!("after: {error}"))?;
    let trigger = Trigger::from_value(question.trigger).map_err(|error| error.to_string())?;
    Ok(fires(&trigger, after, count))
}

fn fires(trigger: &Trigger, after: Option<DateTime<Utc>>, count: usize) -> Vec<String> {
    trigger
        .fires(after)
        .take(count)
        .map(|fire| {
            trigger
                .local(fire)
                .to_rfc3339_opts(SecondsFormat::AutoSi, false)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_carry_the_offset_of_their_zone() {
        let question = r#"{"trigger": {"cron": {"expression": "30 2 * * *", "timezone": "Europe/Berlin"}},
            "after": "2026-10-24T00:00:00Z", "count": 2}"#;
        assert_eq!(
            answer(question.as_bytes()).unwrap(),
            ["2026-10-24T02:30:00+02:00", "2026-10-25T02:30:00+02:00"]
        );
    }

    #[test]
    fn without_after_the_triggers_own_start_counts() {
        let question = r#"{"trigger": {"every": {"interval": "1h", "anchor": "2026-01-01T00:00:00Z"}},
            "after": null, "count": 2}"#;
        assert_eq!(
            answer(question.as_bytes()).unwrap(),
            ["2026-01-01T00:00:00+00:00", "2026-01-01T01:00:00+00:00"]
        );
    }

    #[test]
    fn a_bad_line_is_answered_with_what_is_wrong() {
        for (line, part) in [
            ("{", "not a question"),
            ("[]", "not a question"),
            ("{}", "trigger"),
            (
                r#"{"trigger": {"cron": {"expression": "61 * * * *"}}}"#,
                "61",
            ),
            (
                r#"{"trigger": {"at": "2026-01-01T00:00:00Z"}, "after": "soon"}"#,
                "soon",
            ),
            (
                r#"{"trigger": {"at": "2026-01-01T00:00:00Z"}, "count": 1000000}"#,
                "at most",
            ),
            (r#"{"trigger": 7}"#, "7"),
        ] {
            let error = answer(line.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
        assert!(answer(b"\xff\xfe").is_err());
    }
}
