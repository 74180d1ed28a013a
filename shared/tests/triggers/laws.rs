//! What must hold for every trigger, and comparisons with slow but obvious evaluators.

use std::time::{Duration, Instant};

use chrono::{DateTime, Datelike, Months, NaiveDate, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;
use repull::trigger::Trigger;
use serde_json::{Value, json};

use super::strategies;

/// How many fires a law is checked on.
const FIRES: usize = 40;

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn fires_strictly_increase(value in strategies::trigger(), after in strategies::instant()) {
        let trigger: Trigger = unless_impossible(value)?;
        let fires: Vec<_> = trigger.fires(Some(after)).take(FIRES).collect();
        prop_assert!(fires.first().is_none_or(|first| *first > after));
        prop_assert!(fires.is_sorted_by(|a, b| a < b), "{fires:?}");
    }

    /// Schedulers look from different instants: whatever lies between two fires, the second one is
    /// next.
    #[test]
    fn the_next_fire_is_the_same_from_wherever_one_looks(
        value in strategies::trigger(),
        after in strategies::instant(),
        part in 0.0..1.0,
    ) {
        let trigger: Trigger = unless_impossible(value)?;
        let fires: Vec<_> = trigger.fires(Some(after)).take(FIRES).collect();
        for pair in fires.windows(2) {
            let between = (pair[1] - pair[0]).to_std().unwrap().mul_f64(part);
            let look = pair[0] + TimeDelta::from_std(between).unwrap();
            prop_assert_eq!(trigger.next(Some(look)), Some(pair[1]), "from {}", look);
        }
    }

    #[test]
    fn written_triggers_read_back_as_they_were(value in strategies::trigger()) {
        let trigger: Trigger = unless_impossible(value)?;
        let written = serde_json::to_string(&trigger).unwrap();
        let read: Trigger = serde_json::from_str(&written).unwrap();
        prop_assert_eq!(&read, &trigger);
        prop_assert!(!trigger.describe().is_empty());
    }

    /// The bound is generous: it is met on a busy machine, without optimisation.
    #[test]
    fn evaluation_ends_soon(value in strategies::trigger(), after in strategies::instant()) {
        let trigger: Trigger = unless_impossible(value)?;
        let begun = Instant::now();
        let _ = (trigger.validate(), trigger.next(Some(after)));
        prop_assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,60}", zone in "[A-Za-z/_]{0,20}") {
        let _ = Trigger::parse_json(&text);
        let _ = Trigger::cron(&text, "UTC");
        let _ = Trigger::cron("* * * * *", &zone);
        for name in ["cron", "every", "calendar", "at", "any", "all"] {
            let _ = Trigger::from_value(json!({ name: &text }));
            let _ = Trigger::from_value(json!({ name: { "from": &text, "days": 1, "time": &text } }));
            let _ = Trigger::from_value(json!({ name: { "interval": &text, "anchor": &text } }));
        }
    }

    /// As before, with what expressions are made of, so that more of them get further.
    #[test]
    fn no_expression_makes_the_reader_panic(
        fields in prop::collection::vec("[0-9*,/LW#?a-z@-]{1,8}", 1..8),
        after in strategies::instant(),
    ) {
        if let Ok(trigger) = Trigger::cron(&fields.join(" "), "Europe/Berlin") {
            let _ = trigger.next(Some(after));
        }
    }

    #[test]
    fn cron_in_utc_fires_when_all_fields_match(
        expression in strategies::expression(),
        after in strategies::instant(),
    ) {
        // Two hours to the second where the expression has seconds, else two days to the minute.
        let has_seconds = expression.split(' ').count() == 6;
        let (step, length) = if has_seconds { (1, 7_200) } else { (60, 2 * 86_400) };
        let Ok(trigger) = Trigger::cron(&expression, "UTC") else { return Ok(()) };
        let begin = after.timestamp() / 60 * 60;
        let end = begin + length;
        let expected: Vec<i64> =
            (begin..end).step_by(step).filter(|at| matches(&expression, *at)).collect();
        let before = DateTime::from_timestamp(begin - 1, 0);
        let fires: Vec<i64> =
            trigger.fires(before).map(|fire| fire.timestamp()).take_while(|at| *at < end).collect();
        prop_assert_eq!(fires, expected);
    }

    #[test]
    fn calendar_steps_are_counted_from_the_first_date(
        value in strategies::calendar(),
        later in 0..20_000_i64,
    ) {
        let trigger = Trigger::from_value(value.clone()).unwrap();
        let fires = calendar_fires(&value["calendar"], 200);
        prop_assert_eq!(trigger.fires(None).take(fires.len()).collect::<Vec<_>>(), fires.clone());
        let look = fires[0] + TimeDelta::days(later);
        if let Some(next) = fires.iter().find(|fire| **fire > look) {
            prop_assert_eq!(trigger.next(Some(look)), Some(*next));
        }
    }

    #[test]
    fn any_is_the_union_and_all_the_intersection(
        a in strategies::simple(),
        b in strategies::simple(),
        after in strategies::instant(),
        tolerance in 0..7_200_i64,
    ) {
        let (one, other): (Trigger, Trigger) =
            (unless_impossible(a.clone())?, unless_impossible(b.clone())?);
        let list = |trigger: &Trigger| trigger.fires(Some(after)).take(200).collect::<Vec<_>>();
        let lists = [list(&one), list(&other)];
        // Beyond the end of a list nothing is known.
        let known = lists.iter().filter(|list| list.len() == 200).filter_map(|list| list.last());
        let known = known.min().copied().unwrap_or(DateTime::<Utc>::MAX_UTC);

        let any: Trigger = serde_json::from_value(json!({ "any": [&a, &b] })).unwrap();
        let mut union = lists.concat();
        union.sort_unstable();
        union.dedup();
        union.retain(|fire| *fire < known);
        prop_assert_eq!(any.fires(Some(after)).take(union.len()).collect::<Vec<_>>(), union.clone());

        let tolerance_text = format!("{tolerance}s");
        let all: Trigger =
            serde_json::from_value(json!({ "all": [&a, &b], "tolerance": tolerance_text })).unwrap();
        let tolerance = TimeDelta::seconds(tolerance);
        let near = |list: &[DateTime<Utc>], at: DateTime<Utc>| {
            list.iter().any(|fire| *fire >= at && *fire - at <= tolerance)
        };
        union.retain(|at| lists.iter().all(|list| near(list, *at)) && *at + tolerance < known);
        prop_assert_eq!(all.fires(Some(after)).take(union.len()).collect::<Vec<_>>(), union);
    }

    #[test]
    fn an_excluded_fire_is_left_out_and_no_other(
        a in strategies::simple(),
        b in strategies::simple(),
        after in strategies::instant(),
    ) {
        let (one, other): (Trigger, Trigger) =
            (unless_impossible(a.clone())?, unless_impossible(b.clone())?);
        let excluded_day = one.next_local(Some(after)).map_or(NaiveDate::MIN, |at| at.date_naive());
        prop_assume!(excluded_day.year() > 0);
        let mut with = a;
        with["exclude"] = json!([b, excluded_day]);
        let with: Trigger = serde_json::from_value(with).unwrap();
        let vetoed = |fire: DateTime<Utc>| {
            one.local(fire).date_naive() == excluded_day
                || other.next(Some(fire - TimeDelta::nanoseconds(1))) == Some(fire)
        };
        let fires: Vec<_> = one.fires(Some(after)).take(200).collect();
        let last = fires.last().copied();
        let expected: Vec<_> = fires.into_iter().filter(|fire| !vetoed(*fire)).collect();
        let listed: Vec<_> =
            with.fires(Some(after)).take_while(|fire| Some(*fire) <= last).collect();
        prop_assert_eq!(listed, expected);
    }
}

