//! The `nats` CLI's contexts: read, never written.
//!
//! Layout and precedence as in natscli's `natscontext`: `<config>/nats/context/<name>.json`, the
//! selected name in `<config>/nats/context.txt`, `<config>` being `$XDG_CONFIG_HOME` or `~/.config`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A context that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The name can't be a file's.
    #[error("context `{0}` is not a valid name, expected one without `..` and slashes")]
    Name(String),
    /// Its file can't be read.
    #[error("can't read context `{name}` from `{path}`")]
    Read {
        /// The context.
        name: String,
        /// Its file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its file is not what the `nats` CLI writes.
    #[error("context `{name}` in `{path}` is not valid JSON")]
    Parse {
        /// The context.
        name: String,
        /// Its file.
        path: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A field refers to a secret store that we can't ask.
    #[error(
        "context `{name}`: field `{field}` refers to `{scheme}`, expected a plain value, `file://`, `env://` or `data:`"
    )]
    Scheme {
        /// The context.
        name: String,
        /// The field.
        field: &'static str,
        /// The scheme it names.
        scheme: String,
    },
}

/// What a context says; fields that we do not use are passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Context {
    pub(super) url: Option<String>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) token: Option<String>,
    pub(super) creds: Option<String>,
    pub(super) nkey: Option<String>,
    pub(super) user_jwt: Option<String>,
    pub(super) user_seed: Option<String>,
    pub(super) cert: Option<String>,
    pub(super) key: Option<String>,
    pub(super) ca: Option<String>,
    pub(super) tls_first: bool,
    pub(super) inbox_prefix: Option<String>,
    pub(super) jetstream_domain: Option<String>,
}

impl Context {
    /// The context of this name, or of this path where it ends in `.json`.
    pub(super) fn load(name: &str) -> Result<Self, ContextError> {
        if Path::new(name)
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            return Self::read(name, Path::new(name));
        }
        if name.is_empty() || name.contains("..") || name.contains(['/', '\\']) {
            return Err(ContextError::Name(name.to_owned()));
        }
        let path = config_folder().join("context").join(format!("{name}.json"));
        Self::read(name, &path)
    }

    /// The selected context, where one is.
    pub(super) fn selected() -> Result<Option<Self>, ContextError> {
        let Ok(name) = std::fs::read_to_string(config_folder().join("context.txt")) else {
            return Ok(None);
        };
        match name.trim() {
            "" => Ok(None),
            name => Self::load(name).map(Some),
        }
    }

    fn read(name: &str, path: &Path) -> Result<Self, ContextError> {
        let text = std::fs::read_to_string(path).map_err(|source| ContextError::Read {
            name: name.to_owned(),
            path: path.display().to_string(),
            source,
        })?;
        let mut context: Self =
            serde_json::from_str(&text).map_err(|source| ContextError::Parse {
                name: name.to_owned(),
                path: path.display().to_string(),
                source,
            })?;
        context.drop_empty();
        context.look_up_secrets(name)?;
        Ok(context)
    }

    /// The CLI writes absent fields as empty strings.
    fn drop_empty(&mut self) {
        let fields = [
            &mut self.url,
            &mut self.user,
            &mut self.password,
            &mut self.token,
            &mut self.creds,
            &mut self.nkey,
            &mut self.user_jwt,
            &mut self.user_seed,
            &mut self.cert,
            &mut self.key,
            &mut self.ca,
            &mut self.inbox_prefix,
            &mut self.jetstream_domain,
        ];
        for field in fields {
            field.take_if(|value| value.is_empty());
        }
    }

    fn look_up_secrets(&mut self, name: &str) -> Result<(), ContextError> {
        let fields = [
            ("user", &mut self.user),
            ("password", &mut self.password),
            ("token", &mut self.token),
            ("user_jwt", &mut self.user_jwt),
            ("user_seed", &mut self.user_seed),
        ];
        for (field, value) in fields {
            if let Some(text) = value {
                *text = look_up(name, field, text)?;
            }
        }
        if let Some(creds) = &self.creds
            && let Some(path) = creds.strip_prefix("file://")
        {
            self.creds = Some(path.to_owned());
        }
        Ok(())
    }
}

/// A secret's value: itself, or what a `file://`, `env://` or `data:` reference stands for.
fn look_up(name: &str, field: &'static str, text: &str) -> Result<String, ContextError> {
    if let Some(path) = text.strip_prefix("file://") {
        let read = std::fs::read_to_string(expand(path));
        return read
            .map(|text| text.trim().to_owned())
            .map_err(|source| ContextError::Read {
                name: name.to_owned(),
                path: path.to_owned(),
                source,
            });
    }
    if let Some(variable) = text.strip_prefix("env://") {
        return Ok(std::env::var(variable).unwrap_or_default());
    }
    if let Some(data) = text.strip_prefix("data:") {
        return Ok(data.trim_start_matches(',').to_owned());
    }
    for scheme in ["op://", "nsc://"] {
        if text.starts_with(scheme) {
            return Err(ContextError::Scheme {
                name: name.to_owned(),
                field,
                scheme: scheme.to_owned(),
            });
        }
    }
    Ok(text.to_owned())
}

fn config_folder() -> PathBuf {
    let base = std::env::var_os("XDG_CONFIG_HOME")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from);
    base.unwrap_or_else(|| home().join(".config")).join("nats")
}

fn home() -> PathBuf {
    std::env::var_os("HOME")
        .map(PathBuf::from)
        .unwrap_or_default()
}

/// Expands a leading `~` and `$NAME` or `${NAME}`, as the CLI does for paths.
pub(super) fn expand(path: &str) -> String {
    let path = match path.strip_prefix("~/") {
        Some(rest) => home().join(rest).display().to_string(),
        None => path.to_owned(),
    };
    let mut expanded = String::with_capacity(path.len());
    let mut rest = path.as_str();
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        let (name, after) = match rest
            .strip_prefix('{')
            .and_then(|braced| braced.split_once('}'))
        {
            Some(parts) => parts,
            None => {
                let end = rest
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(rest.len());
                rest.split_at(end)
            }
        };
        expanded.push_str(&std::env::var(name).unwrap_or_default());
        rest = after;
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_file_is_read_and_its_empty_fields_count_as_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dev.json");
        std::fs::write(
            &path,
            r#"{"url":"nats://x:4222","user":"","description":"d","tls_first":false}"#,
        )
        .unwrap();
        let context = Context::load(path.to_str().unwrap()).unwrap();
        assert_eq!(
            (context.url.as_deref(), context.user),
            (Some("nats://x:4222"), None)
        );
    }

    #[test]
    fn a_reference_to_a_secret_store_is_refused_by_name() {
        let error = look_up("dev", "password", "op://vault/item")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("password") && error.contains("op://"),
            "{error}"
        );
    }

    #[test]
    fn a_name_with_a_way_out_is_refused() {
        assert!(matches!(Context::load("../x"), Err(ContextError::Name(_))));
    }
}
