//! Proving by a file who one is: a credentials file or an nkey seed.
//!
//! The file is read anew at each connect, so that one that was renewed is used without a restart. The
//! client library reads it once.

use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use async_nats::{Auth, AuthError, ConnectOptions};
use nkeys::KeyPair;

/// Where the proof lies.
#[derive(Debug, Clone)]
pub(super) enum Proof {
    /// A JWT with the seed of its user, as `nsc` writes it.
    Creds(PathBuf),
    /// The seed of an nkey.
    Nkey(PathBuf),
}

impl Proof {
    /// What the file is called in messages.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Creds(_) => "credentials",
            Self::Nkey(_) => "nkey seed",
        }
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Creds(path) | Self::Nkey(path) => path,
        }
    }

    /// Options that prove it at each connect, with a token where there is one as well.
    pub(super) fn options(self, token: Option<String>) -> ConnectOptions {
        ConnectOptions::with_auth_callback(move |nonce| {
            let (proof, token) = (self.clone(), token.clone());
            async move {
                let path = proof.path().display().to_string();
                let answer = proof.answer(&nonce).await;
                let mut auth =
                    answer.map_err(|error| AuthError::new(format!("file `{path}`: {error}")))?;
                auth.token = token;
                Ok(auth)
            }
        })
    }

    /// The answer to a server's challenge.
    pub(super) async fn answer(&self, nonce: &[u8]) -> Result<Auth, Error> {
        let text = tokio::fs::read_to_string(self.path()).await?;
        let mut auth = Auth::new();
        let key = match self {
            Self::Creds(_) => {
                let (jwt, key) = read_creds(&text)?;
                auth.jwt = Some(jwt.to_owned());
                key
            }
            Self::Nkey(_) => {
                let key = read_seed(text.trim())?;
                auth.nkey = Some(key.public_key());
                key
            }
        };
        let signature = key
            .sign(nonce)
            .map_err(|error| invalid(&error.to_string()))?;
        auth.signature = Some(signature);
        Ok(auth)
    }
}

/// The JWT and the key of a credentials file: what stands between the first two pairs of lines of
/// dashes.
fn read_creds(text: &str) -> Result<(&str, KeyPair), Error> {
    let mut parts = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut part = |name: &str| {
        parts.find(|line| line.starts_with("---") && line.contains(name))?;
        parts.next().filter(|line| !line.starts_with("---"))
    };
    let jwt = part("BEGIN NATS USER JWT").ok_or_else(|| invalid("it holds no user JWT"))?;
    let seed = part("BEGIN USER NKEY SEED").ok_or_else(|| invalid("it holds no nkey seed"))?;
    Ok((jwt, read_seed(seed)?))
}

fn read_seed(text: &str) -> Result<KeyPair, Error> {
    // What the library says of a bad seed may repeat it.
    KeyPair::from_seed(text).map_err(|_| invalid("it holds no valid nkey seed, expected `SU...`"))
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credentials_file_is_read_as_nsc_writes_it() {
        let seed = KeyPair::new_user().seed().unwrap();
        let text = format!(
            "-----BEGIN NATS USER JWT-----\r\neyJ0.e30.c2ln\r\n------END NATS USER JWT------\r\n\r\n************************* IMPORTANT *************************\r\nNKEY Seed printed below can be used to sign and prove identity.\r\n\r\n-----BEGIN USER NKEY SEED-----\r\n{seed}\r\n------END USER NKEY SEED------\r\n"
        );
        let (jwt, key) = read_creds(&text).unwrap();
        assert_eq!((jwt, key.seed().unwrap()), ("eyJ0.e30.c2ln", seed));
    }

    #[test]
    fn what_is_no_proof_says_what_is_missing_and_shows_nothing() {
        for (text, missing) in [
            ("", "no user JWT"),
            ("-----BEGIN NATS USER JWT-----\nabc\n", "no nkey seed"),
            (
                "-----BEGIN NATS USER JWT-----\nabc\n-----BEGIN USER NKEY SEED-----\nSUAGARBAGE\n",
                "no valid nkey seed",
            ),
        ] {
            let error = read_creds(text).err().unwrap().to_string();
            assert!(
                error.contains(missing) && !error.contains("GARBAGE"),
                "{error}"
            );
        }
    }
}