/// Reads a trigger; one that names no day that exists is no case.
fn unless_impossible(value: Value) -> Result<Trigger, TestCaseError> {
    serde_json::from_value(value).map_err(|error| TestCaseError::reject(error.to_string()))
}

/// Whether an instant matches an expression in UTC, read in the most literal way.
fn matches(expression: &str, at: i64) -> bool {
    let mut fields: Vec<String> = expression.split(' ').map(str::to_lowercase).collect();
    if fields.len() == 5 {
        fields.insert(0, "0".to_owned());
    }
    let now = DateTime::from_timestamp(at, 0).unwrap();
    let date = now.date_naive();
    let clock = [at % 60, at / 60 % 60, at / 3_600 % 24];
    let in_clock = (0..3).all(|index| {
        let high = [59, 59, 23][index];
        listed(&fields[index], clock[index], 0, high)
    });
    let by_day = fields[3].split(',').any(|item| day_matches(item, date));
    let by_weekday = fields[5].split(',').any(|item| weekday_matches(item, date));
    let either = !fields[3].starts_with('*') && !fields[5].starts_with('*');
    let in_days = if either {
        by_day || by_weekday
    } else {
        by_day && by_weekday
    };
    in_clock && in_days && listed(&fields[4], i64::from(date.month()), 1, 12)
}

