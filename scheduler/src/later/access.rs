//! How one later message is read and removed: the requests, and what their answers say.
//!
//! A message that a stream with replicas still shows in one of them may have been cancelled, so it is
//! read from the stream's leader, which answers through the server's JetStream API, in JSON and
//! base64. A stream of one replica is read directly, which costs the server less than half: the
//! replica that answers is the leader. Two more may answer by the same subject: a replica that was
//! added since we looked, and a mirror of the stream, which keeps what the stream itself no longer
//! has. A mirror's answer is known by its name, and that something is absent is believed only of
//! the leader.

use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::Info;
use bytes::Bytes;
use repull::client::{Client, StoredAnswer};
use repull::wire::Place;
use serde::Deserialize;

/// The stream of later jobs, for single messages.
#[derive(Debug)]
pub(crate) struct Access {
    stream: String,
    direct_subject: String,
    leader_subject: String,
    removal_subject: String,
    /// Whether the stream's only replica answers direct reads.
    is_single: AtomicBool,
}

/// What the answer to a read says.
#[derive(Debug)]
pub(crate) enum Read {
    /// The message.
    Found(Box<StreamMessage>),
    /// It is not there any more.
    Absent,
    /// The leader must be asked: another than the leader answered, or nobody.
    AskLeader,
    /// The leader said something else.
    Failed(String),
}

/// The server's answer to a removal.
#[derive(Deserialize)]
struct Removal {
    #[serde(default)]
    success: bool,
}

impl Access {
    pub(crate) fn new(client: &Client) -> Self {
        let stream = Place::Later.stream(client.namespace());
        Self::of(stream, client.connection().api_prefix())
    }

    fn of(stream: String, api: &str) -> Self {
        Self {
            direct_subject: format!("{api}.DIRECT.GET.{stream}"),
            leader_subject: format!("{api}.STREAM.MSG.GET.{stream}"),
            removal_subject: format!("{api}.STREAM.MSG.DELETE.{stream}"),
            is_single: AtomicBool::new(false),
            stream,
        }
    }

    /// Notes how the stream is laid out.
    pub(crate) fn look(&self, info: &Info) {
        let is_single = info.config.num_replicas <= 1 && info.config.allow_direct;
        self.is_single.store(is_single, Ordering::Relaxed);
    }

