//! Streams: their settings, their leaders and replicas, their limits.

use async_nats::jetstream::stream::Info as StreamInfo;
use repull::topology::Difference;

use super::facts::{Facts, is_absent};
use super::finding::Finding;
use super::servers::near_limit;
use crate::ui::out::counted;
use crate::ui::time;

/// Settings that are not what Repull needs.
pub(super) fn topology(differences: &[Difference]) -> Vec<Finding> {
    differences
        .iter()
        .map(|difference| {
            let finding = Finding::error("topology-different", difference.asset.as_str());
            if is_absent(difference) {
                finding
                    .what("it does not exist")
                    .cure("`repull topology apply`, or start a scheduler")
            } else {
                finding.what(difference.to_string()).cure(format!(
                    "`nats stream edit {}`; `repull topology print --json` has all settings",
                    difference.asset
                ))
            }
        })
        .collect()
}

/// What is wrong with the streams as they run.
pub(super) fn diagnose(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = facts.streams.iter().flat_map(stream).collect();
    for lane in &facts.leaderless {
        findings.push(
            Finding::error("no-leader", format!("consumer `{lane}`"))
                .what("no server leads it, so its jobs are not delivered")
                .cure(
                    "bring the cluster's servers back; `nats server report jetstream` shows them",
                ),
        );
    }
    if !facts.malformed.is_empty() {
        findings.push(
            Finding::error("malformed-subjects", "the work queue")
                .what(format!(
                    "{} that name no job and will never be delivered, such as `{}`",
                    counted(facts.malformed.len() as u64, "subject"),
                    facts.malformed[0]
                ))
                .cure("publish them as jobs.<queue>.<task>.<id>, and remove these with `nats stream purge --subject`"),
        );
    }
    findings
}

fn stream(info: &StreamInfo) -> Vec<Finding> {
    let name = &info.config.name;
    let subject = format!("stream `{name}`");
    let mut findings: Vec<Finding> = [
        ("messages", info.state.messages, info.config.max_messages),
        ("bytes", info.state.bytes, info.config.max_bytes),
    ]
    .into_iter()
    .filter_map(|(what, used, limit)| near_limit(&subject, what, used, limit))
    .collect();
    let Some(cluster) = &info.cluster else {
        return findings;
    };
    if cluster.leader.is_none() {
        findings.push(
            Finding::error("no-leader", subject.as_str())
                .what("no server leads it, so nothing can be stored or read")
                .cure(
                    "bring the cluster's servers back; `nats server report jetstream` shows them",
                ),
        );
    }
    for replica in &cluster.replicas {
        let state = match (replica.offline, replica.current) {
            (true, _) => "is offline",
            (false, false) => "is behind",
            (false, true) => continue,
        };
        findings.push(
            Finding::warning("replica-behind", subject.as_str())
                .what(format!(
                    "its copy on {} {state}, last seen {} ago",
                    replica.name,
                    time::brief(replica.active)
                ))
                .cure("until it is back, the loss of one more server stops the stream"),
        );
    }
    findings
}
