//! A mailer with retries: what fails for now is tried again, what can't succeed is given up at once.
//! A layer sees to it that the mail server gets no more than two mails at once.
//!
//! Needs an installation to talk to, for instance that of `repull dev` in another terminal:
//!
//! ```text
//! cargo run -p repull-worker --example mailer
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use futures_util::future::BoxFuture;
use repull::client::Client;
use repull::connect::ConnectArgs;
use repull::id::QueueName;
use repull::job::Job;
use repull::wire::EventKind;
use repull_worker::{Context, Shutdown, TaskError, TaskOptions, Worker};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tower_layer::Layer;
use tower_service::Service;

/// Sends three mails: one that works, one that works at the third try, and one that never can.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Serialize, Deserialize)]
struct Mail {
    to: String,
    text: String,
}

/// Stands for a mail server; the one for `busy@…` is busy at first.
#[derive(Default)]
struct MailServer {
    tries: Mutex<HashMap<String, u32>>,
}

#[derive(Debug, thiserror::Error)]
#[error("the mail server of `{0}` is busy")]
struct Busy(String);

impl MailServer {
    fn send(&self, mail: &Mail) -> Result<usize, Busy> {
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let tries = tries.entry(mail.to.clone()).or_default();
        *tries += 1;
        if mail.to.starts_with("busy@") && *tries < 3 {
            return Err(Busy(mail.to.clone()));
        }
        Ok(mail.text.len())
    }
}

async fn send_mail(context: Context, mail: Mail) -> Result<String, TaskError> {
    if !mail.to.contains('@') {
        // No attempt would be better, so none is wasted.
        return Err(TaskError::permanent(format!("`{}` is no address", mail.to)));
    }
    // `?` makes a failure of any error that is tried again, with its causes in the text.
    let bytes = context.state::<MailServer>()?.send(&mail)?;
    context.log(format!(
        "sent {bytes} bytes at attempt {}",
        context.attempt()
    ));
    Ok(format!("delivered to {}", mail.to))
}

/// A layer: at most so many at once of what it is put around.
struct AtMost(usize);

impl<S> Layer<S> for AtMost {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        let places = Arc::new(Semaphore::new(self.0));
        Limited { inner, places }
    }
}

/// Its service. Each job is given a clone; the clones share the places.
#[derive(Clone)]
struct Limited<S> {
    inner: S,
    places: Arc<Semaphore>,
}

impl<S> Service<Context> for Limited<S>
where
    S: Service<Context, Future: Send + 'static>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> task::Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, context: Context) -> Self::Future {
        let sending = self.inner.call(context);
        let places = self.places.clone();
        Box::pin(async move {
            // Nobody closes the semaphore; a place is free again however the sending ends.
            let _place = places.acquire_owned().await.ok();
            sending.await
        })
    }
}

fn worker(client: Client) -> anyhow::Result<Worker> {
    let options = TaskOptions::new()
        .timeout(Duration::from_secs(30))
        .max_attempts(5)
        .backoff("200ms,2,5s".parse()?);
    let worker = Worker::builder(client)
        .queue("mail")
        .slots(8)
        .state(MailServer::default())
        .task_with("mail.send", options, send_mail)
        .task_layer("mail.send", AtMost(2))
        .build()?;
    Ok(worker)
}

fn mail(to: &str) -> anyhow::Result<Job> {
    let mail = Mail {
        to: to.to_owned(),
        text: "hello".to_owned(),
    };
    Ok(Job::json("mail.send", &mail)?.on(QueueName::new("mail")?))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let client = Client::connect(&args.connect.resolve()?).await?;
    let worker = worker(client.clone())?;
    let shutdown = Shutdown::on_signals()?;
    let running = tokio::spawn(worker.run(shutdown.clone()));

    for (to, expected) in [
        ("ada@example.org", EventKind::Succeeded),
        ("busy@example.org", EventKind::Succeeded),
        ("nobody", EventKind::Failed),
    ] {
        let enqueued = client.enqueue(mail(to)?).await?;
        let outcome = tokio::time::timeout(Duration::from_secs(60), client.wait(&enqueued))
            .await
            .with_context(|| format!("the mail to `{to}` has no outcome yet"))??;
        println!(
            "{to}: {} at attempt {}: {}",
            outcome.kind,
            outcome.attempt,
            outcome.text()
        );
        ensure!(outcome.kind == expected, "expected {expected}");
    }

    shutdown.drain();
    running.await??;
    Ok(())
}

/// The same without an installation: `cargo test -p repull-worker --example mailer`.
#[cfg(test)]
mod tests {
    use super::*;
    use repull_worker::test::Installation;

    #[tokio::test]
    async fn a_busy_mail_server_is_asked_again_and_no_address_is_given_up_at_once()
    -> anyhow::Result<()> {
        let installation = Installation::new().await;
        let worker = worker(installation.client())?;
        let client = installation.client();
        let busy = client.enqueue(mail("busy@example.org")?).await?;
        let nobody = client.enqueue(mail("nobody")?).await?;

        // What is due now: both are tried once. The clock stands still until it is moved.
        let ran = installation.drain(&worker).await;
        assert_eq!(ran.len(), 2);
        assert!(ran[0].error().is_some_and(|error| error.contains("busy")));
        assert_eq!(installation.dead()[0].id, nobody.address.id);

        // All the rest, with the waits skipped.
        let ran = installation.drain_all(&worker).await;
        assert_eq!(ran[1].log(), ["sent 5 bytes at attempt 3"]);
        assert_eq!(ran[1].value::<String>(), "delivered to busy@example.org");
        let outcome = installation.outcome(&busy).context("an outcome")?;
        assert_eq!(outcome.attempt, 3);
        Ok(())
    }
}
