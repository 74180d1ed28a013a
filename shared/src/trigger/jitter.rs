//! Jitter that every scheduler computes alike.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// How much later than its fire time a job of the schedule starts: at least 0 and less than `max`,
/// and less than the time to the `next` fire, so that fires keep their order.
///
/// It is a hash of the schedule's id and the fire time, the same in every process and version.
pub fn jitter(
    schedule_id: &str,
    fire: DateTime<Utc>,
    next: Option<DateTime<Utc>>,
    max: Duration,
) -> Duration {
    let room = next.map_or(max, |next| {
        (next - fire).to_std().unwrap_or(Duration::ZERO).min(max)
    });
    let spread = u64::try_from(room.as_nanos()).unwrap_or(u64::MAX);
    // The upper half of the product: evenly from 0 to `spread`, exclusive.
    let scaled = u128::from(hash(schedule_id, fire)) * u128::from(spread);
    Duration::from_nanos(u64::try_from(scaled >> 64).unwrap_or_default())
}

/// FNV-1a over id and time, then `SplitMix64`'s finish, which spreads its weak upper bits.
fn hash(schedule_id: &str, fire: DateTime<Utc>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let seconds = fire.timestamp().to_le_bytes();
    let nanoseconds = fire.timestamp_subsec_nanos().to_le_bytes();
    for byte in schedule_id.bytes().chain(seconds).chain(nanoseconds) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn fire(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_225_600 + 60 * minute, 0).unwrap()
    }

    /// Written down so that a change of the hash, which would move jobs, does not go unseen.
    #[test]
    fn jitter_is_the_same_in_every_version() {
        assert_eq!(
            jitter("nightly", fire(0), None, MINUTE).as_nanos(),
            12_074_952_992
        );
    }

    #[test]
    fn jitter_never_reaches_the_next_fire() {
        for minute in 0..1_000 {
            let given = jitter(
                "a",
                fire(minute),
                Some(fire(minute + 1)),
                Duration::from_secs(900),
            );
            assert!(given < MINUTE, "{minute}: {given:?}");
        }
    }

    #[test]
    fn jitter_is_spread_evenly_over_fires_and_over_schedules() {
        let over_fires = (0..1_000).map(|minute| jitter("a", fire(minute), None, MINUTE));
        let over_schedules = (0..1_000).map(|id| jitter(&format!("s-{id}"), fire(0), None, MINUTE));
        for spread in [over_fires.collect::<Vec<_>>(), over_schedules.collect()] {
            for tenth in 0..10 {
                let range = MINUTE / 10 * tenth..MINUTE / 10 * (tenth + 1);
                let count = spread.iter().filter(|given| range.contains(*given)).count();
                assert!(
                    (60..=140).contains(&count),
                    "tenth {tenth} has {count} of 1000"
                );
            }
        }
    }

    #[test]
    fn without_room_there_is_no_jitter() {
        assert_eq!(jitter("a", fire(0), None, Duration::ZERO), Duration::ZERO);
        assert_eq!(jitter("a", fire(0), Some(fire(0)), MINUTE), Duration::ZERO);
        assert_eq!(jitter("a", fire(1), Some(fire(0)), MINUTE), Duration::ZERO);
    }
}
