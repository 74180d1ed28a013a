//! Worked examples: what triggers mean.

use super::{cron, instant, local_fires, trigger};

/// The dates of the first fires of a UTC expression in 2024 and later.
pub(crate) fn dates(expression: &str, count: usize) -> Vec<String> {
    let fires = cron(expression, "UTC");
    let fires = fires
        .fires(Some(instant("2023-12-31T23:59:59Z")))
        .take(count);
    fires.map(|fire| fire.format("%m-%d").to_string()).collect()
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
