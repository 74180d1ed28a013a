//! How far an installation goes: a simulation from measured costs, held against measurements that it
//! was not fitted to. It needs no server and no time; `docs/SCALING.md` shows its tables, and a test
//! holds them to it.

mod cluster;
mod costs;
mod stream;

use std::fmt::Write;

use repull_tests::repository;

use cluster::{Cluster, busiest_share};
use costs::{FIRES_PER_SCHEDULER, PerJob, STORE};
use stream::{Load, rate};

/// A rate that was measured, and whether the costs were fitted to it.
struct Measured {
    what: &'static str,
    load: Load,
    rate: f64,
    fitted: bool,
}

const QUIET: Load = Load {
    slots: 256,
    outcomes: false,
    replicated: false,
    run: 0.0,
};

/// Rates of `docs/BENCHMARKS.md` and of the table under Durability in `docs/OPERATING.md`.
fn measured() -> Vec<Measured> {
    let of = |what, load, rate, fitted| Measured {
        what,
        load,
        rate,
        fitted,
    };
    let small = Load { slots: 16, ..QUIET };
    let outcomes = Load {
        outcomes: true,
        ..QUIET
    };
    let three = |load| Load {
        replicated: true,
        ..load
    };
    // The timer of a handler that sleeps rounds up to the next millisecond, and one is added.
    let sleeping = Load {
        slots: 64,
        run: 11_500.0,
        ..QUIET
    };
    vec![
        of("16 slots", small, 14_532.0, true),
        of("256 slots", QUIET, 44_235.0, false),
        of("256 slots, outcomes", outcomes, 19_536.0, false),
        of("64 slots, jobs of 10 ms", sleeping, 4_773.0, false),
        of("256 slots, R3", three(QUIET), 16_600.0, false),
        of("256 slots, R3, outcomes", three(outcomes), 9_400.0, false),
    ]
}

fn error(point: &Measured) -> f64 {
    rate(point.load) / point.rate - 1.0
}

/// A number with commas, rounded to what it is worth.
fn round(number: f64) -> String {
    let step = 10_f64.powi((number.log10().floor() as i32 - 1).max(0));
    let digits = format!("{:.0}", (number / step).round() * step);
    let grouped: Vec<_> = digits.as_bytes().rchunks(3).rev().collect();
    let text = |group: &&[u8]| String::from_utf8_lossy(group).into_owned();
    grouped.iter().map(text).collect::<Vec<_>>().join(",")
}

fn table(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n", columns.join(" | "));
    let _ = writeln!(text, "|{}", " --- |".repeat(columns.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

fn validation() -> String {
    let rows = measured().into_iter().map(|point| {
        let used = if point.fitted { "fitted" } else { "not used" };
        let error = format!("{:+.0} %", error(&point) * 100.0);
        let simulated = round(rate(point.load));
        vec![
            point.what.into(),
            round(point.rate),
            simulated,
            error,
            used.into(),
        ]
    });
    table(
        &[
            "work off",
            "measured, jobs/s",
            "simulated",
            "error",
            "the point was",
        ],
        rows,
    )
}

fn one_stream() -> String {
    let rows = [1, 3].into_iter().map(|replicas| {
        let cost = PerJob::of(replicas, true);
        let enqueue = 1e6 / (cost.jobs + cost.copy);
        let settle = 1e6 / (cost.consumer + cost.copy);
        let both = 1e6 / cost.hottest();
        vec![
            format!("R{replicas}"),
            round(enqueue),
            round(settle),
            round(both),
        ]
    });
    table(
        &[
            "copies",
            "enqueue alone",
            "one lane, work off alone",
            "steady, in and out",
        ],
        rows,
    )
}

fn growth() -> String {
    let sizes = [
        (3, 1),
        (3, 3),
        (3, 12),
        (9, 9),
        (9, 36),
        (9, 144),
        (27, 108),
        (27, 432),
    ];
    let rows = sizes.into_iter().map(|(servers, namespaces)| {
        let mut row = vec![servers.to_string(), namespaces.to_string()];
        for replicas in [1, 3] {
            let cluster = Cluster {
                servers,
                namespaces,
                replicas,
            };
            let (median, low) = cluster.rate();
            row.push(format!("{} ({})", round(median), round(low)));
        }
        row
    });
    table(&["servers", "namespaces", "R1, jobs/s", "R3, jobs/s"], rows)
}

fn a_million() -> String {
    let rows = [32, 64, 128, 256, 512].into_iter().map(|namespaces| {
        let servers = |replicas| {
            let servers = Cluster::servers_for(1e6, namespaces, replicas);
            servers.map_or("not at all".into(), |servers| servers.to_string())
        };
        vec![namespaces.to_string(), servers(1), servers(3)]
    });
    table(&["namespaces", "servers, R1", "servers, R3"], rows)
}

fn skew() -> String {
    let one = 1e6 / PerJob::of(1, true).hottest();
    let rows = [0.0, 0.5, 0.8, 1.0, 1.2].into_iter().map(|skew| {
        let mut row = vec![format!("{skew:.1}")];
        for parts in [8, 64] {
            let share = busiest_share(10_000, skew, parts);
            let rate = (one / share).min(one * parts as f64);
            row.push(format!("{:.1} %", share * 100.0));
            row.push(format!("{} ({:.1} ×)", round(rate), rate / one));
        }
        row
    });
    table(
        &[
            "skew",
            "8 parts: the busiest",
            "jobs/s in all",
            "64 parts: the busiest",
            "jobs/s in all",
        ],
        rows,
    )
}

fn shards() -> String {
    let rows = [1, 2, 4, 8].into_iter().map(|shards| {
        let share = busiest_share(10_000, 0.0, shards);
        let (alone, stream) = (FIRES_PER_SCHEDULER / share, 1e6 / STORE);
        let limit = if alone < stream {
            "the schedulers"
        } else {
            "the stream"
        };
        vec![shards.to_string(), round(alone.min(stream)), limit.into()]
    });
    table(&["shards", "fires/s", "what limits them"], rows)
}

/// The document says how far off the simulation is; were it further off, it would mislead.
#[test]
fn the_simulation_foretells_what_it_was_not_fitted_to() {
    for point in measured() {
        let error = error(&point);
        let most = if point.fitted { 0.03 } else { 0.25 };
        assert!(error.abs() < most, "{}: {error:+.2}", point.what);
    }
}

#[test]
fn the_document_shows_the_tables_of_the_simulation() {
    let path = repository().join("docs/SCALING.md");
    let document = std::fs::read_to_string(path).expect("the document");
    for table in [
        validation(),
        one_stream(),
        growth(),
        a_million(),
        skew(),
        shards(),
    ] {
        println!("{table}");
        assert!(document.contains(&table), "docs/SCALING.md lacks\n{table}");
    }
}

/// Prints the tables, for the document.
#[test]
#[ignore = "prints the tables for docs/SCALING.md"]
fn print() {
    for table in [
        validation(),
        one_stream(),
        growth(),
        a_million(),
        skew(),
        shards(),
    ] {
        println!("{table}");
    }
}
