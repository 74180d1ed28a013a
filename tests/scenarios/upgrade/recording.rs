//! What a version left on its server: streams, consumers and messages, as a file and back.

use std::path::PathBuf;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer;
use async_nats::jetstream::stream;
use futures_util::TryStreamExt;
use repull::client::Client;
use repull_tests::repository;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A stream with its consumers and its messages.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Stream {
    pub(super) config: stream::Config,
    pub(super) consumers: Vec<consumer::Config>,
    pub(super) messages: Vec<Message>,
}

/// A stored message. All bodies of a recording are text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Message {
    pub(super) subject: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

/// Everything an installation has stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Recording {
    pub(super) streams: Vec<Stream>,
}

fn file(version: &str) -> PathBuf {
    repository().join(format!("tests/data/stored-{version}.json"))
}

impl Recording {
    /// The recording of a version.
    pub(super) fn of(version: &str) -> Self {
        let path = file(version);
        let text = std::fs::read_to_string(&path).expect("the recording of a version");
        serde_json::from_str(&text).expect("a recording")
    }

    /// Keeps it under a version.
    pub(super) fn keep(&self, version: &str) {
        let text = serde_json::to_string_pretty(self).expect("a recording is JSON");
        std::fs::write(file(version), text + "\n").expect("the file written");
    }

    /// Reads all of it from a server. Leases and signs of life are left out: they would be over.
    pub(super) async fn read(client: &Client) -> Self {
        let jetstream = client.jetstream();
        let mut names: Vec<String> = jetstream.stream_names().try_collect().await.unwrap();
        names.sort_unstable();
        let mut streams = Vec::new();
        for name in names {
            let stream = jetstream.get_stream(&name).await.unwrap();
            let info = stream.cached_info();
            let passing = ["KV_REPULL_LEADER", "KV_REPULL_WORKERS"].contains(&name.as_str());
            let mut messages = Vec::new();
            for sequence in info.state.first_sequence..=info.state.last_sequence {
                if passing {
                    break;
                }
                // One that was removed is none.
                if let Ok(message) = stream.get_raw_message(sequence).await {
                    messages.push(Message {
                        subject: message.subject.to_string(),
                        headers: list(&message.headers),
                        body: String::from_utf8(message.payload.to_vec()).expect("text"),
                    });
                }
            }
            let consumers: Vec<consumer::Info> = stream.consumers().try_collect().await.unwrap();
            let durable = |info: consumer::Info| {
                Some(info.config).filter(|config| config.durable_name.is_some())
            };
            streams.push(Stream {
                config: info.config.clone(),
                consumers: consumers.into_iter().filter_map(durable).collect(),
                messages,
            });
        }
        Self { streams }
    }

    /// Puts all of it on an empty server.
    pub(super) async fn replay(&self, client: &Client) {
        let jetstream = client.jetstream();
        for stream in &self.streams {
            jetstream
                .create_stream(stream.config.clone())
                .await
                .unwrap();
            for config in &stream.consumers {
                let stream = &stream.config.name;
                let name = config.durable_name.as_deref().unwrap_or_default();
                let wanted = json!({"stream_name": stream, "config": config});
                let made: Value = jetstream
                    .request(format!("CONSUMER.DURABLE.CREATE.{stream}.{name}"), &wanted)
                    .await
                    .unwrap();
                assert!(made.get("error").is_none(), "{made}");
            }
            for message in &stream.messages {
                let mut headers = HeaderMap::new();
                for (name, value) in &message.headers {
                    headers.append(name.as_str(), value.as_str());
                }
                let (subject, body) = (message.subject.clone(), message.body.clone());
                let publish = jetstream.publish_with_headers(subject, headers, body.into());
                publish.await.unwrap().await.unwrap();
            }
        }
    }

    /// The messages of streams whose name ends so.
    pub(super) fn messages_mut(&mut self, stream: &str) -> impl Iterator<Item = &mut Message> {
        let streams = self.streams.iter_mut();
        streams
            .filter(move |it| it.config.name.ends_with(stream))
            .flat_map(|it| &mut it.messages)
    }
}

/// The headers but those that were instructions to the server.
fn list(headers: &HeaderMap) -> Vec<(String, String)> {
    let pairs = headers.iter().flat_map(|(name, values)| {
        let name: &str = name.as_ref();
        values
            .iter()
            .map(move |value| (name.to_owned(), value.as_str().to_owned()))
    });
    pairs
        .filter(|(name, _)| !name.starts_with("Nats-Expected") && name != "Nats-Msg-Id")
        .collect()
}
