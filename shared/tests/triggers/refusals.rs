//! What is refused when it is written, and how that is said.

use std::time::Duration;

use repull::trigger::{Error, Trigger};

use super::examples::dates;
use super::{cron, instant, local_fires};

fn refused(json: &str) -> String {
    match Trigger::parse_json(json) {
        Ok(trigger) => panic!("{json} was taken as {trigger}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn dates_that_never_come_are_refused_and_rare_ones_are_not() {
    for never in [
        "0 0 31 2 *",
        "0 0 30 2 *",
        "0 0 31 4,6,9,11 *",
        "0 0 31W 2 *",
        "0 0 L-30 2 *",
    ] {
        let error = Trigger::cron(never, "UTC").unwrap_err();
        assert!(matches!(error, Error::Never { .. }), "{never}: {error}");
    }
    let error = Trigger::cron("0 0 31 2 *", "UTC").unwrap_err().to_string();
    assert_eq!(
        error,
        "trigger never fires: `cron.expression` is `0 0 31 2 *`, a date that does not exist in any year"
    );
    // 29 February on a Sunday; the other day field decides.
    assert_eq!(
        local_fires(&cron("0 0 29 2 */7", "UTC"), "2033-01-01T00:00:00Z", 1),
        ["2060-02-29 00:00:00+00:00"]
    );
    assert_eq!(dates("0 0 31 2 1", 2), ["02-05", "02-12"]);
}

#[test]
fn messages_name_the_field_its_value_and_what_was_expected() {
    let messages = [
        (
            r#"{"cron": {"expression": "0 0 32 * *"}}"#,
            "trigger field `cron.expression` is `0 0 32 * *`, where field 3 (day of month) is `32`, \
             expected 1 to 31, `L`, `L-3`, `15W` or `LW`",
        ),
        (
            r#"{"cron": {"expression": "61 0 0 * * *"}}"#,
            "trigger field `cron.expression` is `61 0 0 * * *`, where field 1 (second) is `61`, \
             expected 0 to 59",
        ),
        (
            r#"{"cron": {"expression": "0 0 * * fri-sun"}}"#,
            "trigger field `cron.expression` is `0 0 * * fri-sun`, where field 5 (day of week) is \
             `fri-sun`, expected a range that goes upwards (`fri` comes after `sun`): split it in two",
        ),
        (
            r#"{"cron": {"expression": "0 2 * * *", "timezone": "Berlin"}}"#,
            "trigger field `cron.timezone` is `Berlin`, expected an IANA time zone such as `UTC` or \
             `Europe/Berlin`",
        ),
        (
            r#"{"cron": {"expression": "0 2 * * *", "timzone": "UTC"}}"#,
            "trigger field `cron.timzone` is unknown, expected only `expression`, `timezone`",
        ),
        (
            r#"{"any": [{"at": "2026-01-01T00:00:00Z"}, {"every": {"interval": "0s"}}]}"#,
            "trigger field `any[1].every.interval` is `0s`, expected at least 1ms",
        ),
        (
            r#"{"calendar": {"months": -1, "from": "2026-01-31"}}"#,
            "trigger field `calendar.months` is `-1`, expected a whole number, 0 to 119988",
        ),
        (
            r#"{"calendar": {"months": 1}}"#,
            "trigger field `calendar.from` is missing, expected the first date, such as `2026-01-31`",
        ),
        (
            r#"{"calendar": {"months": 1, "from": "2026-02-30"}}"#,
            "trigger field `calendar.from` is `2026-02-30`, expected a date that exists, such as \
             `2026-12-25`",
        ),
        (
            r#"{"at": 5}"#,
            "trigger field `at` is `5`, expected a text in quotes",
        ),
        (
            r#"{"all": []}"#,
            "trigger field `all` is `[]`, expected at least one trigger",
        ),
        (
            r#"{"at": "2026-01-01T00:00:00Z", "tolerance": "1s"}"#,
            "trigger field `tolerance` is unknown, expected only `at`, `start`, `end`, `exclude`",
        ),
    ];
    for (json, message) in messages {
        assert_eq!(refused(json), message);
    }
}

#[test]
fn nonsense_is_refused() {
    let texts = [
        "",
        "null",
        "[]",
        "{}",
        "\"@daily\"",
        r#"{"start": "2026-01-01T00:00:00Z"}"#,
        r#"{"cron": "0 2 * * *"}"#,
        r#"{"cron": {}}"#,
        r#"{"cron": {"expression": "0 2 * * *"}, "at": "2026-01-01T00:00:00Z"}"#,
        r#"{"every": {"interval": 5}}"#,
        r#"{"every": {"interval": "-1s"}}"#,
        r#"{"every": {"interval": "soon"}}"#,
        r#"{"every": {"interval": "999us"}}"#,
        r#"{"every": {"interval": "1h", "anchor": "yesterday"}}"#,
        r#"{"at": "2026-02-29T00:00:00Z"}"#,
        r#"{"at": "2026-01-01"}"#,
        r#"{"at": "2026-01-01T24:00:00Z"}"#,
        r#"{"at": "2026-01-01T23:59:60Z"}"#,
        r#"{"calendar": {"from": "2026-01-01"}}"#,
        r#"{"calendar": {"days": 0, "from": "2026-01-01"}}"#,
        r#"{"calendar": {"days": 1.5, "from": "2026-01-01"}}"#,
        r#"{"calendar": {"days": 1, "from": "2026-01-01", "time": "25:00"}}"#,
        r#"{"any": {}}"#,
        r#"{"any": [{"cron": {"expression": "nope"}}]}"#,
        r#"{"at": "2026-01-01T00:00:00Z", "exclude": "2026-01-01"}"#,
        r#"{"at": "2026-01-01T00:00:00Z", "exclude": [1]}"#,
    ];
    for text in texts {
        let message = refused(text);
        assert!(message.starts_with("trigger "), "{text}: {message}");
    }
    for expression in [
        "* * * *",
        "* * * * * * *",
        "*/0 * * * *",
        "*/ * * * *",
        "/5 * * * *",
        "1-2-3 * * * *",
        "1,,2 * * * *",
        ", * * * *",
        "5-1 * * * *",
        "*-5 * * * *",
        "+1 * * * *",
        "0x1 * * * *",
        "٣ * * * *",
        "* * 0 * *",
        "* * 32W * *",
        "* * W * *",
        "* * L-0 * *",
        "* * L-31 * *",
        "* * L5 * *",
        "* * * 0 *",
        "* * * 13 *",
        "* * * * L",
        "* * * * 5#0",
        "* * * * 5#6",
        "* * * * 5#",
        "* * * * #1",
        "* * * * 8L",
        "* * * * 1#1-3",
        "* L * * *",
        "? * * * *",
        "@reboot",
        "@every 5m",
        "@",
        "H * * * *",
        "* * 1-5W * *",
        "99999999999 * * * *",
    ] {
        assert!(
            Trigger::cron(expression, "UTC").is_err(),
            "`{expression}` was taken"
        );
    }
}

#[test]
fn nesting_has_a_limit() {
    let mut json = r#"{"at": "2026-01-01T00:00:00Z"}"#.to_owned();
    for _ in 0..16 {
        json = format!(r#"{{"any": [{json}]}}"#);
    }
    assert!(Trigger::parse_json(&json).is_ok());
    assert!(Trigger::parse_json(&format!(r#"{{"any": [{json}]}}"#)).is_err());
}

#[test]
fn a_window_that_contradicts_itself_is_refused() {
    for json in [
        r#"{"cron": {"expression": "0 * * * *"}, "start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"}"#,
        r#"{"at": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"}"#,
        r#"{"at": "2026-01-02T00:00:00Z", "start": "2026-01-03T00:00:00Z"}"#,
        r#"{"every": {"interval": "1h", "anchor": "2026-01-02T00:00:00Z"}, "end": "2026-01-01T00:00:00Z"}"#,
        r#"{"calendar": {"days": 1, "from": "2026-01-02", "until": "2026-01-01"}}"#,
    ] {
        assert!(
            refused(json).contains("ends before that"),
            "{json}: {}",
            refused(json)
        );
    }
}

#[test]
fn members_that_never_meet_are_refused() {
    let message = refused(
        r#"{"all": [{"every": {"interval": "4s", "anchor": "2026-01-01T00:00:00Z"}},
                    {"every": {"interval": "4s", "anchor": "2026-01-01T00:00:02Z"}}]}"#,
    );
    assert!(
        message.starts_with("trigger never fires: it is whenever all of these"),
        "{message}"
    );
    let message = refused(
        r#"{"any": [{"at": "2026-01-01T00:00:00Z"},
                    {"cron": {"expression": "0 0 * * *"}, "exclude": [{"cron": {"expression": "0 * * * *"}}]}]}"#,
    );
    assert!(
        message.starts_with("trigger never fires: `any[1]` is"),
        "{message}"
    );
}

#[test]
fn an_interval_is_at_least_a_millisecond() {
    let anchor = instant("2026-01-01T00:00:00Z");
    assert!(Trigger::every(Duration::from_micros(999), anchor).is_err());
    assert!(Trigger::every(Duration::from_millis(1), anchor).is_ok());
    assert!(
        Trigger::every(Duration::MAX, anchor).is_ok_and(|every| every.next(None) == Some(anchor))
    );
}
