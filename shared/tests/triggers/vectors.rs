//! The vectors in `data/triggers.jsonl`: what several independent implementations agree on.
//!
//! One case a line: `trigger`, `after` (exclusive; null: from the trigger's own start), `count`, and
//! `accept`: the lists of fires that count as right, where `null` means that the trigger must be
//! refused. A list shorter than `count` means that there is no further fire.

use chrono::{DateTime, Utc};
use repull::trigger::Trigger;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    id: String,
    trigger: serde_json::Value,
    after: Option<DateTime<Utc>>,
    count: usize,
    accept: Vec<Option<Vec<DateTime<Utc>>>>,
}

#[test]
fn every_vector_passes() {
    let lines = include_str!("../data/triggers.jsonl").lines();
    let cases: Vec<Case> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(cases.len() > 200, "only {} vectors", cases.len());

    let wrong: Vec<String> = cases.iter().filter_map(wrong).collect();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

/// Says what is wrong with our answer to a case, if anything is.
fn wrong(case: &Case) -> Option<String> {
    let answer = match Trigger::from_value(case.trigger.clone()) {
        Ok(trigger) => Ok(trigger
            .fires(case.after)
            .take(case.count)
            .collect::<Vec<_>>()),
        Err(error) => Err(error),
    };
    let right = case
        .accept
        .iter()
        .any(|accepted| accepted.as_ref() == answer.as_ref().ok());
    (!right).then(|| format!("{} {}: {answer:?}", case.id, case.trigger))
}
