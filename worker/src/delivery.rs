//! One delivery of a job: what its ack subject says.
//!
//! `$JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<timestamp>.<pending>`,
//! and in the longer form two tokens (domain and account) before the stream and any number after
//! (nats-architecture-and-design, ADR-15).

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use memchr::{memchr_iter, memrchr};

/// A job as it came from the server, not looked into yet.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    /// The job's subject.
    pub(crate) subject: Subject,
    /// Its headers.
    pub(crate) headers: Option<HeaderMap>,
    /// Its body.
    pub(crate) body: Bytes,
    /// Where acks for this delivery go.
    pub(crate) ack: Subject,
    /// What the ack subject says.
    pub(crate) info: DeliveryInfo,
}

impl Delivery {
    /// The task's part of the subject, unchecked: what stands between the lane and the id.
    pub(crate) fn task_text(&self) -> &str {
        let subject = self.subject.as_str();
        let lane_end = memchr_iter(b'.', subject.as_bytes()).nth(2);
        let id_dot = memrchr(b'.', subject.as_bytes());
        let (Some(lane_end), Some(id_dot)) = (lane_end, id_dot) else {
            return "";
        };
        subject.get(lane_end + 1..id_dot).unwrap_or_default()
    }
}

/// The numbers in an ack subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeliveryInfo {
    /// How often the message has been delivered, this time included.
    pub(crate) deliveries: u32,
    /// Its sequence in the stream.
    pub(crate) sequence: u64,
    /// When it was stored, in nanoseconds since the Unix epoch, by the server's clock.
    pub(crate) stored_at_ns: i64,
    /// Messages of the consumer that have not been delivered.
    pub(crate) pending: u64,
}

impl DeliveryInfo {
    /// Reads an ack subject; returns the consumer's name too.
    pub(crate) fn parse(ack: &str) -> Option<(&str, Self)> {
        let tokens = ack.strip_prefix("$JS.ACK.")?;
        // Where the first nine end.
        let mut ends = [tokens.len(); 9];
        let mut count = 1;
        for at in memchr_iter(b'.', tokens.as_bytes()) {
            if let Some(end) = ends.get_mut(count - 1) {
                *end = at;
            }
            count += 1;
        }
        // Without the two prefix tokens there are exactly seven.
        let first = match count {
            7 => 0,
            9.. => 2,
            _ => return None,
        };
        let token = |nth: usize| {
            let nth = first + nth;
            let start = nth.checked_sub(1).map_or(0, |before| ends[before] + 1);
            tokens.get(start..ends[nth])
        };
        let info = Self {
            deliveries: token(2)?.parse().ok()?,
            sequence: token(3)?.parse().ok()?,
            stored_at_ns: token(5)?.parse().ok()?,
            pending: token(6)?.parse().ok()?,
        };
        Some((token(1)?, info))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_is_what_stands_between_lane_and_id() {
        let task = |subject: &str| {
            let info = DeliveryInfo {
                deliveries: 1,
                sequence: 1,
                stored_at_ns: 0,
                pending: 0,
            };
            let delivery = Delivery {
                subject: subject.into(),
                headers: None,
                body: Bytes::new(),
                ack: "a".into(),
                info,
            };
            delivery.task_text().to_owned()
        };
        assert_eq!(task("repull.jobs.default.mail.send.7"), "mail.send");
        assert_eq!(task("repull.jobs.default~high.echo.7"), "echo");
        assert_eq!(task("repull.jobs.default"), "");
    }

    #[test]
    fn both_forms_of_ack_subjects_are_read() {
        let expected = DeliveryInfo {
            deliveries: 2,
            sequence: 31,
            stored_at_ns: 1_700,
            pending: 9,
        };
        for ack in [
            "$JS.ACK.REPULL_JOBS.default.2.31.7.1700.9",
            "$JS.ACK._.ACCHASH.REPULL_JOBS.default.2.31.7.1700.9",
            "$JS.ACK.hub.ACCHASH.REPULL_JOBS.default.2.31.7.1700.9.random",
        ] {
            assert_eq!(
                DeliveryInfo::parse(ack),
                Some(("default", expected)),
                "{ack}"
            );
        }
    }

    #[test]
    fn what_is_no_ack_subject_is_refused() {
        for bad in [
            "",
            "_INBOX.x",
            "$JS.ACK.a.b.c",
            "$JS.ACK.s.c.x.1.1.1.1",
            "$JS.ACK.s.c.1.1.1.1",
        ] {
            assert_eq!(DeliveryInfo::parse(bad), None, "{bad}");
        }
    }
}
