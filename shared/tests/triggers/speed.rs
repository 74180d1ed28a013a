//! How long one evaluation takes. Not a test of anything: run it by hand, optimised, with
//! `cargo test --release -p repull --test triggers -- --ignored --nocapture speed`.

use std::hint::black_box;
use std::time::Instant;

use super::{instant, trigger};

#[test]
#[ignore = "prints measurements, checks nothing"]
fn speed_of_next() {
    let cases = [
        ("daily, UTC", r#"{"cron": {"expression": "30 2 * * *"}}"#),
        (
            "daily, Berlin",
            r#"{"cron": {"expression": "30 2 * * *", "timezone": "Europe/Berlin"}}"#,
        ),
        (
            "*/5, Berlin",
            r#"{"cron": {"expression": "*/5 * * * *", "timezone": "Europe/Berlin"}}"#,
        ),
        (
            "weekdays",
            r#"{"cron": {"expression": "0 9 * * 1-5", "timezone": "America/New_York"}}"#,
        ),
        (
            "29 February",
            r#"{"cron": {"expression": "0 0 29 2 *", "timezone": "Europe/Berlin"}}"#,
        ),
        (
            "every second",
            r#"{"cron": {"expression": "* * * * * *", "timezone": "Europe/Berlin"}}"#,
        ),
        (
            "every 6 s",
            r#"{"every": {"interval": "6s", "anchor": "2020-01-01T00:00:00Z"}}"#,
        ),
        (
            "monthly",
            r#"{"calendar": {"months": 1, "time": "09:00", "timezone": "Europe/Berlin", "from": "2020-01-31"}}"#,
        ),
        (
            "any of two",
            r#"{"any": [{"cron": {"expression": "0 9 * * *"}}, {"cron": {"expression": "0 17 * * *"}}]}"#,
        ),
    ];
    for (name, json) in cases {
        let trigger = trigger(json);
        let begin = instant("2026-01-01T00:00:00Z");
        let (rounds, started) = (200_000, Instant::now());
        let mut after = begin;
        for _ in 0..rounds {
            after = black_box(trigger.next(black_box(Some(after)))).unwrap();
            if after.timestamp() > 4_000_000_000 {
                after = begin;
            }
        }
        println!("{name:16} {:>6} ns", started.elapsed().as_nanos() / rounds);
    }
}
