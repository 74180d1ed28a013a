//! The value of a program or a URL: bytes of unknown kind, bounded.

use bytes::Bytes;

use crate::run::Output;

/// Bytes up to a limit, and how many there were.
#[derive(Debug)]
pub(super) struct Bounded {
    kept: Vec<u8>,
    seen: u64,
    max: usize,
}

impl Bounded {
    pub(super) fn new(max: usize) -> Self {
        Self {
            kept: Vec::new(),
            seen: 0,
            max,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = self.max - self.kept.len();
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.seen += bytes.len() as u64;
    }

    /// How many bytes there were, where they were more than are kept.
    pub(super) fn overflow(&self) -> Option<u64> {
        (self.seen > self.kept.len() as u64).then_some(self.seen)
    }

    /// The value: JSON where it is complete and reads as JSON, else text, else bytes. White space
    /// around it is no part of it.
    pub(super) fn into_output(self) -> Output {
        let is_whole = self.overflow().is_none();
        let kept = Bytes::from(self.kept);
        let body = kept.slice_ref(kept.trim_ascii());
        if body.is_empty() {
            return Output::default();
        }
        if is_whole && serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok() {
            return Output {
                body,
                content_type: None,
            };
        }
        match std::str::from_utf8(&body) {
            Ok(_) => Output::bytes(body, TEXT),
            // Cut in the middle of a character.
            Err(error) if error.error_len().is_none() && !is_whole => {
                Output::bytes(body.slice(..error.valid_up_to()), TEXT)
            }
            Err(_) => Output::bytes(kept, "application/octet-stream"),
        }
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    fn output(bytes: &[u8], max: usize) -> (String, Option<String>) {
        let mut bounded = Bounded::new(max);
        bytes.chunks(3).for_each(|chunk| bounded.push(chunk));
        let output = bounded.into_output();
        let text = String::from_utf8_lossy(&output.body).into_owned();
        (text, output.content_type)
    }

    #[test]
    fn json_is_told_from_text_and_text_from_bytes() {
        let text = Some(TEXT.to_owned());
        assert_eq!(output(b"{\"a\": 1}\n", 99), ("{\"a\": 1}".into(), None));
        assert_eq!(output(b"  \n", 99), (String::new(), None));
        assert_eq!(output(b"hello\n", 99), ("hello".into(), text.clone()));
        assert_eq!(output(b"{\"a\": 1}\n", 5), ("{\"a\":".into(), text.clone()));
        assert_eq!(output("aä".as_bytes(), 2), ("a".into(), text));
        assert_eq!(
            output(b"\xff\xfe", 9).1.as_deref(),
            Some("application/octet-stream")
        );
    }
}
