//! Reads a trigger from JSON, strictly: a field that is misspelt is an error and not a default.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::calendar::{self, Calendar, Step};
use super::combine::{All, TOLERANCE};
use super::cron::Cron;
use super::every::Every;
use super::{Error, Exclusion, Rule, Trigger, value};

/// Triggers within triggers, at most; bounds the depth of every recursion over them.
const DEPTH_MAX: usize = 16;
/// Entries of one `any`, `all` or `exclude`, at most.
const ENTRIES_MAX: usize = 1_000;

const RULES: &str = "one of `cron`, `every`, `calendar`, `at`, `any` and `all`";

impl<'de> Deserialize<'de> for Trigger {
    /// Checks the form, but not whether it ever fires; for that there is [`Trigger::validate`].
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Trigger, D::Error> {
        let value = Value::deserialize(deserializer)?;
        trigger(&value).map_err(serde::de::Error::custom)
    }
}

/// Reads a trigger.
pub(super) fn trigger(value: &Value) -> Result<Trigger, Error> {
    nested(value, "", 0)
}

fn nested(value: &Value, place: &str, depth: usize) -> Result<Trigger, Error> {
    if depth > DEPTH_MAX {
        let expected = format!("triggers nested at most {DEPTH_MAX} deep");
        return Err(Error::field(place, "nested deeper", expected));
    }
    let object = Object::new(value, place, RULES)?;
    let (name, content) = object.rule()?;
    let inner = value::join(place, name);
    let (fields, rule): (&[&str], Rule) = match name {
        "cron" => (&[], cron(content, &inner)?),
        "every" => (&[], every(content, &inner)?),
        "calendar" => (&[], calendar(content, &inner)?),
        "at" => (
            &[],
            Rule::At(value::instant(text(content, &inner)?, &inner)?),
        ),
        "any" => (&[], Rule::Any(members(content, &inner, depth)?)),
        _ => (&["tolerance"], all(&object, content, &inner, depth)?),
    };
    object.no_others(&[&[name, "start", "end", "exclude"], fields].concat())?;
    Ok(Trigger {
        rule,
        start: object
            .text("start")?
            .map(|(text, at)| value::instant(text, &at))
            .transpose()?,
        end: object
            .text("end")?
            .map(|(text, at)| value::instant(text, &at))
            .transpose()?,
        exclude: exclusions(&object, depth)?,
    })
}

fn cron(content: &Value, place: &str) -> Result<Rule, Error> {
    let object = Object::new(content, place, "`expression` and `timezone`")?;
    object.no_others(&["expression", "timezone"])?;
    let (expression, at) = object.required("expression", "a crontab such as `30 2 * * *`")?;
    let cron = Cron::new(expression, object.timezone()?, &at)?;
    Ok(Rule::Cron(Box::new(cron)))
}

fn every(content: &Value, place: &str) -> Result<Rule, Error> {
    let object = Object::new(content, place, "`interval` and `anchor`")?;
    object.no_others(&["interval", "anchor"])?;
    let (text, at) = object.required("interval", "a duration such as `1h`")?;
    let interval = value::duration(text, &at)?;
    value::check_interval(interval, text, &at)?;
    let anchor = object
        .text("anchor")?
        .map(|(text, at)| value::instant(text, &at))
        .transpose()?;
    Ok(Rule::Every(Every { interval, anchor }))
}

fn calendar(content: &Value, place: &str) -> Result<Rule, Error> {
    const STEPS: &str = "at least one of `years`, `months`, `weeks` and `days`";
    let object = Object::new(content, place, STEPS)?;
    object.no_others(&[
        "years", "months", "weeks", "days", "time", "timezone", "from", "until",
    ])?;
    let step = Step {
        years: object.count("years", calendar::MONTHS_MAX / 12)?,
        months: object.count("months", calendar::MONTHS_MAX)?,
        weeks: object.count("weeks", calendar::DAYS_MAX / 7)?,
        days: object.count("days", calendar::DAYS_MAX)?,
    };
    if step == Step::default() {
        return Err(Error::field(place, shown(content), STEPS));
    }
    let (text, at) = object.required("from", "the first date, such as `2026-01-31`")?;
    let from = value::date(text, &at)?;
    let time = object
        .text("time")?
        .map(|(text, at)| value::time(text, &at))
        .transpose()?;
    let until = object
        .text("until")?
        .map(|(text, at)| value::date(text, &at))
        .transpose()?;
    let time = time.unwrap_or_default();
    Ok(Rule::Calendar(Box::new(Calendar {
        step,
        time,
        timezone: object.timezone()?,
        from,
        until,
    })))
}

fn all(object: &Object<'_>, content: &Value, place: &str, depth: usize) -> Result<Rule, Error> {
    let members = members(content, place, depth)?;
    let tolerance = object
        .text("tolerance")?
        .map(|(text, at)| value::duration(text, &at))
        .transpose()?;
    Ok(Rule::All(Box::new(All {
        members,
        tolerance: tolerance.unwrap_or(TOLERANCE),
    })))
}

