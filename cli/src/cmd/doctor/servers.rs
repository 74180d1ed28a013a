//! The server: versions that are known to be bad, and limits of the account.

use repull::connect::ServerVersion;

use super::facts::Facts;
use super::finding::Finding;

const fn version(major: u32, minor: u32, patch: u32) -> ServerVersion {
    ServerVersion {
        major,
        minor,
        patch,
    }
}

/// Faults of servers that touch us: from, mended in, what happens.
const KNOWN_BAD: &[(ServerVersion, ServerVersion, &str)] = &[
    (
        version(0, 0, 0),
        version(2, 10, 26),
        "consumers get stuck after a change of leader, and pulls are lost in silence",
    ),
    (
        version(2, 11, 0),
        version(2, 12, 7),
        "a queue at its limit can stay stuck after a running job was cancelled",
    ),
    (
        version(2, 11, 0),
        version(2, 12, 9),
        "counts of running jobs leak when running jobs are cancelled",
    ),
    (
        version(2, 12, 0),
        version(2, 12, 3),
        "a change of a cluster's members can lose writes",
    ),
    (
        version(2, 12, 0),
        version(2, 12, 4),
        "a damaged file of a consumer deletes the consumer",
    ),
    (
        version(2, 14, 0),
        version(2, 14, 1),
        "counts of running jobs leak when running jobs are cancelled",
    ),
];

/// The share of a limit from which it is near.
pub(super) const NEAR: f64 = 0.8;

/// What is wrong with the server.
pub(super) fn diagnose(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = facts
        .server
        .version
        .iter()
        .flat_map(|v| known(*v))
        .collect();
    findings.extend(account(facts));
    findings
}

fn known(found: ServerVersion) -> Vec<Finding> {
    KNOWN_BAD
        .iter()
        .filter(|(from, mended, _)| (*from..*mended).contains(&found))
        .map(|(_, mended, what)| {
            Finding::warning("server-known-bad", format!("server {found}"))
                .what(*what)
                .cure(format!(
                    "upgrade to {mended} or later; 2.12.12 and 2.14.2 are good choices"
                ))
        })
        .collect()
}

fn account(facts: &Facts) -> Vec<Finding> {
    let Some(account) = &facts.account else {
        return Vec::new();
    };
    let limits = &account.limits;
    let used = [
        ("file storage", account.storage, limits.max_storage),
        ("memory storage", account.memory, limits.max_memory),
        ("streams", account.streams as u64, limits.max_streams),
        ("consumers", account.consumers as u64, limits.max_consumers),
    ];
    used.into_iter()
        .filter_map(|(what, used, limit)| near_limit("the account", what, used, limit?))
        .collect()
}

/// A limit that is reached or near. Limits of zero and below are none.
pub(super) fn near_limit(subject: &str, what: &str, used: u64, limit: i64) -> Option<Finding> {
    let limit = u64::try_from(limit).ok().filter(|limit| *limit > 0)?;
    let share = used as f64 / limit as f64;
    if share < NEAR {
        return None;
    }
    let words = format!("{what}: {used} of {limit} used ({:.0} %)", share * 100.0);
    let finding = if used >= limit {
        Finding::error("limit-reached", subject).what(words)
    } else {
        Finding::warning("limit-near", subject).what(words)
    };
    Some(finding.cure("raise the limit, or remove what is not needed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(text: &str) -> usize {
        known(ServerVersion::parse(text).unwrap()).len()
    }

    #[test]
    fn known_bad_versions_are_named_and_good_ones_are_not() {
        for good in ["2.10.26", "2.10.27", "2.12.12", "2.14.2", "2.15.1"] {
            assert_eq!(classes(good), 0, "{good}");
        }
        assert_eq!(classes("2.10.25"), 1);
        assert_eq!(classes("2.11.4"), 2);
        assert_eq!(classes("2.12.2"), 4);
        assert_eq!(classes("2.12.8"), 1);
        assert_eq!(classes("2.14.0"), 1);
    }

    #[test]
    fn a_limit_is_told_from_four_fifths_on() {
        assert_eq!(near_limit("s", "x", 79, 100), None);
        assert_eq!(near_limit("s", "x", 80, 100).unwrap().class, "limit-near");
        assert_eq!(
            near_limit("s", "x", 100, 100).unwrap().class,
            "limit-reached"
        );
        assert_eq!(near_limit("s", "x", 100, -1), None);
        assert_eq!(near_limit("s", "x", 0, 0), None);
    }
}
