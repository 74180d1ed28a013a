//! Worked examples: what expressions mean, what is refused and how it is said.

use std::time::Duration;

use repull::trigger::{Error, Trigger};

use super::{cron, instant, local_fires, trigger};

/// The dates of the first fires of a UTC expression in 2024 and later.
fn dates(expression: &str, count: usize) -> Vec<String> {
    let fires = cron(expression, "UTC");
    let fires = fires
        .fires(Some(instant("2023-12-31T23:59:59Z")))
        .take(count);
    fires.map(|fire| fire.format("%m-%d").to_string()).collect()
}

fn refused(json: &str) -> String {
    match Trigger::parse_json(json) {
        Ok(trigger) => panic!("{json} was taken as {trigger}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn last_and_nearest_days_of_the_month() {
    assert_eq!(dates("0 0 L * *", 3), ["01-31", "02-29", "03-31"]);
    assert_eq!(dates("0 0 L-3 * *", 3), ["01-28", "02-26", "03-28"]);
    assert_eq!(dates("0 0 LW * *", 3), ["01-31", "02-29", "03-29"]);
    // 15 June 2024 is a Saturday, 1 June too, 30 June a Sunday.
    assert_eq!(dates("0 0 15W 6 *", 1), ["06-14"]);
    assert_eq!(dates("0 0 1W 6 *", 1), ["06-03"]);
    assert_eq!(dates("0 0 30W 6 *", 1), ["06-28"]);
    assert_eq!(dates("0 0 1,15W,L 6 *", 3), ["06-01", "06-14", "06-30"]);
}

#[test]
fn nth_and_last_weekdays() {
    assert_eq!(dates("0 0 * * fri#3", 3), ["01-19", "02-16", "03-15"]);
    assert_eq!(dates("0 0 * * 5L", 3), ["01-26", "02-23", "03-29"]);
    assert_eq!(dates("0 0 * * 7#1", 2), dates("0 0 * * 0#1", 2));
    // Not every month has a fifth Monday.
    assert_eq!(dates("0 0 * * 1#5", 3), ["01-29", "04-29", "07-29"]);
}

#[test]
fn sunday_is_0_and_7() {
    for sunday in ["0", "7", "sun", "SUN", "0,7", "7-7"] {
        assert_eq!(
            dates(&format!("0 0 * * {sunday}"), 2),
            ["01-07", "01-14"],
            "{sunday}"
        );
    }
    assert_eq!(dates("0 0 * * 5-7", 3), ["01-05", "01-06", "01-07"]);
}

#[test]
fn day_fields_are_alternatives_unless_one_starts_with_a_star() {
    assert_eq!(dates("0 0 13 * 5", 4), ["01-05", "01-12", "01-13", "01-19"]);
    assert_eq!(dates("0 0 */13 * 5", 3), ["03-01", "06-14", "09-27"]);
    assert_eq!(dates("0 0 ? * mon", 2), ["01-01", "01-08"]);
}

#[test]
fn shorthands_are_their_expressions() {
    let pairs = [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        ("@daily", "0 0 * * *"),
        ("@Midnight", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
    ];
    for (shorthand, expression) in pairs {
        let fires = |text| local_fires(&cron(text, "Europe/Berlin"), "2024-03-30T12:00:00Z", 20);
        assert_eq!(fires(shorthand), fires(expression), "{shorthand}");
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
fn a_window_includes_both_its_ends() {
    let hourly = trigger(
        r#"{"cron": {"expression": "0 * * * *"},
            "start": "2026-01-01T01:00:00Z", "end": "2026-01-01T03:00:00Z"}"#,
    );
    let fires: Vec<_> = hourly.fires(None).map(|fire| fire.to_rfc3339()).collect();
    assert_eq!(
        fires,
        [
            "2026-01-01T01:00:00+00:00",
            "2026-01-01T02:00:00+00:00",
            "2026-01-01T03:00:00+00:00"
        ]
    );
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
fn an_excluded_date_is_a_day_in_the_zone_of_the_trigger() {
    // 23:30 in Berlin on the 25th is 22:30 UTC; 00:30 on the 26th is still the 25th in UTC.
    let twice = trigger(
        r#"{"cron": {"expression": "30 0,23 * * *", "timezone": "Europe/Berlin"},
            "exclude": ["2026-12-25"]}"#,
    );
    assert_eq!(
        local_fires(&twice, "2026-12-24T20:00:00Z", 2),
        ["2026-12-24 23:30:00+01:00", "2026-12-26 00:30:00+01:00"]
    );
}

#[test]
fn an_excluded_day_costs_one_step_however_many_fires_it_holds() {
    let quick = trigger(
        r#"{"every": {"interval": "1ms", "anchor": "2026-12-25T00:00:00Z"},
            "exclude": ["2026-12-25"]}"#,
    );
    assert_eq!(quick.next(None), Some(instant("2026-12-26T00:00:00Z")));
}

#[test]
fn a_trigger_vetoes_fires_at_the_same_instant() {
    let outside_office_hours = trigger(
        r#"{"every": {"interval": "30m"}, "exclude": [{"cron": {"expression": "* 9-16 * * 1-5"}}]}"#,
    );
    let monday = Some(instant("2026-01-05T08:30:00Z"));
    assert_eq!(
        outside_office_hours.next(monday),
        Some(instant("2026-01-05T17:00:00Z"))
    );
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
fn members_within_the_tolerance_fire_at_the_earliest() {
    let all = |tolerance: &str| {
        trigger(&format!(
            r#"{{"all": [{{"at": "2020-05-16T14:17:30.254212Z"}},
                         {{"at": "2020-05-16T14:17:31.254212Z"}}], "tolerance": "{tolerance}"}}"#
        ))
    };
    let first = instant("2020-05-16T14:17:30.254212Z");
    assert_eq!(all("1s").fires(None).collect::<Vec<_>>(), [first]);
    assert_eq!(all("0s").next(None), None);
    assert_eq!(all("999ms").next(None), None);
}

#[test]
fn friday_the_13th_is_an_intersection() {
    let both = trigger(
        r#"{"all": [{"cron": {"expression": "0 0 13 * *"}}, {"cron": {"expression": "0 0 * * fri"}}]}"#,
    );
    assert_eq!(
        local_fires(&both, "2026-01-01T00:00:00Z", 3),
        [
            "2026-02-13 00:00:00+00:00",
            "2026-03-13 00:00:00+00:00",
            "2026-11-13 00:00:00+00:00"
        ]
    );
}

#[test]
fn an_interval_is_exact_at_any_distance() {
    let every =
        trigger(r#"{"every": {"interval": "1h 6s", "anchor": "1900-01-01T00:00:00.000001Z"}}"#);
    let next = every.next(Some(instant("9000-01-01T00:00:00Z"))).unwrap();
    let passed = next - instant("1900-01-01T00:00:00.000001Z");
    assert_eq!(passed.num_microseconds().unwrap() % 3_606_000_000, 0);
}

#[test]
fn an_interval_without_anchor_counts_from_1970_or_from_what_it_is_given() {
    let mut every = trigger(r#"{"any": [{"every": {"interval": "1d"}}]}"#);
    let after = Some(instant("2026-01-01T12:34:56Z"));
    assert_eq!(every.next(after), Some(instant("2026-01-02T00:00:00Z")));
    every.anchor(instant("2026-01-01T10:00:00Z"));
    assert_eq!(every.next(after), Some(instant("2026-01-02T10:00:00Z")));
    every.anchor(instant("2026-01-01T11:00:00Z"));
    assert_eq!(
        every.next(after),
        Some(instant("2026-01-02T10:00:00Z")),
        "an anchor stays"
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

#[test]
fn times_without_offset_are_utc() {
    for text in [
        "2024-01-03T00:00",
        "2024-01-03 00:00:00",
        "2024-01-03T01:00+01:00",
        "2024-01-03T00:00:00.0z",
    ] {
        let at = trigger(&format!(r#"{{"at": "{text}"}}"#));
        assert_eq!(
            at.next(None),
            Some(instant("2024-01-03T00:00:00Z")),
            "{text}"
        );
    }
}

#[test]
fn triggers_are_described_in_plain_words() {
    let crons = [
        ("30 2 * * *", "at 02:30 every day"),
        ("15 30 2 * * *", "at 02:30:15 every day"),
        ("0 9,17 * * 1-5", "at 09:00 and 17:00 on Monday to Friday"),
        ("*/15 * * * *", "every 15 minutes every day"),
        (
            "*/15 9-17 * * mon,wed",
            "every 15 minutes from 09:00 to 17:59 on Monday and Wednesday",
        ),
        ("* * * * *", "every minute every day"),
        ("*/10 * * * * *", "every 10 seconds every day"),
        ("0 * * * *", "on the hour every day"),
        (
            "5,35 */6 * * *",
            "at minutes 5 and 35 past the hour in hours 0, 6, 12 and 18 every day",
        ),
        ("0 0 1 1 *", "at 00:00 on day 1 of January"),
        ("0 0 1,15 * *", "at 00:00 on days 1 and 15 of the month"),
        (
            "0 0 LW * *",
            "at 00:00 on the last Monday to Friday of the month",
        ),
        ("0 0 * * fri#3", "at 00:00 on the third Friday of the month"),
        ("0 0 * 3-5 0", "at 00:00 on Sunday in March to May"),
        (
            "0 0 13 * 5",
            "at 00:00 on day 13 of the month, and also on Friday",
        ),
        (
            "0 0 */15 * 5",
            "at 00:00 on days 1, 16 and 31 of the month, if it is Friday",
        ),
    ];
    for (expression, words) in crons {
        let described = cron(expression, "Europe/Berlin").describe();
        assert_eq!(described, format!("{words}, Europe/Berlin"), "{expression}");
    }
    let others = [
        (r#"{"every": {"interval": "90m"}}"#, "every 1h 30m"),
        (
            r#"{"at": "2026-11-23T10:00:00Z"}"#,
            "once, at 2026-11-23T10:00:00Z",
        ),
        (
            r#"{"calendar": {"months": 1, "from": "2026-01-31", "time": "09:00"}, "exclude": ["2026-03-31"]}"#,
            "at 09:00 every month, from 2026-01-31, UTC, except 2026-03-31",
        ),
        (
            r#"{"calendar": {"years": 1, "days": 2, "from": "2026-01-31", "until": "2030-01-01"}}"#,
            "at 00:00 every 1 year and 2 days, from 2026-01-31 until 2030-01-01, UTC",
        ),
    ];
    for (json, words) in others {
        assert_eq!(trigger(json).describe(), words);
    }
}
