//! A collector of OpenTelemetry spans inside the test: OTLP over HTTP, as much of it as a test needs.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use repull_tests::{DEADLINE, eventually};
use tokio::net::TcpListener;

/// A span as it came, without what no test asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Span {
    pub(super) service: String,
    pub(super) name: String,
    pub(super) kind: u64,
    pub(super) trace: String,
    pub(super) id: String,
    pub(super) parent: String,
    /// The trace and the span of each link.
    pub(super) links: Vec<(String, String)>,
    pub(super) attributes: Vec<(String, String)>,
    /// 2 where it ended with an error.
    pub(super) status: u64,
}

impl Span {
    pub(super) fn attribute(&self, name: &str) -> &str {
        let found = self.attributes.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }

    /// Whether it is linked to `other`.
    pub(super) fn follows(&self, other: &Span) -> bool {
        self.links
            .contains(&(other.trace.clone(), other.id.clone()))
    }
}

type Spans = Arc<Mutex<Vec<Span>>>;

/// The collector; it listens until the test's runtime ends.
pub(super) struct Collector {
    pub(super) endpoint: String,
    spans: Spans,
}

impl Collector {
    pub(super) async fn start() -> Self {
        let spans = Spans::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
        let app = Router::new()
            .route("/v1/traces", post(receive))
            .with_state(spans.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { endpoint, spans }
    }

    /// One that nobody answers for.
    pub(super) fn away() -> Self {
        Self {
            endpoint: "http://127.0.0.1:9".to_owned(),
            spans: Spans::default(),
        }
    }

    pub(super) fn spans(&self) -> Vec<Span> {
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        spans.clone()
    }

    /// Waits for as many spans of that name, and gives them in order of their arrival.
    pub(super) async fn named(&self, name: &str, count: usize) -> Vec<Span> {
        eventually(
            DEADLINE,
            &format!("{count} spans `{name}` arrive"),
            async || {
                let mut spans = self.spans();
                spans.retain(|span| span.name == name);
                (spans.len() >= count).then_some(spans)
            },
        )
        .await
    }
}

async fn receive(State(spans): State<Spans>, body: Bytes) {
    let mut found = Vec::new();
    for resource_spans in messages(&body, 1) {
        let resource = messages(resource_spans, 1).next().unwrap_or_default();
        let service = attributes(resource, 1)
            .into_iter()
            .find(|(key, _)| key == "service.name");
        for scope_spans in messages(resource_spans, 2) {
            for span in messages(scope_spans, 2) {
                found.push(Span {
                    service: service.clone().unwrap_or_default().1,
                    ..read_span(span)
                });
            }
        }
    }
    spans
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .extend(found);
}

/// `opentelemetry.proto.trace.v1.Span`.
fn read_span(span: &[u8]) -> Span {
    let hex = |number| -> String {
        let bytes = messages(span, number).next().unwrap_or_default();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let ids = |link: &[u8], number| -> String {
        let bytes = messages(link, number).next().unwrap_or_default();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let status = messages(span, 15).next().unwrap_or_default();
    Span {
        service: String::new(),
        name: text(messages(span, 5).next().unwrap_or_default()),
        kind: number(span, 6),
        trace: hex(1),
        id: hex(2),
        parent: hex(4),
        links: messages(span, 13)
            .map(|link| (ids(link, 1), ids(link, 2)))
            .collect(),
        attributes: attributes(span, 9),
        status: number(status, 3),
    }
}

/// The `KeyValue`s of a field; of values, texts and whole numbers.
fn attributes(message: &[u8], field: u64) -> Vec<(String, String)> {
    messages(message, field)
        .map(|pair| {
            let value = messages(pair, 2).next().unwrap_or_default();
            let words = messages(value, 1).next().map(text);
            let key = text(messages(pair, 1).next().unwrap_or_default());
            (key, words.unwrap_or_else(|| number(value, 3).to_string()))
        })
        .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The length-delimited fields of that number in a protobuf message.
fn messages(message: &[u8], field: u64) -> impl Iterator<Item = &[u8]> {
    fields(message).filter_map(move |(number, value)| match value {
        Value::Bytes(bytes) if number == field => Some(bytes),
        _ => None,
    })
}

/// The last varint field of that number, 0 where there is none.
fn number(message: &[u8], field: u64) -> u64 {
    let found = fields(message).filter_map(|(number, value)| match value {
        Value::Number(value) if number == field => Some(value),
        _ => None,
    });
    found.last().unwrap_or(0)
}

enum Value<'m> {
    Number(u64),
    Bytes(&'m [u8]),
    Fixed,
}

/// The fields of a protobuf message (wire types 0, 1, 2 and 5).
fn fields(mut rest: &[u8]) -> impl Iterator<Item = (u64, Value<'_>)> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let key = varint(&mut rest);
        let value = match key & 7 {
            0 => Value::Number(varint(&mut rest)),
            2 => {
                let length = usize::try_from(varint(&mut rest)).expect("a length");
                Value::Bytes(rest.split_off(..length).expect("a whole field"))
            }
            kind @ (1 | 5) => {
                let length = if kind == 1 { 8 } else { 4 };
                rest.split_off(..length).expect("a whole number");
                Value::Fixed
            }
            kind => panic!("wire type {kind}"),
        };
        Some((key >> 3, value))
    })
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *rest.split_off_first().expect("another byte");
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}
