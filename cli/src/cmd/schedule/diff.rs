//! The difference between a stored schedule and the one that a file has. Pure.

use std::collections::{BTreeMap, BTreeSet};

use repull::schedule::Schedule;
use repull::trigger::Trigger;
use serde::Serialize;
use serde_json::Value;

/// One field's difference.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct FieldChange {
    pub(super) field: String,
    pub(super) old: Value,
    pub(super) new: Value,
}

/// The fields that differ. From when on fires count is a consequence and no difference.
pub(super) fn changes(before: &Schedule, after: &Schedule) -> Vec<FieldChange> {
    let (before, after) = (fields(before), fields(after));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let value = |fields: &BTreeMap<String, Value>, name: &String| {
        fields.get(name).cloned().unwrap_or_default()
    };
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| FieldChange {
            field: name.clone(),
            old: value(&before, name),
            new: value(&after, name),
        })
        .collect()
}

fn fields(schedule: &Schedule) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    let Ok(Value::Object(top)) = serde_json::to_value(schedule) else {
        return fields;
    };
    for (name, value) in top {
        match (name.as_str(), value) {
            ("active_from", _) => {}
            ("job" | "metadata", Value::Object(inner)) => {
                let inner = inner.into_iter();
                fields.extend(inner.map(|(field, value)| (format!("{name}.{field}"), value)));
            }
            (_, value) => {
                fields.insert(name, value);
            }
        }
    }
    fields
}

/// Both values of a field: triggers in plain words, unless those do not tell them apart.
pub(super) fn shown(change: &FieldChange) -> (String, String) {
    let words = |value: &Value| Some(Trigger::from_value(value.clone()).ok()?.describe());
    let described = words(&change.old).zip(words(&change.new));
    match described.filter(|(old, new)| change.field == "trigger" && old != new) {
        Some(described) => described,
        None => (plain(&change.old), plain(&change.new)),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "(none)".to_owned(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_changed_trigger_is_shown_in_words_and_others_as_they_are() {
        let cron = |expression: &str| json!({"cron": {"expression": expression}});
        let change = |field: &str, old: Value, new: Value| {
            shown(&FieldChange {
                field: field.into(),
                old,
                new,
            })
        };
        let (old, new) = change("trigger", cron("30 2 * * *"), cron("45 2 * * *"));
        assert!(
            old.contains("02:30") && new.contains("02:45"),
            "{old} {new}"
        );
        let (old, new) = change("job.args", Value::Null, json!({"a": 1}));
        assert_eq!((old.as_str(), new.as_str()), ("(none)", "{\"a\":1}"));
    }
}
