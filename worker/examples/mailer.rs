//! A mailer with retries: what fails for now is tried again, what can't succeed is given up at once.
//!
//! Needs an installation to talk to, for instance that of `repull dev` in another terminal:
//!
//! ```text
//! cargo run -p repull-worker --example mailer
//! ```

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use repull::client::Client;
use repull::connect::ConnectArgs;
use repull::id::QueueName;
use repull::job::Job;
use repull::wire::EventKind;
use repull_worker::{Context, Shutdown, TaskError, TaskOptions, Worker};
use serde::{Deserialize, Serialize};

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

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let client = Client::connect(&args.connect.resolve()?).await?;
    let options = TaskOptions::new()
        .timeout(Duration::from_secs(30))
        .max_attempts(5)
        .backoff("200ms,2,5s".parse()?);
    let worker = Worker::builder(client.clone())
        .queue("mail")
        .slots(8)
        .state(MailServer::default())
        .task_with("mail.send", options, send_mail)
        .build()?;
    let shutdown = Shutdown::on_signals()?;
    let running = tokio::spawn(worker.run(shutdown.clone()));

    for (to, expected) in [
        ("ada@example.org", EventKind::Succeeded),
        ("busy@example.org", EventKind::Succeeded),
        ("nobody", EventKind::Failed),
    ] {
        let mail = Mail {
            to: to.to_owned(),
            text: "hello".to_owned(),
        };
        let job = Job::json("mail.send", &mail)?.on(QueueName::new("mail")?);
        let enqueued = client.enqueue(job).await?;
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