fn listed(field: &str, value: i64, low: i64, high: i64) -> bool {
    field.split(',').any(|item| {
        let (range, step) = item
            .split_once('/')
            .map_or((item, 1), |(r, s)| (r, s.parse().unwrap()));
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (low, high),
            Some((from, to)) => (number(from), number(to)),
            None if item.contains('/') => (number(range), high),
            None => (number(range), number(range)),
        };
        (from..=to).contains(&value) && (value - from) % step == 0
    })
}

fn number(text: &str) -> i64 {
    const NAMES: &str = "jan feb mar apr may jun jul aug sep oct nov dec";
    const DAYS: &str = "sun mon tue wed thu fri sat";
    let named = NAMES.split(' ').zip(1..).chain(DAYS.split(' ').zip(0..));
    text.parse()
        .unwrap_or_else(|_| named.clone().find(|(name, _)| *name == text).unwrap().1)
}

fn day_matches(item: &str, date: NaiveDate) -> bool {
    let last = last_of_month(date);
    let is_weekday = |date: NaiveDate| date.weekday().number_from_monday() <= 5;
    if item == "lw" {
        let mut days = (0..).map(|back| last - TimeDelta::days(back));
        return days.find(|day| is_weekday(*day)) == Some(date);
    }
    if let Some(before) = item.strip_prefix('l') {
        return last - TimeDelta::days(before.trim_matches('-').parse().unwrap_or(0)) == date;
    }
    if let Some(day) = item.strip_suffix('w') {
        let Some(day) = date.with_day(day.parse().unwrap()) else {
            return false;
        };
        let near = [0, -1, 1, -2, 2].map(|days| day + TimeDelta::days(days));
        let found = near
            .into_iter()
            .find(|near| near.month() == day.month() && is_weekday(*near));
        return found == Some(date);
    }
    listed(item, i64::from(date.day()), 1, 31)
}

fn weekday_matches(item: &str, date: NaiveDate) -> bool {
    let weekday = i64::from(date.weekday().num_days_from_sunday());
    let is = |text: &str| number(text) % 7 == weekday;
    if let Some((day, nth)) = item.split_once('#') {
        return is(day) && i64::from((date.day() - 1) / 7 + 1) == number(nth);
    }
    if let Some(day) = item.strip_suffix('l') {
        return is(day) && date.day() + 7 > last_of_month(date).day();
    }
    listed(item, weekday, 0, 7) || (weekday == 0 && listed(item, 7, 0, 7))
}

fn last_of_month(date: NaiveDate) -> NaiveDate {
    date.with_day(1).unwrap() + Months::new(1) - TimeDelta::days(1)
}

/// The first fires of a calendar trigger, one date after the other.
fn calendar_fires(calendar: &Value, count: usize) -> Vec<DateTime<Utc>> {
    let part = |name: &str| u32::try_from(calendar[name].as_u64().unwrap()).unwrap();
    let months = part("years") * 12 + part("months");
    let days = TimeDelta::days(i64::from(part("weeks") * 7 + part("days")));
    let zone: Tz = calendar["timezone"].as_str().unwrap().parse().unwrap();
    let time = format!("{}:00", calendar["time"].as_str().unwrap())
        .parse()
        .unwrap();
    let mut date: NaiveDate = calendar["from"].as_str().unwrap().parse().unwrap();
    let mut fires = Vec::new();
    while fires.len() < count {
        fires.extend(
            zone.from_local_datetime(&date.and_time(time))
                .earliest()
                .map(|at| at.to_utc()),
        );
        let stepped = (1..).map(|times| date + Months::new(months * times));
        date = stepped
            .into_iter()
            .find(|next| next.day() == date.day())
            .unwrap()
            + days;
    }
    fires
}
