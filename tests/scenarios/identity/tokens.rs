//! NATS' own tokens: made, read and written to files as `nsc` does.

use std::path::{Path, PathBuf};

use nkeys::KeyPair;
use serde_json::{Value, json};

use super::{deployed, file};

/// A claim of NATS, signed.
pub(super) fn token(issuer: &KeyPair, subject: &str, kind: &str, mut nats: Value) -> String {
    nats["type"] = kind.into();
    nats["version"] = 2.into();
    let mut claims = json!({
        "jti": KeyPair::new_user().public_key(), "iat": chrono::Utc::now().timestamp(), "iss": issuer.public_key(),
        "name": "test", "sub": subject, "nats": nats,
    });
    // What is not NATS' own stands beside the rest.
    for name in ["aud", "exp"] {
        if let Some(value) = claims["nats"].as_object_mut().unwrap().remove(name) {
            claims[name] = value;
        }
    }
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let text = format!(
        "{}.{}",
        base64url(header.to_string().as_bytes()),
        base64url(claims.to_string().as_bytes())
    );
    let signature = issuer.sign(text.as_bytes()).unwrap();
    format!("{text}.{}", base64url(&signature))
}

const BASE64URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn base64url(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk
            .iter()
            .fold(0_u32, |number, byte| number << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            let digit = number >> (18 - 6 * place) & 63;
            text.push(BASE64URL[digit as usize].into());
        }
    }
    text
}

fn from_base64url(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut number, mut bits) = (0_u32, 0);
    for digit in text.bytes() {
        let value = BASE64URL.iter().position(|other| *other == digit).unwrap();
        number = number << 6 | u32::try_from(value).unwrap();
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((number >> bits & 255) as u8);
        }
    }
    bytes
}

/// What a token claims; its signature is not looked at.
pub(super) fn claims(token: &str) -> Value {
    let body = token.split('.').nth(1).expect("a JWT");
    serde_json::from_slice(&from_base64url(body)).unwrap()
}

/// What `permissions.conf` allows and denies a role, as a user's claims say it.
pub(super) fn claims_of(role: &str) -> Value {
    let text = deployed("permissions.conf");
    let start = format!("REPULL_{} = {{", role.to_uppercase());
    let lists = text.split_once(&start).expect("the role").1;
    let lists = lists.split("\n}").next().unwrap();
    let lines: Vec<&str> = lists
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect();
    let lists = lines.join("\n");
    let (publish, subscribe) = lists.split_once("subscribe =").unwrap();
    let (publish, denied) = publish.split_once("deny =").unwrap_or((publish, ""));
    let words = |text: &str| -> Vec<String> {
        text.split('"')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    };
    json!({
        "pub": {"allow": words(publish), "deny": words(denied)},
        "sub": {"allow": words(subscribe)},
        "subs": -1, "data": -1, "payload": -1,
    })
}

/// A file as `nsc` writes it.
pub(super) fn creds(folder: &Path, name: &str, token: &str, user: &KeyPair) -> PathBuf {
    let seed = user.seed().unwrap();
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    file(folder, &format!("{name}.creds"), &text)
}
