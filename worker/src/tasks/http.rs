//! A task that is a URL: the arguments are POSTed to it, and the status decides.
//!
//! | It answers | The attempt |
//! | --- | --- |
//! | 2xx | succeeded; the body is the value |
//! | 408, 425, 429, 5xx, or nothing at all | failed, tried again; `Retry-After` is honoured |
//! | anything else, a redirect too | failed for good |
//!
//! The request ends with the attempt: on timeout or cancel the connection is closed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use repull::telemetry::trace;
use repull::{clock, wire};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url, redirect};

use super::text::Bounded;
use crate::error::chain;
use crate::run::{Context, Handler, Output, TaskError, raw};

/// How long the connection may take to open, unless the task says otherwise.
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// The longest wait that a `Retry-After` is believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// How much of an answer goes into the error of a failed attempt, in characters.
const ERROR_BODY_CHARS: usize = 200;

/// A URL and what is sent along.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HttpSpec {
    url: Option<Url>,
    headers: HeaderMap,
    connect_timeout: Duration,
}

impl HttpSpec {
    pub(super) fn new(connect_timeout: Option<Duration>) -> Self {
        Self {
            url: None,
            headers: HeaderMap::new(),
            connect_timeout: connect_timeout.unwrap_or(CONNECT_TIMEOUT_DEFAULT),
        }
    }

    /// Sets the URL; false where it is none that can be called.
    pub(super) fn set_url(&mut self, text: &str) -> bool {
        let url = Url::parse(text).ok();
        self.url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        self.url.is_some()
    }

    /// Adds a header, or says what is wrong with it.
    pub(super) fn add_header(&mut self, name: &str, value: &str) -> Result<(), String> {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| "is not a header's name, expected one such as `X-Key`".to_owned())?;
        // The value is not quoted: it may be a secret.
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| "has a value that no header can have, expected one line".to_owned())?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(())
    }
}

/// The handler that calls it.
///
/// Fails where the system has no certificates to check an `https` server with.
pub(super) fn handler(spec: &HttpSpec) -> Result<Handler, String> {
    let caller = Arc::new(Caller::new(spec)?);
    Ok(raw(move |context: Context, body| {
        let caller = caller.clone();
        async move {
            tokio::select! {
                result = caller.call(&context, body) => result,
                () = context.cancelled() => Err(caller.interrupted()),
            }
        }
    }))
}

struct Caller {
    client: reqwest::Client,
    url: Url,
    /// The URL without what may be secret in it.
    shown: String,
}

impl Caller {
    fn new(spec: &HttpSpec) -> Result<Self, String> {
        install_crypto();
        let url = spec.url.clone().ok_or("no URL is given")?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("repull-worker/", env!("CARGO_PKG_VERSION")))
            .default_headers(spec.headers.clone())
            .connect_timeout(spec.connect_timeout)
            .redirect(redirect::Policy::none());
        if url.scheme() == "http" {
            // No certificates are needed, so their absence must not matter.
            builder = builder.tls_certs_only([]);
        }
        Ok(Self {
            client: builder.build().map_err(|error| chain(&error))?,
            shown: show(&url),
            url,
        })
    }

    async fn call(&self, context: &Context, body: Bytes) -> Result<Output, TaskError> {
        let request = self.client.post(self.url.clone()).body(body);
        let answer = request
            .headers(describe(context))
            .send()
            .await
            .map_err(|error| self.broken(error))?;
        let status = answer.status();
        if status.is_success() {
            return self.value(context, answer).await;
        }
        let delay = retry_after(answer.headers(), clock::now());
        let location = answer.headers().get(reqwest::header::LOCATION).cloned();
        let mut body = Bounded::new(ERROR_BODY_CHARS * 4);
        // An answer that breaks off says as much as it says.
        let _ = read(answer, &mut body, true).await;
        let mut error = format!("`POST {}` answered {status}", self.shown);
        if let Some(location) = location.as_ref().and_then(|value| value.to_str().ok()) {
            error.push_str(&format!(
                " to `{location}`, expected the URL itself to answer"
            ));
        }
        let text = String::from_utf8_lossy(&body.into_output().body).into_owned();
        if !text.is_empty() {
            error.push_str(": ");
            error.extend(text.chars().take(ERROR_BODY_CHARS));
        }
        Err(match delay {
            _ if !is_retried(status) => TaskError::permanent(error),
            Some(delay) => TaskError::retry_in(delay, error),
            None => TaskError::retry(error),
        })
    }

    async fn value(&self, context: &Context, answer: Response) -> Result<Output, TaskError> {
        let max = context.value_bytes_max();
        let content_type = answer.headers().get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok().map(str::to_owned));
        let mut body = Bounded::new(max);
        read(answer, &mut body, false)
            .await
            .map_err(|error| self.broken(error))?;
        if let Some(bytes) = body.overflow() {
            context.log(format!(
                "(the answer had {bytes} bytes, the first {max} are the value)"
            ));
            return Ok(body.into_output());
        }
        let output = body.into_output();
        // What reads as JSON is JSON; for the rest the server's word counts.
        Ok(match (output.content_type, content_type) {
            (Some(_), Some(content_type)) if !content_type.contains("json") => Output {
                body: output.body,
                content_type: Some(content_type),
            },
            (found, _) => Output {
                body: output.body,
                content_type: found,
            },
        })
    }

    fn interrupted(&self) -> TaskError {
        TaskError::retry(format!("`POST {}` was interrupted", self.shown))
    }

    /// A request that got no answer, or half of one: always worth another attempt.
    fn broken(&self, error: reqwest::Error) -> TaskError {
        let cause = chain(&error.without_url());
        TaskError::retry(format!("`POST {}` got no answer: {cause}", self.shown))
    }
}

