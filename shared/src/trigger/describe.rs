//! A trigger in plain words.

use std::fmt;

use super::calendar::{Calendar, Step};
use super::{Exclusion, Rule, Trigger, value};

impl Trigger {
    /// The trigger in plain words, such as "at 02:30 every day, Europe/Berlin".
    pub fn describe(&self) -> String {
        self.to_string()
    }

    /// Whether its words hold a comma list of their own, so that they need brackets in another.
    fn is_compound(&self) -> bool {
        matches!(self.rule, Rule::Any(_) | Rule::All(_)) || !self.exclude.is_empty()
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.rule)?;
        if let Some(start) = self.start {
            write!(f, ", from {}", value::instant_text(start))?;
        }
        if let Some(end) = self.end {
            write!(f, ", until {}", value::instant_text(end))?;
        }
        if !self.exclude.is_empty() {
            let words: Vec<String> = self.exclude.iter().map(Exclusion::words).collect();
            write!(f, ", except {}", and(&words))?;
        }
        Ok(())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Cron(cron) => write!(f, "{cron}"),
            Rule::Every(every) => {
                write!(f, "every {}", value::duration_text(every.interval))?;
                let Some(anchor) = every.anchor else {
                    return Ok(());
                };
                write!(f, ", counted from {}", value::instant_text(anchor))
            }
            Rule::Calendar(calendar) => write!(f, "{calendar}"),
            Rule::At(when) => write!(f, "once, at {}", value::instant_text(*when)),
            Rule::Any(members) => match &members[..] {
                [only] => write!(f, "{only}"),
                _ => write!(f, "whenever one of these fires: {}", join(members, "; or ")),
            },
            Rule::All(all) => match &all.members[..] {
                [only] => write!(f, "{only}"),
                members => {
                    let tolerance = value::duration_text(all.tolerance);
                    let joined = join(members, "; and ");
                    write!(f, "whenever all of these fire within {tolerance}: {joined}")
                }
            },
        }
    }
}

impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = value::time_text(self.time);
        let time = time.strip_suffix(":00").unwrap_or(&time);
        write!(f, "at {time} {}, from {}", self.step, self.from)?;
        if let Some(until) = self.until {
            write!(f, " until {until}")?;
        }
        write!(f, ", {}", self.timezone)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.years, "year"),
            (self.months, "month"),
            (self.weeks, "week"),
            (self.days, "day"),
        ];
        let parts: Vec<_> = parts.into_iter().filter(|(count, _)| *count > 0).collect();
        if let [(1, unit)] = parts[..] {
            return write!(f, "every {unit}");
        }
        let words = |(count, unit): &(u32, &str)| match count {
            1 => format!("1 {unit}"),
            _ => format!("{count} {unit}s"),
        };
        let words: Vec<String> = parts.iter().map(words).collect();
        write!(f, "every {}", and(&words))
    }
}

impl Exclusion {
    fn words(&self) -> String {
        match self {
            Exclusion::Date(date) => date.to_string(),
            Exclusion::Fires(trigger) => format!("({trigger})"),
        }
    }
}

/// Joins words as one says them: "a", "a and b", "a, b and c".
pub(super) fn and(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

fn join(members: &[Trigger], between: &str) -> String {
    let words = |member: &Trigger| {
        if member.is_compound() {
            format!("({member})")
        } else {
            member.to_string()
        }
    };
    members.iter().map(words).collect::<Vec<_>>().join(between)
}
