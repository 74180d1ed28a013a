//! A file of schedules, YAML or JSON: read whole, checked whole. Pure.

use std::collections::HashMap;

use repull::schedule::Schedule;
use serde::Deserialize;
use serde_json::Value;

/// Reads a file's text: documents that are each a schedule, a list of them, or
/// `{"schedules": […]}`. JSON is YAML, so one reader serves both. Every problem is told, not only
/// the first.
pub(crate) fn read(text: &str) -> Result<Vec<Schedule>, Vec<String>> {
    let (mut schedules, mut problems) = (Vec::new(), Vec::new());
    for (index, document) in serde_norway::Deserializer::from_str(text).enumerate() {
        match Value::deserialize(document) {
            Ok(document) => take(document, &mut schedules, &mut problems),
            Err(error) => {
                problems.push(format!(
                    "document {} is neither YAML nor JSON: {error}",
                    index + 1
                ));
                // Behind an error of form there is no telling where the next document begins.
                break;
            }
        }
    }
    let mut places = HashMap::new();
    for (index, schedule) in schedules.iter().enumerate() {
        if let Some(first) = places.insert(schedule.id.clone(), index + 1) {
            problems.push(format!(
                "schedule `{}` stands there twice, as number {first} and {}",
                schedule.id,
                index + 1
            ));
        }
    }
    if problems.is_empty() {
        Ok(schedules)
    } else {
        Err(problems)
    }
}

fn take(document: Value, schedules: &mut Vec<Schedule>, problems: &mut Vec<String>) {
    match document {
        // An empty document, as after a closing `---`.
        Value::Null => {}
        Value::Array(list) => {
            for schedule in list {
                take_one(schedule, schedules, problems);
            }
        }
        Value::Object(mut map) if map.contains_key("schedules") && !map.contains_key("id") => {
            let list = map.remove("schedules").unwrap_or_default();
            match (list, map.keys().next()) {
                (Value::Array(list), None) => take(Value::Array(list), schedules, problems),
                (_, Some(other)) => problems.push(format!(
                    "field `{other}` stands beside `schedules`, expected nothing else there"
                )),
                (other, None) => {
                    problems.push(format!(
                        "`schedules` is {other}, expected a list of schedules"
                    ));
                }
            }
        }
        one => take_one(one, schedules, problems),
    }
}

fn take_one(value: Value, schedules: &mut Vec<Schedule>, problems: &mut Vec<String>) {
    let id = value["id"].as_str().unwrap_or("without an id").to_owned();
    let schedule = serde_json::from_value::<Schedule>(value);
    match schedule.map(|schedule| (schedule.validate(), schedule)) {
        Ok((Ok(()), schedule)) => schedules.push(schedule),
        // It names the schedule itself.
        Ok((Err(error), _)) => problems.push(error.to_string()),
        Err(error) => problems.push(format!("schedule `{id}`: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIGHTLY: &str = "
id: nightly
trigger: {cron: {expression: '30 2 * * *', timezone: Europe/Berlin}}
job: {task: backup.run, args: {depth: 2}}
overlap: skip
";

    fn ids(text: &str) -> Vec<String> {
        let schedules = read(text).unwrap();
        schedules
            .iter()
            .map(|schedule| schedule.id.to_string())
            .collect()
    }

    #[test]
    fn documents_lists_and_a_wrapped_list_are_all_read() {
        let tick =
            r#"{"id": "tick", "trigger": {"every": {"interval": "10s"}}, "job": {"task": "echo"}}"#;
        assert_eq!(ids(NIGHTLY), ["nightly"]);
        assert_eq!(
            ids(&format!("{NIGHTLY}---\n{tick}\n---\n")),
            ["nightly", "tick"]
        );
        assert_eq!(ids(&format!("[{tick}]")), ["tick"]);
        assert_eq!(ids(&format!("schedules:\n- {tick}\n")), ["tick"]);
        assert_eq!(ids(""), Vec::<String>::new());
    }

    #[test]
    fn every_problem_is_told_with_its_schedule() {
        let text = "
- {id: a, trigger: {cron: {expression: '61 * * * *'}}, job: {task: t}}
- {id: b, trigger: {every: {interval: 1s}}, job: {task: t}, colour: red}
- {id: c, trigger: {every: {interval: 1s}}, job: {task: t}, max_runs: 0}
- {id: d, trigger: {every: {interval: 1s}}, job: {task: t}}
- {id: d, trigger: {every: {interval: 1s}}, job: {task: t}}
- {trigger: {every: {interval: 1s}}, job: {task: t}}
";
        let problems = read(text).unwrap_err();
        let told = |parts: &[&str]| {
            problems
                .iter()
                .any(|problem| parts.iter().all(|part| problem.contains(part)))
        };
        assert!(told(&["`a`", "61"]), "{problems:?}");
        assert!(told(&["`b`", "colour"]), "{problems:?}");
        assert!(told(&["`c`", "max_runs"]), "{problems:?}");
        assert!(told(&["`d`", "twice"]), "{problems:?}");
        assert!(told(&["without an id"]), "{problems:?}");
    }

    #[test]
    fn what_is_no_yaml_is_told() {
        assert!(read("{").unwrap_err()[0].contains("neither YAML nor JSON"));
        assert!(read("schedules: 1").unwrap_err()[0].contains("expected a list"));
    }
}
