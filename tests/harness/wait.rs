//! Waiting for a condition, with a deadline that names what was missing.

use std::time::Duration;

/// How long a test waits for what happens in milliseconds on an idle machine.
///
/// Generous, because many tests share two cores in CI; a test that passes never waits this long.
pub const DEADLINE: Duration = Duration::from_secs(60);

const PROBE_FIRST: Duration = Duration::from_millis(10);
const PROBE_SLOWEST: Duration = Duration::from_millis(200);

/// Probes until the answer is `Some`, and returns it.
///
/// # Panics
///
/// When `within` has passed; the message is `what`, said as what should have been the case.
///
/// ```ignore
/// eventually(DEADLINE, "two workers are listed", async || {
///     (world.workers().await.len() == 2).then_some(())
/// })
/// .await;
/// ```
pub async fn eventually<T>(
    within: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> T {
    let probing = async {
        let mut pause = PROBE_FIRST;
        loop {
            if let Some(answer) = probe().await {
                return answer;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PROBE_SLOWEST);
        }
    };
    match tokio::time::timeout(within, probing).await {
        Ok(answer) => answer,
        Err(_) => panic!("not within {within:?}: {what}"),
    }
}
