//! Random triggers and cron expressions, valid by construction unless a name says otherwise.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Zones with every kind of oddity: none, an hour, half an hour, two hours, at 02:45, at midnight,
/// twice a year around Ramadan, a day left out.
const ZONES: [&str; 14] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Pacific/Apia",
    "America/Sao_Paulo",
    "Africa/Cairo",
    "America/Havana",
    "America/Nuuk",
    "Antarctica/Troll",
    "Pacific/Chatham",
    "Asia/Pyongyang",
    "America/St_Johns",
];

pub(crate) fn zone() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        4 => prop::sample::select(&ZONES[..]),
        1 => prop::sample::select(&chrono_tz::TZ_VARIANTS[..]).prop_map(|zone| zone.name()),
    ]
}

pub(crate) fn instant() -> impl Strategy<Value = DateTime<Utc>> {
    // 1970 to 2040, to the millisecond.
    (0_i64..2_208_988_800_000).prop_map(|at| DateTime::from_timestamp_millis(at).unwrap())
}

/// Cron expressions that may name a day that does not exist, and are valid otherwise.
pub(crate) fn expression() -> impl Strategy<Value = String> {
    let day = prop_oneof![
        4 => field(1, 31),
        1 => "L|LW|L-[1-9]|(1[0-9]|[1-9])W".prop_map(String::from),
    ];
    let month = prop_oneof![
        6 => Just("*".to_owned()),
        3 => field(1, 12),
        1 => "jan|feb|mar-oct|jun,DEC".prop_map(String::from),
    ];
    let weekday = prop_oneof![
        4 => Just("*".to_owned()),
        4 => field(0, 7),
        1 => "[0-7]L|[0-7]#[1-5]|fri#2|sunL".prop_map(String::from),
        1 => "mon-fri|sat,sun|tue-sat/2".prop_map(String::from),
    ];
    let seconds = prop_oneof![4 => Just(String::new()), 1 => field(0, 59).prop_map(|s| s + " ")];
    (seconds, field(0, 59), field(0, 23), day, month, weekday)
        .prop_map(|(s, m, h, day, month, weekday)| format!("{s}{m} {h} {day} {month} {weekday}"))
}

fn field(low: u32, high: u32) -> impl Strategy<Value = String> {
    let range = (low..=high).prop_flat_map(move |a| (Just(a), a..=high));
    let step = 1..high + 5;
    prop_oneof![
        4 => Just("*".to_owned()),
        2 => step.clone().prop_map(|step| format!("*/{step}")),
        4 => (low..=high).prop_map(|value| value.to_string()),
        2 => prop::collection::vec(low..=high, 2..4)
            .prop_map(|list| list.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
        2 => range.clone().prop_map(|(a, b)| format!("{a}-{b}")),
        1 => (range, step.clone()).prop_map(|((a, b), step)| format!("{a}-{b}/{step}")),
        1 => (low..=high, step).prop_map(|(a, step)| format!("{a}/{step}")),
    ]
}

/// Triggers of every kind, nested, with windows and exclusions; they may have no fire at all.
pub(crate) fn trigger() -> impl Strategy<Value = Value> {
    simple().prop_recursive(3, 12, 3, |inner| {
        let members = || prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            members().prop_map(|members| json!({ "any": members })),
            (members(), 0..100_u32).prop_map(|(members, tolerance)| {
                json!({ "all": members, "tolerance": format!("{tolerance}m") })
            }),
            (inner.clone(), inner.clone()).prop_map(|(excluded, mut trigger)| {
                trigger["exclude"] = json!([excluded, "2026-12-25"]);
                trigger
            }),
            (inner, instant(), 0..1_000_000_i64).prop_map(|(mut trigger, start, minutes)| {
                trigger["start"] = json!(start);
                trigger["end"] = json!(start + TimeDelta::minutes(minutes));
                trigger
            }),
        ]
    })
}

/// Triggers without members, windows and exclusions.
pub(crate) fn simple() -> impl Strategy<Value = Value> {
    let cron = (expression(), zone()).prop_map(
        |(expression, zone)| json!({ "cron": { "expression": expression, "timezone": zone } }),
    );
    let every = (1_u64..10_000_000_000, instant()).prop_map(|(interval, anchor)| {
        json!({ "every": { "interval": format!("{interval}ms"), "anchor": anchor } })
    });
    let at = instant().prop_map(|at| json!({ "at": at }));
    prop_oneof![5 => cron, 2 => every, 3 => calendar(), 1 => at]
}

pub(crate) fn calendar() -> impl Strategy<Value = Value> {
    let step = prop_oneof![
        Just([0, 0, 0, 1]),
        Just([0, 1, 0, 0]),
        (0..3_u32, 0..14_u32, 0..5_u32, 0..40_u32).prop_map(|(y, m, w, d)| [y, m, w, d]),
    ];
    let step = step.prop_filter("a step goes somewhere", |step| {
        step.iter().any(|part| *part > 0)
    });
    (step, instant(), 0..1_440_u32, zone()).prop_map(
        |([years, months, weeks, days], from, at, zone)| {
            json!({ "calendar": {
                "years": years, "months": months, "weeks": weeks, "days": days,
                "from": from.date_naive(),
                "time": format!("{:02}:{:02}", at / 60, at % 60),
                "timezone": zone,
            }})
        },
    )
}
