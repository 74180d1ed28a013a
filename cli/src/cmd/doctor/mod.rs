//! `repull doctor`: what the broker knows beside what workers and schedulers claim.
//!
//! Looks are some seconds apart, because a number that only looks wrong may be a number in motion: a
//! fault is what is wrong in all of them. Faults have classes, by name, and each names its cure.

mod facts;
mod finding;
mod fleet;
mod lanes;
mod servers;
mod streams;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use repull::client::Client;
use repull::connect::ConnectArgs;
use serde_json::json;

use self::facts::Facts;
use self::finding::{Finding, Severity};
use crate::cmd;
use crate::ui::{out, report, time};

/// The options of `repull doctor`.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Time between two looks
    #[arg(long, value_name = "DURATION", value_parser = time::duration, default_value = "5s")]
    interval: Duration,
    /// Fail on warnings as well
    #[arg(long)]
    strict: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Looks and tells what is wrong: exit code 1 where something is.
pub(crate) async fn run(args: DoctorArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let client = cmd::connect(connect).await?;
    let differences = facts::differences(&client).await?;
    let mut findings = streams::topology(&differences);
    let mut facts = None;
    // Without its streams there is nothing further to look at.
    if !differences.iter().any(facts::is_absent) {
        let (found, last) = examine(&client, args.interval).await?;
        findings.extend(found);
        facts = Some(last);
    }
    findings.sort_by(|a, b| (a.severity, &a.subject).cmp(&(b.severity, &b.subject)));
    if args.json {
        print_json(&findings, facts.as_ref())?;
    } else {
        print(&findings, facts.as_ref())?;
    }
    let fails = |finding: &Finding| match finding.severity {
        Severity::Error => true,
        Severity::Warning => args.strict,
        Severity::Note => false,
    };
    Ok(if findings.iter().any(fails) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Looks as often as it takes: once where nothing waits, twice where something does, and a third time
/// where two looks show a standstill, which may have been a moment between two movements.
async fn examine(client: &Client, interval: Duration) -> anyhow::Result<(Vec<Finding>, Facts)> {
    let first = Facts::look(client).await?;
    if !lanes::is_in_motion(&first) {
        return Ok((diagnose(&first, &first), first));
    }
    tokio::time::sleep(interval).await;
    let second = Facts::look(client).await?;
    let mut findings = diagnose(&first, &second);
    if !findings.iter().any(lanes::is_standstill) {
        return Ok((findings, second));
    }
    tokio::time::sleep(interval).await;
    let third = Facts::look(client).await?;
    let again = diagnose(&second, &third);
    findings.retain(|finding| {
        let is_same =
            |other: &Finding| (other.class, &other.subject) == (finding.class, &finding.subject);
        !lanes::is_standstill(finding) || again.iter().any(is_same)
    });
    Ok((findings, third))
}

/// All findings of two looks. Pure.
fn diagnose(first: &Facts, second: &Facts) -> Vec<Finding> {
    let mut findings = servers::diagnose(second);
    findings.extend(streams::diagnose(second));
    findings.extend(lanes::diagnose(first, second));
    findings.extend(fleet::diagnose(first, second));
    findings
}

fn print(findings: &[Finding], facts: Option<&Facts>) -> anyhow::Result<()> {
    for finding in findings {
        let Finding {
            severity,
            class,
            subject,
            what,
            cure,
        } = finding;
        out::line(format!("{severity:<8} {class}: {subject}: {what}"))?;
        out::line(format!("         cure: {cure}"))?;
    }
    if let Some(facts) = facts {
        report::note(facts.summary());
    }
    let wrong = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .count();
    match wrong {
        0 => report::note("nothing is wrong"),
        _ => report::note(format_args!(
            "{} wrong",
            out::counted(wrong as u64, "thing")
        )),
    }
    Ok(())
}

fn print_json(findings: &[Finding], facts: Option<&Facts>) -> anyhow::Result<()> {
    let is_healthy = findings
        .iter()
        .all(|finding| finding.severity != Severity::Error);
    out::json(&json!({
        "healthy": is_healthy,
        "findings": findings,
        "facts": facts.map(Facts::view),
    }))
}
