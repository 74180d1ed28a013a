//! A GET over plain HTTP/1.1, enough for metrics, health and the server's monitoring pages.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const WITHIN: Duration = Duration::from_secs(10);

/// Fetches `path` from `address` (`host:port`); answers the status and the body.
///
/// # Errors
///
/// When nobody answers within ten seconds, or not in HTTP.
pub async fn get(address: &str, path: &str) -> anyhow::Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = tokio::time::timeout(WITHIN, exchange)
        .await
        .with_context(|| format!("no answer to GET http://{address}{path} within {WITHIN:?}"))?
        .with_context(|| format!("GET http://{address}{path}"))?;
    parse(&String::from_utf8_lossy(&answer))
        .with_context(|| format!("the answer to GET http://{address}{path}"))
}

fn parse(answer: &str) -> anyhow::Result<(u16, String)> {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!("it has no end of headers: `{answer}`");
    };
    let status = head.split(' ').nth(1).unwrap_or_default();
    let status = status
        .parse()
        .with_context(|| format!("its status is `{status}`"))?;
    let chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    let body = if chunked {
        join_chunks(body)?
    } else {
        body.to_owned()
    };
    Ok((status, body))
}

fn join_chunks(mut rest: &str) -> anyhow::Result<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").context("a chunk without a size")?;
        let size = usize::from_str_radix(size.trim(), 16).context("a chunk's size")?;
        if size == 0 {
            return Ok(body);
        }
        body += after.get(..size).context("a chunk that is cut short")?;
        rest = after
            .get(size + 2..)
            .context("a chunk without a line end")?;
    }
}
