//! Which stored messages can be sent to a client at all.
//!
//! The server stores whatever header bytes a publisher sends. Our client library drops its connection
//! over some of them (async-nats 0.51, `src/connection.rs`, the branch for `HMSG`) and panics over a
//! carriage return within a value, so such a message must be found, and taken out of the way, by who
//! reads it another way: in the answers of the JetStream API, where headers are base64.

use std::str::FromStr;

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue};

const VERSION: &str = "NATS/1.0";

/// Why a message can't be sent to a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Its subject is not text.
    #[error("its subject is not UTF-8")]
    Subject,
    /// Its headers are not text.
    #[error("its headers are not UTF-8")]
    NotText,
    /// The headers do not begin as those of a stored message do.
    #[error("its headers begin with `{line}`, expected `NATS/1.0`")]
    Version {
        /// Their first line, cut to 100 characters.
        line: String,
    },
    /// A line of the headers is no header.
    #[error("its header line `{line}` is not valid, expected `<name>: <value>`")]
    Line {
        /// The line, cut to 100 characters.
        line: String,
    },
}

/// Reads a stored message's block of headers.
///
/// # Errors
/// A client that is sent these headers loses its connection.
pub fn read_headers(block: &[u8]) -> Result<HeaderMap, Unreadable> {
    let mut headers = HeaderMap::new();
    if block.is_empty() {
        return Ok(headers);
    }
    let text = std::str::from_utf8(block).map_err(|_| Unreadable::NotText)?;
    let mut lines = text.lines().peekable();
    let version = lines.next().unwrap_or_default();
    // What follows the version is a status, which a stored message has none of.
    if version.trim_end() != VERSION {
        return Err(Unreadable::Version { line: cut(version) });
    }
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let refused = || Unreadable::Line { line: cut(line) };
        let (name, value) = line.split_once(':').ok_or_else(refused)?;
        let name = HeaderName::from_str(name).map_err(|_| refused())?;
        let mut value = value.trim_start().to_owned();
        // A value may go on in the next lines.
        while let Some(more) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
            value.push_str(more);
        }
        let value = HeaderValue::from_str(value.trim_end()).map_err(|_| refused())?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// The start of a line, without what would break one.
fn cut(line: &str) -> String {
    let printable = |char: char| if char.is_control() { ' ' } else { char };
    line.chars().take(100).map(printable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[u8]) -> Result<HeaderMap, Unreadable> {
        read_headers(&[b"NATS/1.0\r\n", lines, b"\r\n"].concat())
    }

    #[test]
    fn headers_are_read_as_a_client_reads_them() {
        let headers = read(b"A: 1\r\nB:\tx y \r\n  z\r\nA:2\r\nempty:\r\n").unwrap();
        let last = |name| headers.get_last(name).map(HeaderValue::as_str);
        assert_eq!(last("A"), Some("2"));
        assert_eq!(last("B"), Some("x y   z"));
        assert_eq!(last("empty"), Some(""));
        assert!(read_headers(b"").unwrap().is_empty());
    }

    #[test]
    fn what_breaks_a_client_is_refused_with_the_line() {
        assert_eq!(read(b"Name: M\xfcller\r\n"), Err(Unreadable::NotText));
        for line in ["no colon", "a name: x", "a: b\rc", "n\u{e9}: x"] {
            let text = read(format!("{line}\r\n").as_bytes())
                .unwrap_err()
                .to_string();
            assert!(text.contains("is not valid"), "{text}");
        }
        for version in ["NATS/2.0", "NATS/1.0 404", "HTTP", ""] {
            let read = read_headers(format!("{version}\r\n\r\n").as_bytes());
            assert!(matches!(read, Err(Unreadable::Version { .. })), "{version}");
        }
    }
}
