//! Server versions, and the oldest that we work with.

use std::fmt;

/// The oldest server we work with: older ones lose pulls in silence or get consumers stuck after a
/// change of leader (nats-server release notes up to 2.10.26).
pub const SERVER_VERSION_MIN: ServerVersion = ServerVersion {
    major: 2,
    minor: 10,
    patch: 26,
};

/// A server's version without its pre-release part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third number.
    pub patch: u32,
}

impl ServerVersion {
    /// Reads `2.10.27` or `v2.12.0-RC.1`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches('v');
        let release = text.split(['-', '+']).next()?;
        let mut parts = release.split('.').map(str::parse::<u32>);
        Some(Self {
            major: parts.next()?.ok()?,
            minor: parts.next()?.ok()?,
            patch: parts.next()?.ok()?,
        })
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(ServerVersion::parse("2.9.10").unwrap() < SERVER_VERSION_MIN);
        assert!(ServerVersion::parse("2.10.26").unwrap() >= SERVER_VERSION_MIN);
        assert!(ServerVersion::parse("v2.15.0-RC.1").unwrap() > SERVER_VERSION_MIN);
        assert_eq!(ServerVersion::parse("nightly"), None);
    }
}
