//! Reads a crontab expression.
//!
//! The language is that of Debian's cron, with seconds and Quartz' `L`, `W` and `#` added:
//!
//! | Field | Values | Also |
//! | --- | --- | --- |
//! | second (only with six fields) | 0-59 | |
//! | minute | 0-59 | |
//! | hour | 0-23 | |
//! | day of month | 1-31 | `L`, `L-3`, `15W`, `LW`, `?` |
//! | month | 1-12, `jan`-`dec` | |
//! | day of week | 0-7 (0 and 7 are Sunday), `sun`-`sat` | `5L`, `fri#3`, `?` |
//!
//! Each is a list of `*`, `n`, `a-b`, with an optional `/step`; `n/step` runs to the field's end.
//! A step may be larger than its range, which then leaves its first value. Ranges go upwards.

use super::fields::{Clock, Days, Fields, Join, Pace, Special};
use crate::trigger::Error;

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Longer than any sensible expression, so that a hostile one costs nothing.
const LENGTH_MAX: usize = 1_024;

/// One of the six fields: its name, its range and what else may stand in it.
struct Kind {
    /// How the field is called in messages.
    name: &'static str,
    low: u32,
    high: u32,
    /// Names of the values from `low` on.
    names: &'static [&'static str],
    /// Reads the items that only this field has.
    marked: fn(&str) -> Marked,
    expected: &'static str,
}

/// What an item is beyond a value, a range or a step.
enum Marked {
    /// Nothing: it has no `L`, `W` or `#`.
    Plain,
    /// It has one of them, in a way that means nothing.
    Wrong,
    Special(Special),
    /// `?`, Quartz' way to write `*` in a day field.
    Any,
}

const SECOND: Kind = plain("second", 59);
const MINUTE: Kind = plain("minute", 59);
const HOUR: Kind = plain("hour", 23);
const DAY: Kind = Kind {
    name: "day of month",
    low: 1,
    high: 31,
    names: &[],
    marked: marked_day,
    expected: "1 to 31, `L`, `L-3`, `15W` or `LW`",
};
const MONTH: Kind = Kind {
    name: "month",
    low: 1,
    high: 12,
    names: &MONTHS,
    marked: |_| Marked::Plain,
    expected: "1 to 12 or `jan` to `dec`",
};
const WEEKDAY: Kind = Kind {
    name: "day of week",
    low: 0,
    high: 7,
    names: &WEEKDAYS,
    marked: marked_weekday,
    expected: "0 to 7 (0 and 7 are Sunday), `sun` to `sat`, `fri#3` or `5L`",
};

const fn plain(name: &'static str, high: u32) -> Kind {
    let expected = if high == 23 { "0 to 23" } else { "0 to 59" };
    Kind {
        name,
        low: 0,
        high,
        names: &[],
        marked: |_| Marked::Plain,
        expected,
    }
}

/// Reads `expression`; `field` is its place in the trigger, for messages.
pub(super) fn parse(expression: &str, field: &str) -> Result<Fields, Error> {
    let reader = Reader { expression, field };
    let parts = reader.split()?;
    let [second, minute, hour, day, month, weekday] = parts.texts;
    let read = |kind: &'static Kind, text: &str, position: usize| {
        reader.field(kind, text, position + parts.offset)
    };

    let clock = Clock {
        seconds: read(&SECOND, second, 0)?.set,
        minutes: read(&MINUTE, minute, 1)?.set,
        hours: read(&HOUR, hour, 2)?.set as u32,
    };
    let by_day = read(&DAY, day, 3)?;
    let months = read(&MONTH, month, 4)?.set as u16;
    let by_weekday = read(&WEEKDAY, weekday, 5)?;
    // Sunday is 0 and 7.
    let weekdays = ((by_weekday.set | by_weekday.set >> 7) & 0x7f) as u8;
    let join = if is_open(day) || is_open(weekday) {
        Join::Both
    } else {
        Join::Either
    };
    let pace = if is_open(minute) || is_open(hour) {
        Pace::Elapsed
    } else {
        Pace::Fixed
    };

    let special = [by_day.special, by_weekday.special].concat().into();
    let days = Days {
        months,
        days: by_day.set as u32,
        weekdays,
        special,
        join,
    };
    // Months repeat after 400 years, dates that exist at all come far earlier.
    if days.next(0).is_none() {
        return Err(Error::Never {
            what: reader.describe(),
        });
    }
    Ok(Fields { clock, days, pace })
}

/// Whether a field starts with a star, which decides how cron joins it with its neighbour.
fn is_open(text: &str) -> bool {
    text.starts_with(['*', '?'])
}

/// The texts of six fields, seconds filled in.
struct Parts<'a> {
    texts: [&'a str; 6],
    /// What to add to an index into `texts` for the number that the user counts.
    offset: usize,
}

/// What a field lists.
#[derive(Default)]
struct Listed {
    set: u64,
    special: Vec<Special>,
}

struct Reader<'a> {
    expression: &'a str,
    field: &'a str,
}