fn members(content: &Value, place: &str, depth: usize) -> Result<Vec<Trigger>, Error> {
    let members = list(content, place, "a list of triggers")?;
    if members.is_empty() {
        return Err(Error::field(place, "`[]`", "at least one trigger"));
    }
    let read = |(index, member)| nested(member, &format!("{place}[{index}]"), depth + 1);
    members.iter().enumerate().map(read).collect()
}

fn exclusions(object: &Object<'_>, depth: usize) -> Result<Vec<Exclusion>, Error> {
    let Some(content) = object.get("exclude") else {
        return Ok(Vec::new());
    };
    let place = object.field("exclude");
    let entries = list(content, &place, "a list of dates and triggers")?;
    let read = |(index, entry): (usize, &Value)| {
        let place = format!("{place}[{index}]");
        match entry {
            Value::String(text) => value::date(text, &place).map(Exclusion::Date),
            Value::Object(_) => nested(entry, &place, depth + 1).map(Exclusion::Fires),
            _ => Err(Error::field(
                &place,
                shown(entry),
                "a date such as `2026-12-25` or a trigger",
            )),
        }
    };
    entries.iter().enumerate().map(read).collect()
}

/// A JSON object and its place in the trigger.
struct Object<'a> {
    fields: &'a Map<String, Value>,
    place: &'a str,
}

impl<'a> Object<'a> {
    fn new(value: &'a Value, place: &'a str, expected: &str) -> Result<Object<'a>, Error> {
        let fields = value.as_object().ok_or_else(|| {
            let field = if place.is_empty() { "trigger" } else { place };
            Error::field(field, shown(value), format!("an object with {expected}"))
        })?;
        Ok(Object { fields, place })
    }

    /// The one rule it must have.
    fn rule(&self) -> Result<(&'static str, &'a Value), Error> {
        let rules = ["cron", "every", "calendar", "at", "any", "all"];
        let mut found = rules
            .into_iter()
            .filter_map(|name| Some((name, self.get(name)?)));
        match (found.next(), found.next()) {
            (Some(rule), None) => Ok(rule),
            (Some((first, _)), Some((second, _))) => Err(Error::field(
                &self.field(second),
                format!("given beside `{first}`"),
                format!("{RULES} (put several into `any` or `all`)"),
            )),
            (None, _) => {
                self.no_others(&[&rules[..], &["start", "end", "exclude"]].concat())?;
                let field = if self.place.is_empty() {
                    "cron"
                } else {
                    self.place
                };
                Err(Error::Missing {
                    field: field.to_owned(),
                    expected: RULES.to_owned(),
                })
            }
        }
    }

    fn no_others(&self, known: &[&str]) -> Result<(), Error> {
        match self
            .fields
            .keys()
            .find(|name| !known.contains(&name.as_str()))
        {
            None => Ok(()),
            Some(name) => {
                let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
                let expected = format!("only {}", known.join(", "));
                Err(Error::Unknown {
                    field: self.field(&value::shortened(name)),
                    expected,
                })
            }
        }
    }

    fn field(&self, name: &str) -> String {
        value::join(self.place, name)
    }

    /// A field that is there; `null` is as good as absent.
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// A text and where it stands.
    fn text(&self, name: &str) -> Result<Option<(&'a str, String)>, Error> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let field = self.field(name);
        Ok(Some((text(value, &field)?, field)))
    }

    fn required(&self, name: &str, expected: &str) -> Result<(&'a str, String), Error> {
        self.text(name)?.ok_or_else(|| Error::Missing {
            field: self.field(name),
            expected: expected.to_owned(),
        })
    }

    /// The zone, UTC unless given.
    fn timezone(&self) -> Result<chrono_tz::Tz, Error> {
        match self.text("timezone")? {
            Some((text, field)) => value::timezone(text, &field),
            None => Ok(chrono_tz::Tz::UTC),
        }
    }

    fn count(&self, name: &str, max: u32) -> Result<u32, Error> {
        let Some(value) = self.get(name) else {
            return Ok(0);
        };
        let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
        count.filter(|count| *count <= max).ok_or_else(|| {
            Error::field(
                &self.field(name),
                shown(value),
                format!("a whole number, 0 to {max}"),
            )
        })
    }
}

fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str, Error> {
    value
        .as_str()
        .ok_or_else(|| Error::field(field, shown(value), "a text in quotes"))
}

fn list<'a>(value: &'a Value, field: &str, expected: &str) -> Result<&'a [Value], Error> {
    let entries = value
        .as_array()
        .ok_or_else(|| Error::field(field, shown(value), expected))?;
    if entries.len() > ENTRIES_MAX {
        let expected = format!("at most {ENTRIES_MAX}");
        return Err(Error::field(
            field,
            format!("{} entries", entries.len()),
            expected,
        ));
    }
    Ok(entries)
}

fn shown(value: &Value) -> String {
    format!("`{}`", value::shortened(&value.to_string()))
}
