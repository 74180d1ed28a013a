//! What changes of the clocks do to fires.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use repull::trigger::{ClockChange, Trigger, Year};

use super::{cron, instant, local_fires, trigger};

/// Samoa's missing day, Pyongyang's half hour, and the usual.
const YEARS: [i32; 3] = [2011, 2018, 2026];

/// Every zone, several years, several times of day: each local day has one fire, at its time or, if
/// clocks skip that time, when they have done so.
#[test]
fn a_daily_schedule_fires_once_a_local_day_in_every_zone() {
    for zone in TZ_VARIANTS {
        for (hour, minute) in [(0, 0), (2, 30), (23, 45)] {
            let daily = cron(&format!("{minute} {hour} * * *"), zone.name());
            for year in YEARS {
                check_daily(
                    &daily,
                    zone,
                    year,
                    NaiveTime::from_hms_opt(hour, minute, 0).unwrap(),
                );
            }
        }
    }
}

fn check_daily(daily: &Trigger, zone: Tz, year: i32, time: NaiveTime) {
    let listed = daily.year(year, 1_000);
    assert!(!listed.truncated);
    let mut by_day: BTreeMap<NaiveDate, Vec<DateTime<Utc>>> = BTreeMap::new();
    for fire in &listed.fires {
        by_day
            .entry(fire.at.date_naive())
            .or_default()
            .push(fire.at.to_utc());
    }
    let first = NaiveDate::from_ymd_opt(year, 1, 1).unwrap();
    for date in first.iter_days().take_while(|date| date.year() == year) {
        let fires = by_day.remove(&date).unwrap_or_default();
        let place = format!("{zone} {date} {time}: {fires:?}");
        match zone.from_local_datetime(&date.and_time(time)).earliest() {
            // Its own fire, and perhaps one that clocks pushed over from the day before.
            Some(at) => {
                let (own, others): (Vec<_>, Vec<_>) =
                    fires.into_iter().partition(|fire| *fire == at);
                assert_eq!(own.len(), 1, "{place}");
                assert!(
                    others.len() <= 1 && others.iter().all(|at| is_gap_end(&listed, *at)),
                    "{place}"
                );
            }
            // The end of the gap may be on the day after.
            None => {
                let next = by_day
                    .get(&(date + Days::new(1)))
                    .cloned()
                    .unwrap_or_default();
                let pushed = fires.iter().chain(&next).any(|at| is_gap_end(&listed, *at));
                assert!(pushed && fires.len() <= 1, "{place} {next:?}");
            }
        }
    }
    assert!(
        by_day.is_empty(),
        "{zone} {time}: fires on days that do not exist, {by_day:?}"
    );
}

/// Whether clocks were set forward at that instant.
fn is_gap_end(listed: &Year, at: DateTime<Utc>) -> bool {
    let forward =
        |change: &ClockChange| change.after.local_minus_utc() > change.before.local_minus_utc();
    listed
        .clock_changes
        .iter()
        .any(|change| change.at == at && forward(change))
}

/// An expression that follows elapsed time has no hole and no crowd, whatever the clocks do.
#[test]
fn an_hourly_schedule_never_pauses_for_two_hours_nor_fires_twice_in_one() {
    for zone in TZ_VARIANTS {
        for minute in [0, 30, 50] {
            let hourly = cron(&format!("{minute} * * * *"), zone.name());
            for change in [2011, 2016, 2018, 2024]
                .map(|year| hourly.year(year, 0).clock_changes)
                .concat()
            {
                let after = Some(change.at - TimeDelta::hours(5));
                let fires: Vec<_> = hourly.fires(after).take(10).collect();
                for pair in fires.windows(2) {
                    let apart = pair[1] - pair[0];
                    let fine = apart >= TimeDelta::hours(1) && apart < TimeDelta::hours(2);
                    assert!(fine, "{zone}: {} then {}", pair[0], pair[1]);
                }
            }
        }
    }
}

/// Two days around every change of the oddest clocks: whenever one looks, the fires are the same.
#[test]
fn fires_around_a_change_do_not_depend_on_when_one_looks() {
    let zones = [
        "Australia/Lord_Howe",
        "Pacific/Chatham",
        "Asia/Pyongyang",
        "America/St_Johns",
    ];
    let expressions = [
        "30 * * * *",
        "0 */2 * * *",
        "*/7 */3 * * *",
        "* 5 * * *",
        "*/20 0,2,23 * * 0",
        "50 */4 8 * *",
        "30 2 * * *",
        "*/17 * * * * *",
        "15 45 1,2,3 * * *",
    ];
    for zone in zones {
        for expression in expressions {
            let trigger = cron(expression, zone);
            for change in [2006, 2015, 2018, 2024]
                .map(|year| trigger.year(year, 0).clock_changes)
                .concat()
            {
                check_looks(&trigger, change.at);
            }
        }
    }
}

