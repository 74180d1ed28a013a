//! The NATS client protocol, read and written, for what stands in for a server.

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// A message as it crosses the wire, without the number of the subscription it is delivered to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it goes.
    pub subject: String,
    /// Where an answer is expected.
    pub reply: Option<String>,
    /// The header block, with its first line and the empty last one.
    pub headers: Option<Bytes>,
    /// The body.
    pub payload: Bytes,
}

impl Message {
    /// A message without headers and reply.
    pub fn new(subject: &str, payload: impl Into<Bytes>) -> Self {
        Self {
            subject: subject.to_owned(),
            reply: None,
            headers: None,
            payload: payload.into(),
        }
    }

    /// A status message without a body, such as `409 Leadership Change`.
    pub fn status(subject: &str, code: u16, description: &str) -> Self {
        let mut message = Self::new(subject, Bytes::new());
        message.headers = Some(format!("NATS/1.0 {code} {description}\r\n\r\n").into());
        message
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        let block = self.headers.take().unwrap_or("NATS/1.0\r\n\r\n".into());
        let block = String::from_utf8_lossy(&block);
        let lines = block.trim_end_matches("\r\n");
        self.headers = Some(format!("{lines}\r\n{name}: {value}\r\n\r\n").into());
        self
    }

    /// Sets where an answer is expected.
    #[must_use]
    pub fn with_reply(mut self, reply: &str) -> Self {
        self.reply = Some(reply.to_owned());
        self
    }

    /// The status code, if it is a status message.
    pub fn code(&self) -> Option<u16> {
        let block = std::str::from_utf8(self.headers.as_ref()?).ok()?;
        block.lines().next()?.split(' ').nth(1)?.parse().ok()
    }

    /// A header's first value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let block = std::str::from_utf8(self.headers.as_ref()?).ok()?;
        let mut fields = block
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'));
        let (_, value) = fields.find(|(field, _)| field.eq_ignore_ascii_case(name))?;
        Some(value.trim())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// `PUB` or `HPUB`.
    fn to_server(&self) -> Bytes {
        self.encode("PUB", None)
    }

    /// `MSG` or `HMSG` for the subscription `sid`.
    pub(crate) fn to_client(&self, sid: &str) -> Bytes {
        self.encode("MSG", Some(sid))
    }

    fn encode(&self, operation: &str, sid: Option<&str>) -> Bytes {
        let mut line = String::new();
        if self.headers.is_some() {
            line.push('H');
        }
        line += operation;
        let words = [Some(self.subject.as_str()), sid, self.reply.as_deref()];
        for word in words.into_iter().flatten() {
            line.push(' ');
            line += word;
        }
        let headers = self.headers.as_deref().unwrap_or_default();
        if self.headers.is_some() {
            line += &format!(" {}", headers.len());
        }
        line += &format!(" {}\r\n", headers.len() + self.payload.len());
        let mut bytes = BytesMut::from(line.as_bytes());
        bytes.put_slice(headers);
        bytes.put_slice(&self.payload);
        bytes.put_slice(b"\r\n");
        bytes.freeze()
    }
}

/// What a client or a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// `SUB`, with the subject and the subscription's number.
    Subscribe {
        subject: String,
        sid: String,
        line: Bytes,
    },
    /// `UNSUB` that takes effect now.
    Unsubscribe { sid: String, line: Bytes },
    /// `PUB` or `HPUB`.
    Publish(Message),
    /// `MSG` or `HMSG`, with the subscription's number.
    Deliver { sid: String, message: Message },
    /// `PING`.
    Ping,
    /// Anything else, as its line.
    Other(Bytes),
}

impl Frame {
    pub(crate) fn encode(&self) -> Bytes {
        match self {
            Self::Subscribe { line, .. } | Self::Unsubscribe { line, .. } | Self::Other(line) => {
                line.clone()
            }
            Self::Publish(message) => message.to_server(),
            Self::Deliver { sid, message } => message.to_client(sid),
            Self::Ping => Bytes::from_static(b"PING\r\n"),
        }
    }
}

/// Reads the next frame; `None` at the end of the connection.
pub(crate) async fn read_frame(
    reader: &mut (impl AsyncBufRead + Unpin),
) -> std::io::Result<Option<Frame>> {
    let mut line = Vec::new();
    if reader.read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    let line = Bytes::from(line);
    let text = String::from_utf8_lossy(&line).into_owned();
    let words: Vec<&str> = text.split_whitespace().collect();
    let operation = words.first().unwrap_or(&"").to_ascii_uppercase();
    let frame = match (operation.as_str(), &words[..]) {
        ("PING", _) => Frame::Ping,
        ("SUB", [_, subject, .., sid]) => Frame::Subscribe {
            subject: (*subject).to_owned(),
            sid: (*sid).to_owned(),
            line,
        },
        ("UNSUB", [_, sid]) => Frame::Unsubscribe {
            sid: (*sid).to_owned(),
            line,
        },
        ("PUB" | "HPUB", [_, subject, rest @ ..]) => {
            let with_headers = operation == "HPUB";
            Frame::Publish(read_message(reader, subject, rest, with_headers).await?)
        }
        ("MSG" | "HMSG", [_, subject, sid, rest @ ..]) => Frame::Deliver {
            sid: (*sid).to_owned(),
            message: read_message(reader, subject, rest, operation == "HMSG").await?,
        },
        _ => Frame::Other(line),
    };
    Ok(Some(frame))
}

/// Reads the rest of a message: `[reply] [header bytes] <all bytes>` and what follows the line.
async fn read_message(
    reader: &mut (impl AsyncBufRead + Unpin),
    subject: &str,
    words: &[&str],
    with_headers: bool,
) -> std::io::Result<Message> {
    let numbers = if with_headers { 2 } else { 1 };
    let split = words.len().checked_sub(numbers).ok_or_else(malformed)?;
    let (reply, numbers) = words.split_at(split);
    let sizes: Result<Vec<usize>, _> = numbers.iter().map(|word| word.parse()).collect();
    let sizes = sizes.map_err(|_| malformed())?;
    let all = sizes.last().copied().unwrap_or_default();
    let headers = if with_headers { sizes[0] } else { 0 };
    let mut body = vec![0; all + 2];
    reader.read_exact(&mut body).await?;
    let mut payload = Bytes::from(body);
    payload.truncate(all);
    if headers > all {
        return Err(malformed());
    }
    let block = payload.split_to(headers);
    Ok(Message {
        subject: subject.to_owned(),
        reply: reply.first().map(|&reply| reply.to_owned()),
        headers: with_headers.then_some(block),
        payload,
    })
}

fn malformed() -> std::io::Error {
    std::io::Error::other("a malformed NATS frame")
}

/// Whether a subject matches a pattern with the wildcards `*` and `>`.
pub fn matches(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}