impl<'a> Reader<'a> {
    fn split(&self) -> Result<Parts<'a>, Error> {
        if self.expression.len() > LENGTH_MAX {
            let shown: String = self.expression.chars().take(40).collect();
            return Err(Error::field(
                self.field,
                format!("`{shown}…`, {} bytes", self.expression.len()),
                format!("at most {LENGTH_MAX} bytes"),
            ));
        }
        let text = self.expression.trim();
        if text.starts_with('@') {
            return Ok(Parts {
                texts: self.shorthand(text)?,
                offset: 0,
            });
        }
        let parts: Vec<&str> = text.split_whitespace().collect();
        match parts[..] {
            [a, b, c, d, e] => Ok(Parts {
                texts: ["0", a, b, c, d, e],
                offset: 0,
            }),
            [a, b, c, d, e, f] => Ok(Parts {
                texts: [a, b, c, d, e, f],
                offset: 1,
            }),
            _ => Err(Error::field(
                self.field,
                format!("`{}`", self.expression),
                format!(
                    "5 fields (minute, hour, day of month, month, day of week), 6 with seconds \
                     first, or a shorthand such as `@daily`, but not {}",
                    parts.len()
                ),
            )),
        }
    }

    fn shorthand(&self, text: &str) -> Result<[&'static str; 6], Error> {
        match text.to_ascii_lowercase().as_str() {
            "@yearly" | "@annually" => Ok(["0", "0", "0", "1", "1", "*"]),
            "@monthly" => Ok(["0", "0", "0", "1", "*", "*"]),
            "@weekly" => Ok(["0", "0", "0", "*", "*", "0"]),
            "@daily" | "@midnight" => Ok(["0", "0", "0", "*", "*", "*"]),
            "@hourly" => Ok(["0", "0", "*", "*", "*", "*"]),
            _ => Err(Error::field(
                self.field,
                format!("`{}`", self.expression),
                "`@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight` or `@hourly` \
                 (for an interval, use an `every` trigger)",
            )),
        }
    }

    fn field(&self, kind: &Kind, text: &str, number: usize) -> Result<Listed, Error> {
        let mut listed = Listed::default();
        for item in text.split(',') {
            listed
                .add(kind, &item.to_ascii_lowercase())
                .map_err(|expected| {
                    Error::field(
                        self.field,
                        format!(
                            "`{}`, where field {number} ({}) is `{text}`",
                            self.expression, kind.name
                        ),
                        expected,
                    )
                })?;
        }
        Ok(listed)
    }

    fn describe(&self) -> String {
        format!(
            "`{}` is `{}`, a date that does not exist in any year",
            self.field, self.expression
        )
    }
}

impl Listed {
    /// Adds one item of a list, or says what was expected.
    fn add(&mut self, kind: &Kind, item: &str) -> Result<(), String> {
        match (kind.marked)(item) {
            Marked::Plain => self.add_plain(kind, item),
            Marked::Wrong => Err(kind.expected.to_owned()),
            Marked::Any => self.add_plain(kind, "*"),
            Marked::Special(special) => {
                self.special.push(special);
                Ok(())
            }
        }
    }

    fn add_plain(&mut self, kind: &Kind, item: &str) -> Result<(), String> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step_of(step)?)),
            None => (item, None),
        };
        let (low, high) = match range.split_once('-') {
            _ if range == "*" => (kind.low, kind.high),
            Some((low, high)) if kind.value(low)? > kind.value(high)? => {
                return Err(format!(
                    "a range that goes upwards (`{low}` comes after `{high}`): split it in two"
                ));
            }
            Some((low, high)) => (kind.value(low)?, kind.value(high)?),
            None => {
                let value = kind.value(range)?;
                (value, if step.is_some() { kind.high } else { value })
            }
        };
        for value in (low..=high).step_by(step.unwrap_or(1)) {
            self.set |= 1 << value;
        }
        Ok(())
    }
}

impl Kind {
    fn value(&self, text: &str) -> Result<u32, String> {
        let named = self
            .names
            .iter()
            .zip(self.low..)
            .find(|(name, _)| **name == text);
        let value = named.map(|(_, value)| value).or_else(|| number(text));
        value
            .filter(|value| (self.low..=self.high).contains(value))
            .ok_or_else(|| self.expected.to_owned())
    }
}

impl From<Option<Special>> for Marked {
    fn from(special: Option<Special>) -> Marked {
        special.map_or(Marked::Wrong, Marked::Special)
    }
}

fn marked_day(item: &str) -> Marked {
    let up_to = |text, max| {
        number(text)
            .filter(|day| (1..=max).contains(day))?
            .try_into()
            .ok()
    };
    if item == "?" {
        Marked::Any
    } else if item == "lw" {
        Marked::Special(Special::LastWeekday)
    } else if item == "l" {
        Marked::Special(Special::Last { before: 0 })
    } else if let Some(text) = item.strip_prefix("l-") {
        up_to(text, 30)
            .map(|before| Special::Last { before })
            .into()
    } else if let Some(text) = item.strip_suffix('w') {
        up_to(text, 31)
            .map(|day| Special::NearestWeekday { day })
            .into()
    } else {
        Marked::Plain
    }
}

fn marked_weekday(item: &str) -> Marked {
    let weekday = |text: &str| WEEKDAY.value(text).ok()?.rem_euclid(7).try_into().ok();
    if item == "?" {
        Marked::Any
    } else if let Some((text, nth)) = item.split_once('#') {
        let nth = number(nth).filter(|nth| (1..=5).contains(nth));
        let nth = nth.and_then(|nth| u8::try_from(nth).ok());
        weekday(text)
            .zip(nth)
            .map(|(weekday, nth)| Special::Nth { weekday, nth })
            .into()
    } else if let Some(text) = item.strip_suffix('l') {
        weekday(text)
            .map(|weekday| Special::LastOf { weekday })
            .into()
    } else {
        Marked::Plain
    }
}

fn step_of(text: &str) -> Result<usize, String> {
    number(text)
        .filter(|step| *step > 0)
        .and_then(|step| usize::try_from(step).ok())
        .ok_or_else(|| "a whole step of at least 1 after `/`".to_owned())
}

/// Digits only: no sign, no fraction. Large numbers saturate, as a step may be any number.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u32::MAX))
}
