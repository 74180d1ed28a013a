//! Publishing to a stream, confirmed.
//!
//! A publish is repeated under the same `Nats-Msg-Id` until the stream says that it is stored or
//! that it refuses it. Some answers leave open which of the two holds (a timeout, no responders,
//! "in process", and on some servers a wrong last sequence that our own first try caused): those
//! are settled by the caller who knows what the subject must hold.

use std::time::{Duration, Instant};

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use serde::Deserialize;

use super::Client;
use crate::wire::Place;

/// For how long an unconfirmed publish is repeated.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long one try may take.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);

// Error codes of the JetStream API (nats-server `server/errors.json`).
const WRONG_LAST_SEQUENCE: u64 = 10071;
const STREAM_LIMIT: u64 = 10077;
/// Of the server's or the account's storage, disk or memory.
const STORAGE_LIMITS: [u64; 3] = [10023, 10028, 10047];
const MESSAGE_TOO_LARGE: u64 = 10054;
const ID_IN_PROCESS: u64 = 10158;
const EXPECTED_IN_PROCESS: u64 = 10164;
const TOO_MANY_REQUESTS: u64 = 10167;

/// What "no responders" means here.
const NOBODY: &str = "no stream takes this subject, or its leader is being elected";

/// For how long nobody may answer before the stream itself is looked for. A leader is elected in
/// less.
const UNANSWERED: Duration = Duration::from_secs(2);

/// What the subject must hold for the publish to be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Anything.
    Anything,
    /// Nothing.
    Nothing,
    /// This stream sequence as its last message.
    Last(u64),
}

/// A message to publish.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its subject.
    pub subject: String,
    /// Its headers, without those of the server's that this module adds.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Its `Nats-Msg-Id`: the stream stores it once, however often it is published.
    pub id: String,
    /// What the subject must hold.
    pub expect: Expect,
}

impl Message {
    /// All headers, with the server's.
    pub fn wire_headers(&self) -> HeaderMap {
        self.with_servers(self.headers.clone())
    }

    /// The same, taken out of the message: for who sends it once and forgets it.
    pub fn take_wire_headers(&mut self) -> HeaderMap {
        let headers = std::mem::take(&mut self.headers);
        self.with_servers(headers)
    }

    fn with_servers(&self, mut headers: HeaderMap) -> HeaderMap {
        headers.insert(async_nats::header::NATS_MESSAGE_ID, self.id.as_str());
        let expected = match self.expect {
            Expect::Anything => return headers,
            Expect::Nothing => 0,
            Expect::Last(sequence) => sequence,
        };
        headers.insert(
            async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
            expected.to_string(),
        );
        headers
    }
}

/// What became of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// It is stored.
    Stored {
        /// The stream sequence; 0 where the server did not say (a duplicate in flight).
        sequence: u64,
        /// The stream had it from an earlier try.
        duplicate: bool,
    },
    /// The subject does not hold what was expected.
    Unexpected {
        /// Whether an earlier try of ours had no clear answer, so that it may be the cause.
        ambiguous: bool,
    },
}

/// Why a publish is not known to be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The stream is at a limit and refuses rather than forgets.
    #[error("stream of `{subject}` is full: {reason}")]
    Full {
        /// The subject.
        subject: String,
        /// What the server said.
        reason: String,
    },
    /// The message is larger than the server or the stream takes.
    #[error("message for `{subject}` has {bytes} bytes, expected at most {max}")]
    TooLarge {
        /// The subject.
        subject: String,
        /// Its size with headers.
        bytes: usize,
        /// The limit.
        max: String,
    },
    /// The server refused it for another reason.
    #[error("publish to `{subject}` was refused: {reason} (error {code})")]
    Refused {
        /// The subject.
        subject: String,
        /// The error code of the JetStream API.
        code: u64,
        /// What the server said.
        reason: String,
    },
    /// A job of the same id is there, and the submit said to fail then.
    #[error("`{subject}` holds a job already, and nothing was enqueued")]
    Taken {
        /// The subject.
        subject: String,
    },
    /// Nobody takes the message, and the server says that its stream does not exist.
    #[error("no stream takes this subject, `{subject}`: stream `{stream}` does not exist")]
    NoStream {
        /// The subject.
        subject: String,
        /// The stream that should be there.
        stream: String,
    },
    /// No clear answer came in all the time we tried; it may be stored or not.
    #[error("no confirmation for `{subject}` within {waited:?}: {reason}")]
    Unconfirmed {
        /// The subject.
        subject: String,
        /// How long we tried.
        waited: Duration,
        /// The last answer, or its absence.
        reason: String,
    },
    /// Nothing was published: what the submit asks about a job that is there was not answered.
    #[error("can't tell whether another job holds `{subject}`: {reason}")]
    Unseen {
        /// The subject.
        subject: String,
        /// What the server said, or its silence.
        reason: String,
    },
    /// It is stored in the place of another job, which may be there still.
    #[error("the job that `{subject}` replaces may run too, or lacks its outcome: {reason}")]
    HalfReplaced {
        /// The subject.
        subject: String,
        /// What the server said, or its silence.
        reason: String,
    },
}

