//! What the server says about a pull: its status messages as the engine's words.
//!
//! The codes and texts are nats-server's (`server/consumer.go`); the texts are matched without
//! regard to case and by their stable part. A status that is not known ends its pull, so that no
//! future server can leave one open for ever.

use async_nats::{HeaderMap, Message};

use crate::engine::{NeverStarted, Status};

/// Reads a status message.
pub(crate) fn read(message: &Message) -> Status {
    let code = message.status.map_or(0, |status| status.as_u16());
    let text = message.description.as_deref().unwrap_or_default();
    classify(code, text, message.headers.as_ref())
}

fn classify(code: u16, text: &str, headers: Option<&HeaderMap>) -> Status {
    let says = |part: &str| text.to_ascii_lowercase().contains(part);
    match code {
        100 => Status::Heartbeat,
        404 => Status::Expired {
            unfilled: unfilled(headers),
        },
        408 => Status::Expired {
            unfilled: unfilled(headers),
        },
        503 => Status::NeverStarted(NeverStarted::NoResponders),
        409 if says("maxwaiting") => Status::NeverStarted(NeverStarted::WaitingFull),
        409 if says("leadership change") || says("consumer deleted") || says("server shutdown") => {
            Status::Terminal
        }
        409 if says("batch completed") || says("message size exceeds") => Status::Expired {
            unfilled: unfilled(headers),
        },
        409 if says("exceeded max") || says("push based") => Status::Refused,
        400 => Status::Refused,
        423 => Status::Terminal,
        _ => Status::Unknown,
    }
}

/// The units of a batch that stay unfilled, where the server says so.
fn unfilled(headers: Option<&HeaderMap>) -> Option<u32> {
    headers?
        .get_last("Nats-Pending-Messages")?
        .as_str()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_the_protocol_is_known() {
        let mut pending = HeaderMap::new();
        pending.insert("Nats-Pending-Messages", "3");
        let cases = [
            (100, "Idle Heartbeat", Status::Heartbeat),
            (404, "No Messages", Status::Expired { unfilled: Some(3) }),
            (
                408,
                "Request Timeout",
                Status::Expired { unfilled: Some(3) },
            ),
            (
                408,
                "Requests Pending",
                Status::Expired { unfilled: Some(3) },
            ),
            (
                409,
                "Exceeded MaxWaiting",
                Status::NeverStarted(NeverStarted::WaitingFull),
            ),
            (409, "Exceeded MaxRequestBatch of 5", Status::Refused),
            (409, "Exceeded MaxRequestExpires of 5s", Status::Refused),
            (
                409,
                "Message Size Exceeds MaxBytes",
                Status::Expired { unfilled: Some(3) },
            ),
            (
                409,
                "Batch Completed",
                Status::Expired { unfilled: Some(3) },
            ),
            (409, "Leadership Change", Status::Terminal),
            (409, "Consumer Deleted", Status::Terminal),
            (409, "Consumer is push based", Status::Refused),
            (400, "Bad Request", Status::Refused),
            (423, "Nats-Pin-Id mismatch", Status::Terminal),
            (503, "", Status::NeverStarted(NeverStarted::NoResponders)),
            (409, "Something New", Status::Unknown),
            (499, "", Status::Unknown),
        ];
        for (code, text, expected) in cases {
            assert_eq!(
                classify(code, text, Some(&pending)),
                expected,
                "{code} {text}"
            );
        }
    }
}