    /// The request for a message: subject and body. `of_leader`: of nobody else.
    pub(crate) fn read(&self, sequence: u64, of_leader: bool) -> (String, Bytes) {
        let subject = match self.is_single.load(Ordering::Relaxed) && !of_leader {
            true => &self.direct_subject,
            false => &self.leader_subject,
        };
        let body = format!(r#"{{"seq":{sequence}}}"#);
        (subject.clone(), body.into())
    }

    /// What the answer to [`Access::read`] says.
    pub(crate) fn read_answer(&self, answer: async_nats::Message) -> Read {
        if answer.status.is_some() {
            return Read::AskLeader;
        }
        let Some(headers) = &answer.headers else {
            return leader_answer(&answer.payload);
        };
        // Last of its name: the message itself may have come out of another stream before.
        let stream = headers.get_last(async_nats::header::NATS_STREAM);
        if stream.map(|name| name.as_str()) != Some(self.stream.as_str()) {
            return Read::AskLeader;
        }
        match StreamMessage::try_from(answer) {
            Ok(message) => Read::Found(Box::new(message)),
            Err(_) => Read::AskLeader,
        }
    }

    /// The request to remove a message: subject and body.
    ///
    /// Without overwriting it on disk first, which the server does unless told otherwise and which
    /// is many times slower; what a worker acks is not overwritten either.
    pub(crate) fn remove(&self, sequence: u64) -> (String, Bytes) {
        let body = format!(r#"{{"seq":{sequence},"no_erase":true}}"#);
        (self.removal_subject.clone(), body.into())
    }

    /// Whether the answer to [`Access::remove`] says that it was removed.
    pub(crate) fn is_removed(answer: &async_nats::Message) -> bool {
        answer.status.is_none()
            && serde_json::from_slice::<Removal>(&answer.payload)
                .is_ok_and(|removal| removal.success)
    }
}

fn leader_answer(body: &[u8]) -> Read {
    let message = match serde_json::from_slice::<Response<StoredAnswer>>(body) {
        Ok(Response::Ok(answer)) => answer.message.read(),
        Ok(Response::Err { error }) if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => {
            return Read::Absent;
        }
        Ok(Response::Err { error }) => return Read::Failed(error.to_string()),
        Err(error) => return Read::Failed(format!("an answer that can't be read: {error}")),
    };
    match message {
        Ok(message) => Read::Found(Box::new(message)),
        Err(error) => Read::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_nats::{HeaderMap, Message, StatusCode};

    fn access() -> Access {
        Access::of("REPULL_LATER".to_owned(), "$JS.hub.API")
    }

    fn answer(headers: Option<HeaderMap>, payload: &'static str) -> Message {
        Message {
            subject: "_INBOX.x".into(),
            reply: None,
            payload: payload.into(),
            headers,
            status: None,
            description: None,
            length: payload.len(),
        }
    }

    fn direct(streams: &[&str]) -> Message {
        let mut headers = HeaderMap::new();
        for stream in streams {
            headers.append("Nats-Stream", *stream);
        }
        headers.insert("Nats-Subject", "repull.later.default.t.j");
        headers.insert("Nats-Sequence", "7");
        headers.insert("Nats-Time-Stamp", "2026-11-23T10:00:00.5Z");
        answer(Some(headers), "{}")
    }

    #[test]
    fn requests_name_the_domain_and_the_leader_where_others_could_answer() {
        let access = access();
        let subject = |of_leader| access.read(7, of_leader).0;
        assert_eq!(subject(false), "$JS.hub.API.STREAM.MSG.GET.REPULL_LATER");
        access.is_single.store(true, Ordering::Relaxed);
        assert_eq!(subject(false), "$JS.hub.API.DIRECT.GET.REPULL_LATER");
        assert_eq!(subject(true), "$JS.hub.API.STREAM.MSG.GET.REPULL_LATER");
        assert_eq!(access.read(7, true).1, r#"{"seq":7}"#);
        let (subject, body) = access.remove(7);
        assert_eq!(subject, "$JS.hub.API.STREAM.MSG.DELETE.REPULL_LATER");
        assert_eq!(body, r#"{"seq":7,"no_erase":true}"#);
    }

    #[test]
    fn a_direct_answer_is_believed_of_the_stream_itself_and_of_nobody_else() {
        let access = access();
        let Read::Found(found) = access.read_answer(direct(&["OTHER", "REPULL_LATER"])) else {
            panic!("not found");
        };
        assert_eq!(found.sequence, 7);
        assert_eq!(found.subject.as_str(), "repull.later.default.t.j");
        let mirrors = access.read_answer(direct(&["REPULL_LATER", "COPY"]));
        assert!(matches!(mirrors, Read::AskLeader), "{mirrors:?}");
        for status in [StatusCode::NOT_FOUND, StatusCode::NO_RESPONDERS] {
            let mut absent = answer(None, "");
            absent.status = Some(status);
            let read = access.read_answer(absent);
            assert!(matches!(read, Read::AskLeader), "{read:?}");
        }
    }

    #[test]
    fn the_leader_tells_what_is_absent_from_what_went_wrong() {
        let access = access();
        let read = |body| access.read_answer(answer(None, body));
        let found = read(
            r#"{"type":"x","message":{"subject":"repull.later.q.t.j","seq":7,"hdrs":"TkFUUy8xLjANCk46IDENCg0K","data":"e30=","time":"2026-11-23T10:00:00Z"}}"#,
        );
        let Read::Found(found) = found else {
            panic!("{found:?}");
        };
        assert_eq!((found.sequence, found.payload.as_ref()), (7, &b"{}"[..]));
        assert_eq!(
            found.headers.get("N").map(|value| value.as_str()),
            Some("1")
        );
        let absent =
            read(r#"{"error":{"code":404,"err_code":10037,"description":"no message found"}}"#);
        assert!(matches!(absent, Read::Absent), "{absent:?}");
        let failed = read(r#"{"error":{"code":503,"err_code":10008,"description":"not ready"}}"#);
        assert!(matches!(failed, Read::Failed(_)), "{failed:?}");
        assert!(matches!(read("nonsense"), Read::Failed(_)));
    }

    #[test]
    fn a_removal_is_done_where_the_server_says_so() {
        let removed = |body| Access::is_removed(&answer(None, body));
        assert!(removed(r#"{"type":"x","success":true}"#));
        assert!(!removed(
            r#"{"error":{"code":404,"err_code":10057},"success":false}"#
        ));
        assert!(!removed(""));
    }
}
