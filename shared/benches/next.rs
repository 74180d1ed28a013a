//! `next()` of a cron trigger, beside the crates croner and cron.
//!
//! Each contestant lists the same fires, one from the other, from the same moment on; expressions are
//! parsed before. Before it is measured, all must agree on the first of them.

use std::hint::black_box;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use repull::trigger::Trigger;
use repull_benches::CASES;

/// Fires listed in one go: the crate cron knows no year after 2100, which bounds leap days.
const FIRES: usize = 15;

type Next = Box<dyn Fn(DateTime<Tz>) -> DateTime<Tz>>;

fn ours(expression: &str, zone: Tz) -> Next {
    let trigger = Trigger::cron(expression, zone.name()).expect("a trigger");
    Box::new(move |after| {
        let next = trigger.next(Some(after.to_utc()));
        next.expect("another fire").with_timezone(&zone)
    })
}

fn croner(expression: &str) -> Next {
    let cron = croner::Cron::from_str(expression).expect("an expression");
    Box::new(move |after| {
        cron.find_next_occurrence(&after, false)
            .expect("another fire")
    })
}

fn cron(expression: &str) -> Next {
    let cron = cron::Schedule::from_str(&format!("0 {expression}")).expect("an expression");
    Box::new(move |after| cron.after(&after).next().expect("another fire"))
}

fn list(next: &Next, start: DateTime<Tz>) -> DateTime<Tz> {
    (0..FIRES).fold(start, |after, _| next(after))
}

fn next_of_all(criterion: &mut Criterion) {
    // In summer, well before the clocks change.
    let start: DateTime<Utc> = "2026-07-01T10:00:00Z".parse().expect("a time");
    for (name, expression, zone) in CASES {
        let zone: Tz = zone.parse().expect("a zone");
        let start = start.with_timezone(&zone);
        let contestants = [
            ("repull", ours(expression, zone)),
            ("croner", croner(expression)),
            ("cron", cron(expression)),
        ];
        let first = contestants[0].1(start);
        for (who, next) in &contestants {
            assert_eq!(
                next(start),
                first,
                "`{who}` reads `{expression}` differently"
            );
        }
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(FIRES as u64));
        for (who, next) in &contestants {
            group.bench_function(BenchmarkId::from_parameter(who), |bencher| {
                bencher.iter(|| list(next, black_box(start)));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, next_of_all);
criterion_main!(benches);
