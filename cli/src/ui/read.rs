//! Values from the command line: literal, from a file (`@path`) or from stdin (`-`).

use std::io::Read;

use anyhow::Context;

use super::report::usage;

/// The bytes that an argument stands for.
pub(crate) fn bytes(argument: &str) -> anyhow::Result<Vec<u8>> {
    if argument == "-" {
        let mut bytes = Vec::new();
        std::io::stdin()
            .read_to_end(&mut bytes)
            .context("can't read stdin")?;
        return Ok(bytes);
    }
    match argument.strip_prefix('@') {
        Some(path) => std::fs::read(path).with_context(|| format!("can't read `{path}`")),
        None => Ok(argument.as_bytes().to_vec()),
    }
}

/// The same, checked to be JSON; `what` names it in the error.
pub(crate) fn json(what: &str, argument: &str) -> anyhow::Result<serde_json::Value> {
    let bytes = bytes(argument)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let shown: String = String::from_utf8_lossy(&bytes).chars().take(80).collect();
        usage(format!("{what} `{shown}` is not JSON: {error}"))
    })
}

/// Reads `name=value`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not `name=value`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_json_is_named() {
        let error = json("arguments", "{\"a\":").unwrap_err().to_string();
        assert!(error.contains("arguments `{\"a\":` is not JSON"), "{error}");
        assert_eq!(json("arguments", "[1]").unwrap(), serde_json::json!([1]));
    }

    #[test]
    fn a_pair_has_a_name() {
        assert_eq!(pair("a=b=c").unwrap(), ("a".into(), "b=c".into()));
        assert!(pair("=b").is_err() && pair("a").is_err());
    }
}