/// Reads an answer's body to its end, or to what is kept of it.
async fn read(
    mut answer: Response,
    body: &mut Bounded,
    until_full: bool,
) -> Result<(), reqwest::Error> {
    while let Some(chunk) = answer.chunk().await? {
        body.push(&chunk);
        if until_full && body.overflow().is_some() {
            break;
        }
    }
    Ok(())
}

fn is_retried(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        )
}

/// How long the server asks us to wait: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = DateTime::parse_from_rfc2822(value).ok()?;
            (at.to_utc() - now).to_std().unwrap_or_default()
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// The job as headers.
fn describe(context: &Context) -> HeaderMap {
    let job = context.job();
    let content_type = job.content_type.as_deref().unwrap_or("application/json");
    let nonce = job.nonce.as_deref().unwrap_or(job.id.as_str());
    let mut headers = HeaderMap::new();
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    put("content-type", content_type);
    // The same for all attempts of a job, and another for the next job of the same id.
    put("idempotency-key", nonce);
    put("repull-job-id", job.id.as_str());
    put("repull-task", job.task.as_str());
    put("repull-queue", job.queue.as_str());
    put("repull-attempt", &context.attempt().to_string());
    put("repull-max-attempts", &context.max_attempts().to_string());
    put("repull-worker", context.worker().as_str());
    if let Some(deadline) = context.deadline() {
        put("repull-deadline", &wire::write_time(deadline));
    }
    if let Some(schedule) = &job.schedule {
        put("repull-schedule", schedule.as_str());
    }
    if let Some(fire) = job.fire {
        put("repull-fire", &wire::write_time(fire));
    }
    for (name, value) in trace::handed_on(&job.headers) {
        put(name, &value);
    }
    headers
}

/// The URL for people: a password and a query may be secrets.
fn show(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}"));
    let port = port.unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

/// TLS wants to be told once per process whose cryptography it uses; an application's choice stays.
fn install_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Fails only where somebody else was faster, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_has_a_bound() {
        let now = "2026-11-23T10:00:00Z".parse().unwrap();
        let wait = |value: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            retry_after(&headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(wait("7"), Some(7));
        assert_eq!(wait("Mon, 23 Nov 2026 10:01:00 GMT"), Some(60));
        assert_eq!(wait("Mon, 23 Nov 2026 09:00:00 GMT"), Some(0));
        assert_eq!(wait("99999999999"), Some(RETRY_AFTER_MAX.as_secs()));
        assert_eq!(wait("soon"), None);
    }

    #[test]
    fn secrets_in_a_url_are_not_shown() {
        let url = Url::parse("https://me:pw@example.org:8443/a/b?token=x").unwrap();
        assert_eq!(show(&url), "https://example.org:8443/a/b");
    }
}
