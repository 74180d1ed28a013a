//! A producer inside an axum service: a request enqueues a job, another asks for its outcome.
//!
//! ```text
//! cargo run -p repull-worker --example producer
//! curl -i -X POST -H 'Idempotency-Key: o-1' -d '{"item":"tea","quantity":2}' http://127.0.0.1:8000/orders
//! curl -i http://127.0.0.1:8000/orders/o-1
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use clap::Parser;
use repull::client::Client;
use repull::connect::ConnectArgs;
use repull::id::{JobId, Lane, QueueName, TaskName};
use repull::job::Job;
use repull::wire::Address;
use repull_worker::{Context, Shutdown, TaskError, Worker};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;

/// Serves orders over HTTP and packs them as jobs.
#[derive(Parser)]
struct Args {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// Send one order through the service and end
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Serialize, Deserialize)]
struct Order {
    item: String,
    quantity: u32,
}

/// An answer: a status and a JSON body.
type Answer = (StatusCode, String);

fn answer(status: StatusCode, body: &serde_json::Value) -> Answer {
    (status, format!("{body}\n"))
}

fn refused(error: impl std::fmt::Display) -> Answer {
    answer(
        StatusCode::BAD_REQUEST,
        &json!({ "error": error.to_string() }),
    )
}

/// Answers once the job is stored: from here on it is not lost, whatever happens to this process.
async fn submit(State(client): State<Client>, headers: HeaderMap, body: Bytes) -> Answer {
    let order: Order = match serde_json::from_slice(&body) {
        Ok(order) => order,
        Err(error) => return refused(error),
    };
    let job = match Job::json("order.pack", &order).map(|job| job.on(queue())) {
        Ok(job) => job,
        Err(error) => return refused(error),
    };
    // With a key of the caller's, a repeated request finds the job that is there.
    let key = headers
        .get("idempotency-key")
        .map(|key| key.to_str().unwrap_or_default());
    let job = match key.map(JobId::new).transpose() {
        Ok(Some(id)) => job.with_id(id),
        Ok(None) => job,
        Err(error) => return refused(error),
    };
    match client.enqueue(job).await {
        Ok(enqueued) => answer(
            StatusCode::ACCEPTED,
            &json!({ "job": enqueued.address.id, "new": enqueued.is_new }),
        ),
        Err(error) => answer(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({ "error": error.to_string() }),
        ),
    }
}

/// Waits for the outcome for a while; a caller that gets 202 asks again.
async fn outcome(State(client): State<Client>, Path(id): Path<String>) -> Answer {
    let id = match JobId::new(id) {
        Ok(id) => id,
        Err(error) => return refused(error),
    };
    let address = Address {
        lane: Lane::normal(queue()),
        task: task(),
        id,
    };
    let wait = client.wait_at(&address, None);
    match tokio::time::timeout(Duration::from_secs(10), wait).await {
        Ok(Ok(event)) => answer(
            StatusCode::OK,
            &json!({ "outcome": event.kind, "value": event.value() }),
        ),
        Ok(Err(error)) => answer(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({ "error": error.to_string() }),
        ),
        Err(_) => answer(StatusCode::ACCEPTED, &json!({ "outcome": null })),
    }
}

fn queue() -> QueueName {
    "orders".parse().unwrap_or_default()
}

fn task() -> TaskName {
    TaskName::new("order.pack").expect("`order.pack` is a task's name")
}

async fn pack(context: Context, order: Order) -> Result<String, TaskError> {
    context.log(format!("packing {} {}", order.quantity, order.item));
    Ok(format!("{} {} packed", order.quantity, order.item))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let client = Client::connect(&args.connect.resolve()?).await?;
    // Most often the worker is a process of its own; nothing but the queue connects the two.
    let worker = Worker::builder(client.clone())
        .queue(queue())
        .task(task(), pack)
        .build()?;
    let shutdown = Shutdown::on_signals()?;
    let running = tokio::spawn(worker.run(shutdown.clone()));

    let app = Router::new()
        .route("/orders", post(submit))
        .route("/orders/{id}", get(outcome))
        .with_state(client);
    let listener = TcpListener::bind(args.listen).await?;
    let address = listener.local_addr()?;
    println!("listening on http://{address}");
    let service =
        axum::serve(listener, app).with_graceful_shutdown(shutdown.drain.clone().cancelled_owned());
    let service = tokio::spawn(service.into_future());

    if args.once {
        order_one(&format!("http://{address}/orders")).await?;
        shutdown.drain();
    }
    service.await??;
    running.await??;
    Ok(())
}

/// What the two `curl` commands above do.
async fn order_one(url: &str) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Accepted {
        job: JobId,
    }
    // `reqwest` is built without a choice of cryptography, which it wants even for plain HTTP.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().tls_certs_only([]).build()?;
    let order = r#"{"item":"tea","quantity":2}"#;
    let accepted = http.post(url).body(order).send().await?.text().await?;
    let accepted: Accepted = serde_json::from_str(&accepted)?;
    let outcome = http.get(format!("{url}/{}", accepted.job)).send().await?;
    let outcome = outcome.text().await?;
    println!("{}", outcome.trim_end());
    ensure!(
        outcome.contains("2 tea packed"),
        "expected the order to be packed"
    );
    Ok(())
}
