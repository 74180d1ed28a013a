//! Compares this machine's clock with the server's.
//!
//! Fires are published by this machine's clock. Nothing is lost or doubled where it is wrong, but
//! all is early or late by as much, so it is said loudly.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use repull::client::Client;
use repull::clock;
use repull::topology::Bucket;
use serde::Deserialize;
use tracing::{debug, error, info};

use crate::metrics::Metrics;

/// By how much the clocks may differ.
const BOUND: TimeDelta = TimeDelta::seconds(2);

/// An answer that took longer says too little about when it was given.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(500);

/// How often a wrong clock is told of again.
const REPEAT: Duration = Duration::from_secs(60);

/// The comparison.
pub(crate) struct ServerClock {
    client: Client,
    metrics: Metrics,
    told: Option<Instant>,
}

/// What is read of the answer.
#[derive(Debug, Deserialize)]
struct Answer {
    /// The server's time when it answered.
    ts: Option<DateTime<Utc>>,
}

impl ServerClock {
    pub(crate) fn new(client: Client, metrics: Metrics) -> Self {
        Self {
            client,
            metrics,
            told: None,
        }
    }

    /// Compares once.
    pub(crate) async fn check(&mut self) {
        let Some(offset) = self.offset().await else {
            return;
        };
        self.metrics
            .clock_offset
            .set(offset.num_milliseconds() as f64 / 1e3);
        if offset.abs() <= BOUND {
            if self.told.take().is_some() {
                info!(
                    offset_ms = offset.num_milliseconds(),
                    "this machine's clock is right again"
                );
            }
            return;
        }
        if self.told.is_none_or(|told| told.elapsed() >= REPEAT) {
            self.told = Some(Instant::now());
            let seconds = offset.num_milliseconds() as f64 / 1e3;
            error!(
                offset_seconds = seconds,
                "this machine's clock is {:.1}s {} the NATS server's, expected at most {}s: fires come {} by as much; check the time synchronisation of both",
                seconds.abs(),
                if seconds > 0.0 { "behind" } else { "ahead of" },
                BOUND.num_seconds(),
                if seconds > 0.0 { "late" } else { "early" },
            );
        }
    }

    /// The server's clock minus ours.
    async fn offset(&self) -> Option<TimeDelta> {
        let stream = Bucket::Watermark.stream(self.client.namespace());
        let (asked, asked_at) = (Instant::now(), clock::now());
        let answer: Answer = match self
            .client
            .jetstream()
            .request(format!("STREAM.INFO.{stream}"), &serde_json::json!({}))
            .await
        {
            Ok(answer) => answer,
            Err(error) => {
                debug!(%error, "the server's clock can't be asked");
                return None;
            }
        };
        let round_trip = asked.elapsed();
        if round_trip > ROUND_TRIP_MAX {
            return None;
        }
        let ours = asked_at + TimeDelta::from_std(round_trip / 2).ok()?;
        Some(answer.ts? - ours)
    }
}
