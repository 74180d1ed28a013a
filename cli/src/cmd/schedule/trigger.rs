//! A trigger from the command line.

use chrono::{DateTime, Utc};
use clap::Args;
use repull::trigger::Trigger;
use serde_json::{Map, Value, json};

use crate::ui::{read, report, time};

/// The options that make a trigger.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Trigger")]
pub(crate) struct TriggerArgs {
    /// Fire by a crontab expression such as '30 2 * * *'; six fields begin with seconds
    #[arg(long, value_name = "EXPRESSION", conflicts_with_all = ["every", "at", "trigger"])]
    cron: Option<String>,
    /// Time zone of the crontab expression, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", requires = "cron", default_value = "UTC")]
    tz: String,
    /// Fire in intervals such as 90s
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["at", "trigger"])]
    every: Option<String>,
    /// Time from which intervals are counted [default: when the schedule is made]
    #[arg(long, value_name = "TIME", requires = "every", value_parser = time::instant)]
    anchor: Option<DateTime<Utc>>,
    /// Fire once, at this time
    #[arg(long, value_name = "TIME", conflicts_with = "trigger")]
    at: Option<String>,
    /// Any trigger as JSON, `-` for stdin or `@FILE`
    #[arg(long, value_name = "JSON")]
    trigger: Option<String>,
    /// No fire before this time
    #[arg(long, value_name = "TIME", conflicts_with = "trigger")]
    start: Option<String>,
    /// No fire after this time
    #[arg(long, value_name = "TIME", conflicts_with = "trigger")]
    end: Option<String>,
}

impl TriggerArgs {
    /// Whether any trigger is given.
    pub(crate) fn is_given(&self) -> bool {
        self.cron.is_some() || self.every.is_some() || self.at.is_some() || self.trigger.is_some()
    }

    /// The trigger, checked.
    pub(crate) fn read(&self) -> anyhow::Result<Trigger> {
        let value = self.value()?;
        Trigger::from_value(value).map_err(|error| report::usage(error.to_string()))
    }

    fn value(&self) -> anyhow::Result<Value> {
        if let Some(trigger) = &self.trigger {
            return read::json("trigger", trigger);
        }
        let mut trigger = Map::new();
        if let Some(expression) = &self.cron {
            let cron = json!({ "expression": expression, "timezone": self.tz });
            trigger.insert("cron".to_owned(), cron);
        } else if let Some(interval) = &self.every {
            let mut every = json!({ "interval": interval });
            if let Some(anchor) = self.anchor {
                every["anchor"] = time::stamp_exact(anchor).into();
            }
            trigger.insert("every".to_owned(), every);
        } else if let Some(at) = &self.at {
            trigger.insert("at".to_owned(), at.as_str().into());
        } else {
            return Err(report::hinted(
                report::usage("nothing says when it fires"),
                "give one of --cron, --every, --at and --trigger",
            ));
        }
        for (name, bound) in [("start", &self.start), ("end", &self.end)] {
            if let Some(bound) = bound {
                trigger.insert(name.to_owned(), bound.as_str().into());
            }
        }
        Ok(Value::Object(trigger))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Harness {
        #[command(flatten)]
        args: TriggerArgs,
    }

    fn parse(line: &[&str]) -> anyhow::Result<Trigger> {
        let words = std::iter::once("x").chain(line.iter().copied());
        Harness::try_parse_from(words)?.args.read()
    }

    #[test]
    fn each_kind_of_trigger_can_be_typed() {
        let cron = parse(&["--cron", "30 2 * * *", "--tz", "Europe/Berlin"]).unwrap();
        assert_eq!(cron.timezone().name(), "Europe/Berlin");
        parse(&["--every", "1h", "--anchor", "2026-01-01T00:00:00Z"]).unwrap();
        parse(&["--at", "2026-01-01T00:00:00Z"]).unwrap();
        parse(&["--cron", "* * * * *", "--end", "2099-01-01T00:00:00Z"]).unwrap();
        parse(&["--trigger", r#"{"any": [{"at": "2026-01-01T00:00:00Z"}]}"#]).unwrap();
    }

    #[test]
    fn what_is_no_trigger_is_refused_with_the_field() {
        let error = |line: &[&str]| parse(line).unwrap_err().to_string();
        assert!(error(&["--cron", "61 * * * *"]).contains("61"));
        assert!(error(&["--cron", "* * * * *", "--tz", "Mars/Base"]).contains("Mars/Base"));
        assert!(error(&["--cron", "0 0 31 2 *"]).contains("never"));
        assert!(error(&[]).contains("when"));
        assert!(error(&["--tz", "UTC"]).contains("cron"));
        assert!(error(&["--every", "1h", "--cron", "* * * * *"]).contains("cannot be used"));
    }
}
