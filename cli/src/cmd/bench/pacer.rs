//! Submits jobs at a rate, each at its moment, whatever became of those before.
//!
//! A submitter that waited for one job before it went on to the next would leave out just the moments
//! at which things are slow. So the moments are fixed beforehand, latencies count from them, and a
//! thread that does nothing else keeps them: the timer of the runtime knows only whole milliseconds.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long before the first moment everything must be set up.
const LEAD: Duration = Duration::from_millis(100);

/// Moments at a rate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moments {
    start: Instant,
    period: Duration,
    jobs: u64,
}

impl Moments {
    /// So many, so often a second, from in a moment on.
    pub(crate) fn new(rate: u32, jobs: u64) -> Self {
        Self {
            start: Instant::now() + LEAD,
            period: Duration::from_secs(1) / rate.max(1),
            jobs,
        }
    }

    /// The moment of a job.
    pub(crate) fn of(&self, number: u64) -> Instant {
        self.start + Duration::from_nanos(self.period.as_nanos() as u64 * number)
    }

    /// The time since a job's moment.
    pub(crate) fn since(&self, number: u64) -> Duration {
        Instant::now().saturating_duration_since(self.of(number))
    }
}

/// Submits the job of each moment until all are over or it is stopped, and waits until all are
/// submitted; says how many those were.
pub(crate) async fn pace<F, R>(
    moments: Moments,
    stop: CancellationToken,
    submit: F,
) -> anyhow::Result<u64>
where
    F: Fn(u64) -> R + Send + 'static,
    R: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let (tasks, failure) = (TaskTracker::new(), Arc::new(OnceLock::new()));
    let runtime = tokio::runtime::Handle::current();
    let spawned = tasks.clone();
    let noted = failure.clone();
    let thread = tokio::task::spawn_blocking(move || {
        for number in 0..moments.jobs {
            let wait = moments.of(number).saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                std::thread::sleep(wait);
            }
            if stop.is_cancelled() || noted.get().is_some() {
                return number;
            }
            let (submitted, failure) = (submit(number), noted.clone());
            spawned.spawn_on(
                async move {
                    if let Err(error) = submitted.await {
                        let _ = failure.set(error);
                    }
                },
                &runtime,
            );
        }
        moments.jobs
    });
    let sent = thread.await?;
    tasks.close();
    tasks.wait().await;
    match Arc::into_inner(failure).and_then(OnceLock::into_inner) {
        Some(error) => Err(error.context("a job could not be submitted")),
        None => Ok(sent),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[tokio::test]
    async fn all_are_submitted_and_a_failure_is_told() {
        let sum = Arc::new(AtomicU64::new(0));
        let moments = Moments::new(10_000, 100);
        let sent = pace(moments, CancellationToken::new(), {
            let sum = sum.clone();
            move |number| {
                sum.fetch_add(number, Ordering::Relaxed);
                std::future::ready(Ok(()))
            }
        });
        assert_eq!(sent.await.unwrap(), 100);
        assert_eq!(sum.load(Ordering::Relaxed), 4_950);
        let fails = |_| std::future::ready(Err(anyhow::anyhow!("no")));
        assert!(
            pace(moments, CancellationToken::new(), fails)
                .await
                .is_err()
        );
    }
}