impl PublishError {
    /// What became of the job.
    pub(super) fn fate(&self) -> &'static str {
        match self {
            Self::HalfReplaced { .. } => "was enqueued",
            Self::Unconfirmed { .. } => "may be enqueued or not",
            _ => "was not enqueued",
        }
    }
}

/// A stream's answer to one try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The stream has it.
    Stored {
        /// The stream sequence; 0 where the server did not say (a duplicate in flight).
        sequence: u64,
        /// The stream had it from an earlier try.
        duplicate: bool,
    },
    /// The subject does not hold what was expected.
    WrongLast,
    /// It may be stored or not: to be tried again under the same id.
    Again {
        /// What the server said.
        reason: String,
    },
    /// It is not stored and never will be.
    Final(PublishError),
}

#[derive(Deserialize)]
struct PublishAnswer {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// Reads a stream's answer to a publish.
pub fn read_answer(subject: &str, status: Option<StatusCode>, body: &[u8]) -> Answer {
    if status == Some(StatusCode::NO_RESPONDERS) {
        return Answer::Again {
            reason: NOBODY.to_owned(),
        };
    }
    let Ok(answer) = serde_json::from_slice::<PublishAnswer>(body) else {
        return Answer::Again {
            reason: format!("an answer of {} bytes that is not a stream's", body.len()),
        };
    };
    let Some(error) = answer.error else {
        return Answer::Stored {
            sequence: answer.seq,
            duplicate: answer.duplicate,
        };
    };
    let subject = subject.to_owned();
    match error.err_code {
        WRONG_LAST_SEQUENCE => Answer::WrongLast,
        STREAM_LIMIT => Answer::Final(PublishError::Full {
            subject,
            reason: error.description,
        }),
        code if STORAGE_LIMITS.contains(&code) => Answer::Final(PublishError::Full {
            subject,
            reason: format!(
                "{}, the storage of the server or the account is used up (error {code})",
                error.description
            ),
        }),
        MESSAGE_TOO_LARGE => Answer::Final(PublishError::TooLarge {
            subject,
            bytes: 0,
            max: "the stream's max_msg_size".to_owned(),
        }),
        // A file store that is out of space, an overloaded stream, a leader that is not ready.
        ID_IN_PROCESS | EXPECTED_IN_PROCESS | TOO_MANY_REQUESTS => Answer::Again {
            reason: error.description,
        },
        code if is_transient(&error.description) => Answer::Again {
            reason: format!("{} (error {code})", error.description),
        },
        code => Answer::Final(PublishError::Refused {
            subject,
            code,
            reason: error.description,
        }),
    }
}

fn is_transient(description: &str) -> bool {
    [
        "unavailable",
        "not leader",
        "no suitable",
        "shutdown",
        "temporarily",
    ]
    .iter()
    .any(|word| description.contains(word))
}

impl Client {
    /// Publishes and waits until the stream has stored or refused it.
    pub async fn publish(&self, message: &Message) -> Result<Published, PublishError> {
        #[cfg(feature = "test")]
        if let Some(memory) = self.memory() {
            return memory.publish(message);
        }
        let headers = message.wire_headers();
        self.check_size(&message.subject, &headers, message.body.len())?;
        let mut headers = Some(headers);
        let started = Instant::now();
        let mut ambiguous = false;
        let mut pause = Duration::from_millis(20);
        loop {
            let headers = headers.take().unwrap_or_else(|| message.wire_headers());
            let reason = match self.try_publish(message, headers).await {
                Answer::Stored {
                    sequence,
                    duplicate,
                } => {
                    return Ok(Published::Stored {
                        sequence,
                        duplicate,
                    });
                }
                Answer::WrongLast => return Ok(Published::Unexpected { ambiguous }),
                Answer::Final(error) => return Err(error),
                Answer::Again { reason } => reason,
            };
            ambiguous = true;
            let waited = started.elapsed();
            // A refused permission never gets better; the refusal is the answer that never came.
            if waited >= PATIENCE
                || self
                    .connection()
                    .refusal()
                    .is_some_and(|text| text.contains("ermission"))
            {
                let reason = self.connection().refusal().unwrap_or(reason);
                return Err(PublishError::Unconfirmed {
                    subject: message.subject.clone(),
                    waited,
                    reason,
                });
            }
            if waited >= UNANSWERED
                && reason == NOBODY
                && let Some(stream) = Box::pin(self.absent_stream(&message.subject)).await
            {
                return Err(PublishError::NoStream {
                    subject: message.subject.clone(),
                    stream,
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// The stream that should take this subject, where the server says that there is none such. A
    /// server that can't say so, for want of a leader or of permission, is given the benefit of
    /// the doubt.
    async fn absent_stream(&self, subject: &str) -> Option<String> {
        let place = subject
            .strip_prefix(self.namespace().as_str())?
            .strip_prefix('.')?
            .split('.')
            .next()?;
        let place = Place::ALL.into_iter().find(|each| each.token() == place)?;
        let stream = place.stream(self.namespace());
        let error = self.jetstream().get_stream(&stream).await.err()?;
        let GetStreamErrorKind::JetStream(error) = error.kind() else {
            return None;
        };
        (error.error_code() == ErrorCode::STREAM_NOT_FOUND).then_some(stream)
    }

    async fn try_publish(&self, message: &Message, headers: HeaderMap) -> Answer {
        let request = Request::new()
            .headers(headers)
            .payload(message.body.clone())
            .timeout(Some(TRY_TIMEOUT));
        match self
            .nats()
            .send_request(message.subject.clone(), request)
            .await
        {
            Ok(answer) => read_answer(&message.subject, answer.status, &answer.payload),
            Err(error) => match error.kind() {
                async_nats::RequestErrorKind::NoResponders => {
                    read_answer(&message.subject, Some(StatusCode::NO_RESPONDERS), &[])
                }
                async_nats::RequestErrorKind::TimedOut => Answer::Again {
                    reason: format!("no answer within {TRY_TIMEOUT:?}"),
                },
                async_nats::RequestErrorKind::InvalidSubject => {
                    Answer::Final(PublishError::Refused {
                        subject: message.subject.clone(),
                        code: 0,
                        reason: "it is not a subject".to_owned(),
                    })
                }
                _ => Answer::Again {
                    reason: error.to_string(),
                },
            },
        }
    }

    /// Whether the server takes a message of this size; said before anything is sent, because a
    /// server closes the connection over a message that is too large.
    pub fn check_message(&self, message: &Message) -> Result<(), PublishError> {
        let own = message.id.len() + 96; // Nats-Msg-Id and Nats-Expected-Last-Subject-Sequence
        let size = message.body.len() + own;
        self.check_size(&message.subject, &message.headers, size)
    }

    fn check_size(
        &self,
        subject: &str,
        headers: &HeaderMap,
        body: usize,
    ) -> Result<(), PublishError> {
        let headers: usize = headers
            .iter()
            .flat_map(|(name, values)| {
                values
                    .iter()
                    .map(move |value| AsRef::<str>::as_ref(name).len() + value.as_str().len() + 4)
            })
            .sum();
        let (bytes, max) = (body + headers + 12, self.nats().max_payload());
        if bytes > max {
            return Err(PublishError::TooLarge {
                subject: subject.to_owned(),
                bytes,
                max: format!("{max} (the server's max_payload)"),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_leave_it_open_are_tried_again() {
        for code in [ID_IN_PROCESS, EXPECTED_IN_PROCESS, TOO_MANY_REQUESTS] {
            let body = format!(r#"{{"error":{{"code":400,"err_code":{code},"description":"x"}}}}"#);
            assert!(
                matches!(
                    read_answer("s", None, body.as_bytes()),
                    Answer::Again { .. }
                ),
                "{code}"
            );
        }
        assert!(matches!(
            read_answer("s", Some(StatusCode::NO_RESPONDERS), b""),
            Answer::Again { .. }
        ));
        assert!(matches!(
            read_answer("s", None, b"garbage"),
            Answer::Again { .. }
        ));
    }

    #[test]
    fn clear_answers_are_taken() {
        let stored = br#"{"stream":"REPULL_JOBS","seq":7,"duplicate":true}"#;
        assert!(matches!(
            read_answer("s", None, stored),
            Answer::Stored {
                sequence: 7,
                duplicate: true
            }
        ));
        let wrong =
            br#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 3"}}"#;
        assert!(matches!(read_answer("s", None, wrong), Answer::WrongLast));
        let full =
            br#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"}}"#;
        let no_disk =
            br#"{"error":{"code":503,"err_code":10023,"description":"insufficient resources"}}"#;
        for full in [&full[..], &no_disk[..]] {
            assert!(matches!(
                read_answer("s", None, full),
                Answer::Final(PublishError::Full { .. })
            ));
        }
    }
}
