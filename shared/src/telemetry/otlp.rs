//! The export of spans to a collector: OTLP over HTTP, as the OpenTelemetry variables say.
//!
//! Read by the libraries themselves: `OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`),
//! `…_HEADERS`, `…_TIMEOUT`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`,
//! `OTEL_BSP_…`. Spans are sent in batches by a thread of their own, so that a slow collector holds
//! nobody up; where it is away for long, spans are dropped and work goes on.

use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;

use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// Whether the environment names a collector and does not forbid to use it.
pub(super) fn is_wanted() -> bool {
    let said = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let is = |name: &str, value: &str| said(name).is_some_and(|it| it.eq_ignore_ascii_case(value));
    let endpoint =
        said("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| said("OTEL_EXPORTER_OTLP_ENDPOINT"));
    endpoint.is_some() && !is("OTEL_SDK_DISABLED", "true") && !is("OTEL_TRACES_EXPORTER", "none")
}

/// Starts the export and gives the layer that feeds it.
pub(super) fn layer<S>() -> Result<impl Layer<S>, String>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let tracer = start()?;
    super::trace::turn_on();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false);
    Ok(layer.with_filter(filter_fn(is_ours)))
}

/// Our spans, and what is told within them as a warning or worse.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("repull")
        && (metadata.is_span() || *metadata.level() <= tracing::Level::WARN)
}

fn start() -> Result<SdkTracer, String> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Http::new()?)
        .build()
        .map_err(|error| format!("can't export traces: {error}"))?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource())
        .build();
    let tracer = provider.tracer("repull");
    let _ = PROVIDER.set(provider);
    Ok(tracer)
}

fn resource() -> Resource {
    let builder = Resource::builder();
    if std::env::var_os("OTEL_SERVICE_NAME").is_some() {
        return builder.build();
    }
    let program = std::env::current_exe().ok();
    let name = program.and_then(|path| Some(path.file_stem()?.to_string_lossy().into_owned()));
    builder
        .with_service_name(name.unwrap_or_else(|| "repull".to_owned()))
        .build()
}

/// Sends what is left. Called once, at the end.
pub(super) fn finish() {
    if let Some(provider) = PROVIDER.get()
        && let Err(error) = provider.shutdown()
    {
        tracing::warn!(%error, "the last traces were not sent");
    }
}

/// The HTTP client of the export, on a runtime of its own: the exporter's thread has none.
#[derive(Debug)]
struct Http {
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Http {
    fn new() -> Result<Self, String> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Fails only where somebody else was faster, which is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let why = |error: &dyn std::error::Error| format!("can't export traces: {error}");
        let client = reqwest::Client::builder()
            .build()
            .map_err(|error| why(&error))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("traces")
            .enable_all()
            .build()
            .map_err(|error| why(&error))?;
        Ok(Self { client, runtime })
    }
}

impl HttpClient for Http {
    fn send_bytes<'s, 'f>(
        &'s self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move {
            let answer = client.execute(request.try_into()?).await?;
            let mut response = Response::builder().status(answer.status());
            for (name, value) in answer.headers() {
                response = response.header(name, value);
            }
            Ok(response.body(answer.bytes().await?)?)
        });
        Box::pin(async move { sent.await? })
    }
}
