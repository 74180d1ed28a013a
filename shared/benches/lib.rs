//! What the benches measure with: one table, so that every contestant gets the same.

/// Crontab expressions of five fields and time zones. Days of the week are named, since crates count
/// them differently, and no expression restricts both day fields, which crates combine differently.
pub const CASES: [(&str, &str, &str); 7] = [
    ("every five minutes", "*/5 * * * *", "UTC"),
    ("daily, UTC", "30 2 * * *", "UTC"),
    ("daily, clock changes", "30 2 * * *", "Europe/Berlin"),
    ("weekdays, thrice", "0 9,12,17 * * MON-FRI", "Europe/Berlin"),
    ("monthly", "0 6 1 * *", "America/New_York"),
    ("yearly", "0 0 1 1 *", "Europe/Berlin"),
    ("29 February", "0 12 29 2 *", "Europe/Berlin"),
];
