//! Triggers: vectors from independent implementations, worked examples, and laws on any input.

#[path = "triggers/dst.rs"]
mod dst;
#[path = "triggers/examples.rs"]
mod examples;
#[path = "triggers/laws.rs"]
mod laws;
#[path = "triggers/refusals.rs"]
mod refusals;
#[path = "triggers/speed.rs"]
mod speed;
#[path = "triggers/strategies.rs"]
mod strategies;
#[path = "triggers/vectors.rs"]
mod vectors;

use chrono::{DateTime, Utc};
use repull::trigger::Trigger;

fn instant(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text)
        .unwrap_or_else(|_| panic!("`{text}` is no instant"))
        .to_utc()
}

fn trigger(json: &str) -> Trigger {
    Trigger::parse_json(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn cron(expression: &str, timezone: &str) -> Trigger {
    Trigger::cron(expression, timezone)
        .unwrap_or_else(|error| panic!("{expression} in {timezone}: {error}"))
}

/// The first fires after `after` as local time, which is easier to read.
fn local_fires(trigger: &Trigger, after: &str, count: usize) -> Vec<String> {
    let fires = trigger.fires(Some(instant(after))).take(count);
    fires
        .map(|fire| trigger.local(fire).format("%F %T%:z").to_string())
        .collect()
}
