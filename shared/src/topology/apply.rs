//! Creating what is absent and comparing what is there.

use std::fmt::{self, Debug};

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::context::{GetStreamErrorKind, KeyValueErrorKind};
use async_nats::jetstream::stream::Config as StreamConfig;
use async_nats::jetstream::{ErrorCode, kv};

use super::table::Topology;
use crate::connect::Connection;
use crate::id::Lane;
use crate::wire::Place;

/// One setting that is not what Repull needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The stream, bucket or consumer.
    pub asset: String,
    /// The setting.
    pub setting: &'static str,
    /// What the server has.
    pub found: String,
    /// What Repull needs.
    pub expected: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            asset,
            setting,
            found,
            expected,
        } = self;
        write!(f, "`{asset}` has {setting} {found}, expected {expected}")
    }
}

/// Why the topology can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// Something exists with settings that Repull can't work with.
    #[error("{}; change it with `nats stream edit`, or name another namespace", list(.0))]
    Different(Vec<Difference>),
    /// The server could not be asked or would not create.
    #[error("can't {action} `{asset}`: {reason}")]
    Server {
        /// What was tried.
        action: &'static str,
        /// On what.
        asset: String,
        /// What the server or the client said.
        reason: String,
    },
}

fn list(differences: &[Difference]) -> String {
    differences
        .iter()
        .map(Difference::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

impl Topology {
    /// Creates what is absent, and fails with every difference where something else is there.
    pub async fn ensure(&self, connection: &Connection) -> Result<(), TopologyError> {
        let mut differences = Vec::new();
        for stream in self.streams() {
            differences.extend(ensure_stream(connection, stream).await?);
        }
        for bucket in self.buckets() {
            differences.extend(ensure_bucket(connection, bucket).await?);
        }
        if !differences.is_empty() {
            return Err(TopologyError::Different(differences));
        }
        self.ensure_pin(connection).await;
        Ok(())
    }

    /// Compares without creating; what is absent is a difference.
    pub async fn check(&self, connection: &Connection) -> Result<Vec<Difference>, TopologyError> {
        let mut differences = Vec::new();
        for stream in self.streams() {
            match find_stream(connection, &stream.name).await? {
                Some(found) => differences.extend(compare_stream(&found, &stream)),
                None => differences.push(absent(stream.name)),
            }
        }
        for bucket in self.buckets() {
            match find_stream(connection, &format!("KV_{}", bucket.bucket)).await? {
                Some(found) => differences.extend(compare_bucket(&found, &bucket)),
                None => differences.push(absent(bucket.bucket)),
            }
        }
        Ok(differences)
    }

    /// Creates the consumer of `lane` where it is absent, and returns its settings as they are.
    ///
    /// The ack wait and the limit are the operator's to change; only what would lose jobs or stall
    /// workers is refused.
    pub async fn ensure_consumer(
        &self,
        connection: &Connection,
        lane: &Lane,
        limit: Option<u32>,
    ) -> Result<pull::Config, TopologyError> {
        let stream = Place::Jobs.stream(&self.namespace);
        let wanted = self.consumer(lane, limit);
        let found = match connection
            .jetstream
            .get_consumer_from_stream(lane.to_string(), stream.as_str())
            .await
        {
            Ok(consumer) => consumer_config(&consumer),
            Err(_) => create_consumer(connection, &stream, &wanted).await?,
        };
        let mut compare = Comparison::of(lane.to_string());
        compare.equal(
            "filter_subject",
            &found.filter_subject,
            &wanted.filter_subject,
        );
        compare.equal("ack_policy", &found.ack_policy, &wanted.ack_policy);
        compare.equal("max_deliver", &found.max_deliver, &wanted.max_deliver);
        compare.equal(
            "inactive_threshold",
            &found.inactive_threshold,
            &wanted.inactive_threshold,
        );
        compare.at_least("max_waiting", found.max_waiting, 512);
        if compare.0.1.is_empty() {
            Ok(found)
        } else {
            Err(TopologyError::Different(compare.0.1))
        }
    }
}

fn consumer_config(
    consumer: &async_nats::jetstream::consumer::Consumer<pull::Config>,
) -> pull::Config {
    use async_nats::jetstream::consumer::FromConsumer;
    let config = consumer.cached_info().config.clone();
    pull::Config::try_from_consumer_config(config).unwrap_or_default()
}

async fn create_consumer(
    connection: &Connection,
    stream: &str,
    wanted: &pull::Config,
) -> Result<pull::Config, TopologyError> {
    let name = wanted.durable_name.as_deref().unwrap_or_default();
    let jetstream = &connection.jetstream;
    // Strict: one that is there after all, unseen because the server did not answer the look, keeps
    // the settings that its operator gave it.
    let created = jetstream
        .create_consumer_strict_on_stream(wanted.clone(), stream)
        .await;
    match created {
        Ok(consumer) => Ok(consumer_config(&consumer)),
        // Somebody else may have made it between our look and our request.
        Err(error) => match jetstream.get_consumer_from_stream(name, stream).await {
            Ok(consumer) => Ok(consumer_config(&consumer)),
            Err(_) => Err(refused(connection, "create consumer", name, &error)),
        },
    }
}

async fn ensure_stream(
    connection: &Connection,
    wanted: StreamConfig,
) -> Result<Vec<Difference>, TopologyError> {
    if let Some(found) = find_stream(connection, &wanted.name).await? {
        return Ok(compare_stream(&found, &wanted));
    }
    let created = connection.jetstream.create_stream(wanted.clone()).await;
    match created {
        Ok(_) => Ok(Vec::new()),
        // Somebody else made it between our look and our request.
        Err(error) if error.to_string().contains("already in use") => {
            let found = find_stream(connection, &wanted.name).await?;
            Ok(found
                .map(|found| compare_stream(&found, &wanted))
                .unwrap_or_default())
        }
        Err(error) => Err(refused(connection, "create stream", &wanted.name, &error)),
    }
}

async fn ensure_bucket(
    connection: &Connection,
    wanted: kv::Config,
) -> Result<Vec<Difference>, TopologyError> {
    if let Some(found) = find_stream(connection, &format!("KV_{}", wanted.bucket)).await? {
        return Ok(compare_bucket(&found, &wanted));
    }
    match connection.jetstream.create_key_value(wanted.clone()).await {
        Ok(_) => Ok(Vec::new()),
        Err(error) => match connection.jetstream.get_key_value(&wanted.bucket).await {
            Ok(_) => Ok(Vec::new()),
            Err(again) if again.kind() == KeyValueErrorKind::InvalidStoreName => {
                Err(refused(connection, "create bucket", &wanted.bucket, &again))
            }
            Err(_) => Err(refused(connection, "create bucket", &wanted.bucket, &error)),
        },
    }
}

async fn find_stream(
    connection: &Connection,
    name: &str,
) -> Result<Option<StreamConfig>, TopologyError> {
    match connection.jetstream.get_stream(name).await {
        Ok(stream) => Ok(Some(stream.cached_info().config.clone())),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(inner)
                if inner.error_code() == ErrorCode::STREAM_NOT_FOUND =>
            {
                Ok(None)
            }
            _ => Err(refused(connection, "look up stream", name, &error)),
        },
    }
}

/// An error with the server's refusal in place of the timeout that it caused.
fn refused(
    connection: &Connection,
    action: &'static str,
    asset: &str,
    error: &dyn std::error::Error,
) -> TopologyError {
    let reason = connection.refusal().unwrap_or_else(|| error.to_string());
    TopologyError::Server {
        action,
        asset: asset.to_owned(),
        reason,
    }
}

fn absent(asset: String) -> Difference {
    Difference {
        asset,
        setting: "existence",
        found: "`absent`".into(),
        expected: "`present`".into(),
    }
}

/// The settings that correctness rests on. Replicas, storage, limits of size and age and placement
/// are the operator's to choose.
fn compare_stream(found: &StreamConfig, wanted: &StreamConfig) -> Vec<Difference> {
    let mut compare = Comparison::of(wanted.name.clone());
    compare.equal("subjects", &found.subjects, &wanted.subjects);
    compare.equal("retention", &found.retention, &wanted.retention);
    compare.equal("allow_direct", &found.allow_direct, &wanted.allow_direct);
    if wanted.discard == async_nats::jetstream::stream::DiscardPolicy::New {
        compare.equal("discard", &found.discard, &wanted.discard);
        compare.equal("max_age", &found.max_age, &wanted.max_age);
    }
    if wanted.max_messages_per_subject == 1 {
        compare.equal(
            "max_msgs_per_subject",
            &found.max_messages_per_subject,
            &wanted.max_messages_per_subject,
        );
    }
    compare.equal("no_ack", &found.no_ack, &false);
    compare.equal("sealed", &found.sealed, &false);
    compare.0.1
}

fn compare_bucket(found: &StreamConfig, wanted: &kv::Config) -> Vec<Difference> {
    let mut compare = Comparison::of(wanted.bucket.clone());
    // How long an entry lives is the operator's to tune, whether it does is not.
    if wanted.max_age.is_zero() != found.max_age.is_zero() {
        compare.equal("max_age", &found.max_age, &wanted.max_age);
    }
    compare.0.1
}

struct Comparison((String, Vec<Difference>));

impl Comparison {
    fn of(asset: String) -> Self {
        Self((asset, Vec::new()))
    }

    fn equal<T: PartialEq + Debug>(&mut self, setting: &'static str, found: &T, expected: &T) {
        if found != expected {
            self.push(setting, format!("`{found:?}`"), format!("`{expected:?}`"));
        }
    }

    fn at_least(&mut self, setting: &'static str, found: i64, least: i64) {
        if found < least {
            self.push(setting, format!("`{found}`"), format!("at least `{least}`"));
        }
    }

    fn push(&mut self, setting: &'static str, found: String, expected: String) {
        let asset = self.0.0.clone();
        self.0.1.push(Difference {
            asset,
            setting,
            found,
            expected,
        });
    }
}
