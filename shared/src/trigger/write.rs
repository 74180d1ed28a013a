//! Writes a trigger as JSON, in the form that is read: equal triggers give equal JSON.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::calendar::Calendar;
use super::combine::TOLERANCE;
use super::{Exclusion, Rule, Trigger, value};

impl Serialize for Trigger {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        trigger(self).serialize(serializer)
    }
}

fn trigger(trigger: &Trigger) -> Value {
    let mut fields = Map::new();
    let (name, content) = rule(&trigger.rule);
    fields.insert(name.to_owned(), content);
    if let Rule::All(all) = &trigger.rule
        && all.tolerance != TOLERANCE
    {
        fields.insert(
            "tolerance".to_owned(),
            value::duration_text(all.tolerance).into(),
        );
    }
    for (name, instant) in [("start", trigger.start), ("end", trigger.end)] {
        if let Some(instant) = instant {
            fields.insert(name.to_owned(), value::instant_text(instant).into());
        }
    }
    if !trigger.exclude.is_empty() {
        fields.insert(
            "exclude".to_owned(),
            trigger.exclude.iter().map(exclusion).collect(),
        );
    }
    fields.into()
}

fn rule(rule: &Rule) -> (&'static str, Value) {
    match rule {
        Rule::Cron(cron) => {
            let timezone = cron.timezone.name();
            (
                "cron",
                json!({ "expression": cron.expression(), "timezone": timezone }),
            )
        }
        Rule::Every(every) => {
            let mut content = json!({ "interval": value::duration_text(every.interval) });
            if let Some(anchor) = every.anchor {
                content["anchor"] = value::instant_text(anchor).into();
            }
            ("every", content)
        }
        Rule::Calendar(calendar) => ("calendar", self::calendar(calendar)),
        Rule::At(when) => ("at", value::instant_text(*when).into()),
        Rule::Any(members) => ("any", members.iter().map(trigger).collect()),
        Rule::All(all) => ("all", all.members.iter().map(trigger).collect()),
    }
}

fn calendar(calendar: &Calendar) -> Value {
    let mut content = json!({
        "from": calendar.from.to_string(),
        "time": value::time_text(calendar.time),
        "timezone": calendar.timezone.name(),
    });
    let step = calendar.step;
    let counts = [
        ("years", step.years),
        ("months", step.months),
        ("weeks", step.weeks),
        ("days", step.days),
    ];
    for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        content[name] = count.into();
    }
    if let Some(until) = calendar.until {
        content["until"] = until.to_string().into();
    }
    content
}

fn exclusion(exclusion: &Exclusion) -> Value {
    match exclusion {
        Exclusion::Date(date) => date.to_string().into(),
        Exclusion::Fires(excluded) => trigger(excluded),
    }
}
