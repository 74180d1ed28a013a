//! The one small HTTP server of a process: `/metrics`, `/healthz` and `/readyz`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// What a process says when asked how it is.
pub trait Health: Send + Sync + 'static {
    /// Whether the process's own loop makes progress. Never depends on NATS: an outage must not
    /// restart every worker.
    fn alive(&self) -> Result<(), String>;

    /// Whether it can take work: connected, bound and not draining.
    fn ready(&self) -> Result<(), String>;
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
#[error("can't listen for HTTP on `{address}`")]
pub struct HttpError {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

struct Shared {
    registry: Arc<Registry>,
    health: Arc<dyn Health>,
}

/// Starts the server and returns the address that it really listens on (port 0 picks a free one).
/// It ends with `stop`.
pub async fn serve(
    address: SocketAddr,
    registry: Arc<Registry>,
    health: Arc<dyn Health>,
    stop: CancellationToken,
) -> Result<SocketAddr, HttpError> {
    let failed = |source| HttpError { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let app = Router::new()
        .route("/metrics", get(metrics))
        .route(
            "/healthz",
            get(|State(shared): State<Arc<Shared>>| async move { verdict(shared.health.alive()) }),
        )
        .route(
            "/readyz",
            get(|State(shared): State<Arc<Shared>>| async move { verdict(shared.health.ready()) }),
        )
        .with_state(Arc::new(Shared { registry, health }));
    tokio::spawn(async move {
        let served = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(%error, "the HTTP server ended");
        }
    });
    info!(address = %bound, "http listening");
    Ok(bound)
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &shared.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn verdict(answer: Result<(), String>) -> impl IntoResponse {
    match answer {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}