fn check_looks(trigger: &Trigger, change: DateTime<Utc>) {
    let begin = change - TimeDelta::hours(20);
    let fires: Vec<_> = trigger
        .fires(Some(begin))
        .take_while(|fire| *fire < change + TimeDelta::hours(30))
        .collect();
    assert!(fires.is_sorted_by(|a, b| a < b), "{trigger}: {fires:?}");
    for minutes in (0..40 * 60).step_by(13) {
        let look = begin + TimeDelta::minutes(minutes);
        let expected = fires.iter().find(|fire| **fire > look);
        let next = trigger
            .next(Some(look))
            .filter(|next| *next < change + TimeDelta::hours(30));
        assert_eq!(next.as_ref(), expected, "{trigger}: from {look}");
    }
}

#[test]
fn spring_gap_moves_the_fire_to_its_end() {
    let daily = cron("30 2 * * *", "Europe/Berlin");
    assert_eq!(
        local_fires(&daily, "2024-03-30T12:00:00Z", 2),
        ["2024-03-31 03:00:00+02:00", "2024-04-01 02:30:00+02:00"]
    );
}

#[test]
fn fires_that_meet_at_the_end_of_a_gap_are_one() {
    let four = cron("0,30 2,3 * * *", "Europe/Berlin");
    assert_eq!(
        local_fires(&four, "2024-03-30T12:00:00Z", 3),
        [
            "2024-03-31 03:00:00+02:00",
            "2024-03-31 03:30:00+02:00",
            "2024-04-01 02:00:00+02:00"
        ]
    );
}

#[test]
fn repeated_hour_counts_only_the_first_time() {
    let daily = cron("30 2 * * *", "Europe/Berlin");
    let fires = ["2024-10-27 02:30:00+02:00", "2024-10-28 02:30:00+01:00"];
    assert_eq!(local_fires(&daily, "2024-10-26T12:00:00Z", 2), fires);
    // Also when one looks from within the second time, before or after the minute.
    assert_eq!(local_fires(&daily, "2024-10-27T01:10:00Z", 1), fires[1..]);
    assert_eq!(local_fires(&daily, "2024-10-27T01:50:00Z", 1), fires[1..]);
}

#[test]
fn seconds_do_not_change_what_fixed_hours_mean() {
    let daily = cron("15 30 2 * * *", "Europe/Berlin");
    assert_eq!(
        local_fires(&daily, "2024-03-30T12:00:00Z", 1),
        ["2024-03-31 03:00:00+02:00"]
    );
    assert_eq!(
        local_fires(&daily, "2024-10-26T12:00:00Z", 2),
        ["2024-10-27 02:30:15+02:00", "2024-10-28 02:30:15+01:00"]
    );
}

/// Half an hour back: an hourly schedule stays an hour apart and falls into step at its next fire.
#[test]
fn an_hourly_schedule_on_lord_howe_fires_an_hour_apart() {
    let hourly = cron("30 * * * *", "Australia/Lord_Howe");
    let fires = ["2024-04-07 01:30:00+11:00", "2024-04-07 02:30:00+10:30"];
    assert_eq!(local_fires(&hourly, "2024-04-06T14:00:00Z", 2), fires);
    // From every instant in between, too: the fires do not depend on when one looks.
    for minute in 0..90 {
        let look = instant("2024-04-06T14:30:00Z") + TimeDelta::minutes(minute);
        assert_eq!(
            hourly.next(Some(look)),
            Some(instant("2024-04-06T16:00:00Z")),
            "from {look}"
        );
    }
}

#[test]
fn a_calendar_date_without_its_time_is_left_out() {
    let daily = trigger(
        r#"{"calendar": {"days": 1, "time": "02:30", "timezone": "Europe/Berlin", "from": "2024-03-30"}}"#,
    );
    assert_eq!(
        local_fires(&daily, "2024-03-29T00:00:00Z", 2),
        ["2024-03-30 02:30:00+01:00", "2024-04-01 02:30:00+02:00"]
    );
}

#[test]
fn a_year_tells_when_clocks_change() {
    let listed = cron("30 2 * * *", "Europe/Berlin").year(2024, 1_000);
    assert_eq!(listed.fires.len(), 366);
    let changes: Vec<_> = listed
        .clock_changes
        .iter()
        .map(|change| change.at)
        .collect();
    assert_eq!(
        changes,
        [
            instant("2024-03-31T01:00:00Z"),
            instant("2024-10-27T01:00:00Z")
        ]
    );
    let marked: Vec<_> = listed
        .fires
        .iter()
        .filter(|fire| fire.on_clock_change)
        .collect();
    assert_eq!(marked.len(), 2);
    assert_eq!(marked[0].at.to_rfc3339(), "2024-03-31T03:00:00+02:00");

    let cut = cron("* * * * *", "Europe/Berlin").year(2024, 10);
    assert!(cut.truncated && cut.fires.len() == 10);
}
