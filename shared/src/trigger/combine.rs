//! Union and intersection of triggers.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::budget::Budget;
use super::{NANOSECOND, Trigger};

/// Fires when all members do, within the tolerance of each other.
///
/// An instant is a fire if a member fires at it and each of the others fires at it or within the
/// tolerance after it. That depends on no earlier fire, so it is the same from wherever one looks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct All {
    pub(super) members: Vec<Trigger>,
    pub(super) tolerance: Duration,
}

/// How far apart members of an `all` may fire unless it says otherwise.
pub(super) const TOLERANCE: Duration = Duration::from_secs(1);

/// The earliest next fire of any member; an instant that several share is one fire.
pub(super) fn next_of_any(
    members: &[Trigger],
    after: Option<DateTime<Utc>>,
    budget: &mut Budget,
) -> Option<DateTime<Utc>> {
    members
        .iter()
        .filter_map(|member| member.next_within(after, budget))
        .min()
}

impl All {
    /// Members leap over each other: whoever is too early looks on from where the last one is.
    pub(super) fn next(
        &self,
        after: Option<DateTime<Utc>>,
        budget: &mut Budget,
    ) -> Option<DateTime<Utc>> {
        let tolerance = TimeDelta::from_std(self.tolerance).ok()?;
        let mut fires = self
            .members
            .iter()
            .map(|member| member.next_within(after, budget))
            .collect::<Option<Vec<_>>>()?;
        loop {
            budget.spend()?;
            let (earliest, latest) = (*fires.iter().min()?, *fires.iter().max()?);
            if latest - earliest <= tolerance {
                return Some(earliest);
            }
            // The latest member has no earlier fire to offer, so nothing can be met up to here.
            let past = latest - tolerance - NANOSECOND;
            for (fire, member) in fires.iter_mut().zip(&self.members) {
                if *fire <= past {
                    *fire = member.next_within(Some(past), budget)?;
                }
            }
        }
    }
}
