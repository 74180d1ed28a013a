//! The options of a connection: flags, environment and the `nats` CLI's contexts, in that order.

use std::path::{Path, PathBuf};

use async_nats::{ConnectOptions, ServerAddr};
use clap::Args;
use clap::builder::BoolishValueParser;

use super::ConnectError;
use super::context::{Context, expand};
use super::proof::Proof;
use crate::id::Namespace;

/// How to reach NATS; the same flags and variables as the `nats` CLI.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Connection")]
pub struct ConnectArgs {
    /// NATS servers, separated by commas [default: the context's, else nats://127.0.0.1:4222]
    #[arg(
        long,
        short = 's',
        env = "NATS_URL",
        value_name = "URLS",
        global = true,
        hide_env_values = true
    )]
    pub server: Option<String>,
    /// Context of the `nats` CLI [default: the selected one, where no server is named]
    #[arg(long, env = "NATS_CONTEXT", value_name = "NAME", global = true)]
    pub context: Option<String>,
    /// File of JWT credentials
    #[arg(long, env = "NATS_CREDS", value_name = "FILE", global = true)]
    pub creds: Option<PathBuf>,
    /// User name, or a token where there is no password
    #[arg(
        long,
        env = "NATS_USER",
        value_name = "USER",
        global = true,
        hide_env_values = true
    )]
    pub user: Option<String>,
    /// Password; prefer the variable, arguments are visible to others
    #[arg(
        long,
        env = "NATS_PASSWORD",
        value_name = "PASSWORD",
        global = true,
        hide_env_values = true
    )]
    pub password: Option<String>,
    /// Token; prefer the variable, arguments are visible to others
    #[arg(
        long,
        env = "NATS_TOKEN",
        value_name = "TOKEN",
        global = true,
        hide_env_values = true
    )]
    pub token: Option<String>,
    /// File of an nkey seed
    #[arg(long, env = "NATS_NKEY", value_name = "FILE", global = true)]
    pub nkey: Option<PathBuf>,
    /// Client certificate (PEM)
    #[arg(long, env = "NATS_CERT", value_name = "FILE", global = true)]
    pub tlscert: Option<PathBuf>,
    /// Key of the client certificate (PEM)
    #[arg(long, env = "NATS_KEY", value_name = "FILE", global = true)]
    pub tlskey: Option<PathBuf>,
    /// Authority that signed the server's certificate (PEM)
    #[arg(long, env = "NATS_CA", value_name = "FILE", global = true)]
    pub tlsca: Option<PathBuf>,
    /// Start with TLS before the server's greeting
    #[arg(long, env = "NATS_TLS_FIRST", value_parser = BoolishValueParser::new(), global = true)]
    pub tlsfirst: bool,
    /// Prefix of the subjects that answers come to
    #[arg(
        long,
        env = "REPULL_INBOX_PREFIX",
        value_name = "PREFIX",
        global = true
    )]
    pub inbox_prefix: Option<String>,
    /// JetStream domain
    #[arg(long, env = "NATS_JS_DOMAIN", value_name = "DOMAIN", global = true)]
    pub js_domain: Option<String>,
    /// Word that all names of this installation start with
    #[arg(
        long,
        env = "REPULL_NAMESPACE",
        value_name = "WORD",
        default_value_t,
        global = true
    )]
    pub namespace: Namespace,
}

/// Options with the context applied: what is really used.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Servers, separated by commas.
    pub servers: String,
    /// File of JWT credentials.
    pub creds: Option<PathBuf>,
    /// User name.
    pub user: Option<String>,
    /// Password.
    pub password: Option<String>,
    /// Token.
    pub token: Option<String>,
    /// File of an nkey seed.
    pub nkey: Option<PathBuf>,
    /// A user's JWT with its seed, as some contexts hold them.
    pub jwt: Option<(String, String)>,
    /// Client certificate.
    pub tls_cert: Option<PathBuf>,
    /// Its key.
    pub tls_key: Option<PathBuf>,
    /// The server's authority.
    pub tls_ca: Option<PathBuf>,
    /// TLS before the greeting.
    pub tls_first: bool,
    /// Prefix of inboxes.
    pub inbox_prefix: Option<String>,
    /// JetStream domain.
    pub jetstream_domain: Option<String>,
    /// The installation.
    pub namespace: Namespace,
}

/// Where a server is looked for when nothing names one.
pub const SERVER_DEFAULT: &str = "nats://127.0.0.1:4222";

impl ConnectArgs {
    /// Applies the named or selected context. A flag or variable overrides just its own field; a
    /// named server without a named context ignores the selected context.
    pub fn resolve(&self) -> Result<Settings, ConnectError> {
        let context = match (&self.context, &self.server) {
            (Some(name), _) => Some(Context::load(name)?),
            (None, Some(_)) => None,
            (None, None) => Context::selected()?,
        };
        self.over(context.unwrap_or_default())
    }

    /// The same without any context: for services, which are told all they need by variables.
    pub fn resolve_without_context(&self) -> Result<Settings, ConnectError> {
        match &self.context {
            Some(_) => self.resolve(),
            None => self.over(Context::default()),
        }
    }

    fn over(&self, context: Context) -> Result<Settings, ConnectError> {
        let file = |own: &Option<PathBuf>, theirs: &Option<String>| {
            own.clone()
                .or_else(|| theirs.as_deref().map(|path| PathBuf::from(expand(path))))
        };
        let mut settings = Settings {
            servers: self
                .server
                .clone()
                .or(context.url)
                .unwrap_or_else(|| SERVER_DEFAULT.to_owned()),
            creds: file(&self.creds, &context.creds),
            user: self.user.clone().or(context.user),
            password: self.password.clone().or(context.password),
            token: self.token.clone().or(context.token),
            nkey: file(&self.nkey, &context.nkey),
            jwt: context.user_jwt.zip(context.user_seed),
            tls_cert: file(&self.tlscert, &context.cert),
            tls_key: file(&self.tlskey, &context.key),
            tls_ca: file(&self.tlsca, &context.ca),
            tls_first: self.tlsfirst || context.tls_first,
            inbox_prefix: self.inbox_prefix.clone().or(context.inbox_prefix),
            jetstream_domain: self.js_domain.clone().or(context.jetstream_domain),
            namespace: self.namespace.clone(),
        };
        if settings.password.is_none()
            && let Some(token) = settings.user.take_if(|_| settings.token.is_none())
        {
            settings.token = Some(token);
        }
        if settings.tls_cert.is_some() != settings.tls_key.is_some() {
            return Err(ConnectError::Options(
                "a client certificate and its key go together, expected both `--tlscert` and `--tlskey`".to_owned(),
            ));
        }
        Ok(settings)
    }
}

impl Settings {
    /// Settings for these servers and nothing else.
    pub fn for_servers(servers: impl Into<String>) -> Self {
        Self {
            servers: servers.into(),
            ..Self::default()
        }
    }

    /// The servers' addresses.
    pub(super) fn addresses(&self) -> Result<Vec<ServerAddr>, ConnectError> {
        let addresses = self
            .servers
            .split(',')
            .map(str::trim)
            .filter(|server| !server.is_empty());
        let addresses: Vec<ServerAddr> = addresses
            .map(|server| {
                server.parse().map_err(|error| {
                    let server = redact(server);
                    ConnectError::Options(format!(
                        "server `{server}` is not an address ({error}), expected one such as `{SERVER_DEFAULT}`"
                    ))
                })
            })
            .collect::<Result<_, _>>()?;
        if addresses.is_empty() {
            return Err(ConnectError::Options(format!(
                "no server is named, expected one such as `{SERVER_DEFAULT}`"
            )));
        }
        Ok(addresses)
    }

    /// The addresses without the logins that they carry: the client logs what it is given, whole.
    pub(super) fn places(&self) -> Result<Vec<ServerAddr>, ConnectError> {
        let addresses = self.addresses()?.into_iter();
        Ok(addresses.map(without_login).collect())
    }

    /// Whether nothing but the addresses can say who we are.
    fn is_anonymous(&self) -> bool {
        self.user.is_none()
            && self.token.is_none()
            && self.creds.is_none()
            && self.nkey.is_none()
            && self.jwt.is_none()
    }

    /// The servers with passwords and tokens struck out, for messages.
    pub fn servers_redacted(&self) -> String {
        self.servers
            .split(',')
            .map(|server| format!("`{}`", redact(server.trim())))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// The file that says who we are, where it is one; a name with a password comes before it.
    fn proof(&self) -> Option<Proof> {
        if self.user.is_some() && self.password.is_some() {
            return None;
        }
        let nkey = || self.nkey.clone().map(Proof::Nkey);
        self.creds.clone().map(Proof::Creds).or_else(nkey)
    }

    pub(super) async fn options(&self) -> Result<ConnectOptions, ConnectError> {
        let proof = self.proof();
        let mut options = match &proof {
            Some(proof) => {
                // Tried once before, for a message that names the file.
                let answer = proof.answer(b"a challenge").await;
                answer.map_err(|source| file_error(proof.what(), proof.path(), source))?;
                proof.clone().options(self.token.clone())
            }
            None => ConnectOptions::new(),
        };
        if let (Some(user), Some(password)) = (&self.user, &self.password) {
            options = options.user_and_password(user.clone(), password.clone());
        } else if let (None, Some((jwt, seed))) = (&proof, &self.jwt) {
            let text = format!(
                "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
            );
            options = options.credentials(&text).map_err(|error| {
                ConnectError::Options(format!("the context's JWT and seed can't be used: {error}"))
            })?;
        }
        if let Some(token) = &self.token {
            options = options.token(token.clone());
        }
        if self.is_anonymous() {
            options = with_login_of(options, &self.addresses()?);
        }
        if let Some(ca) = &self.tls_ca {
            read(ca, "certificate authority").await?;
            options = options.add_root_certificates(ca.clone()).require_tls(true);
        }
        if let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) {
            read(cert, "client certificate").await?;
            read(key, "client key").await?;
            options = options
                .add_client_certificate(cert.clone(), key.clone())
                .require_tls(true);
        }
        if self.tls_first {
            options = options.tls_first();
        }
        if let Some(prefix) = &self.inbox_prefix {
            options = options.custom_inbox_prefix(prefix);
        }
        Ok(options)
    }
}

/// Applies the login that the first address with one carries: `nats://user:password@host` or
/// `nats://token@host`. The client reads addresses for where to connect to and nothing else.
fn with_login_of(options: ConnectOptions, addresses: &[ServerAddr]) -> ConnectOptions {
    let Some(address) = addresses.iter().find(|address| address.has_user_pass()) else {
        return options;
    };
    let user = percent_decoded(address.username().unwrap_or_default());
    match address.password() {
        Some(password) => options.user_and_password(user, percent_decoded(password)),
        None => options.token(user),
    }
}

/// The address alone. Where it can't be without a login it has none.
fn without_login(address: ServerAddr) -> ServerAddr {
    let mut url = address.clone().into_inner();
    let _ = (url.set_username(""), url.set_password(None));
    ServerAddr::from_url(url).unwrap_or(address)
}

/// Undoes `%40` and the like, without which a password can't hold the characters of an address.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(code.unwrap_or(byte));
        rest = &after[if code.is_some() { 2 } else { 0 }..];
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn read(path: &Path, what: &'static str) -> Result<String, ConnectError> {
    tokio::fs::read_to_string(path)
        .await
        .map_err(|source| file_error(what, path, source))
}

fn file_error(what: &'static str, path: &Path, source: std::io::Error) -> ConnectError {
    ConnectError::File {
        what,
        path: path.display().to_string(),
        source,
    }
}

/// Strikes out what stands before the `@` of an address, and what stands where its port should and is
/// none: the beginning of a password that holds a comma.
fn redact(server: &str) -> String {
    let start = server.find("://").map_or(0, |scheme| scheme + "://".len());
    let (scheme, rest) = server.split_at(start);
    if let Some(at) = rest.rfind('@') {
        return format!("{scheme}***{}", &rest[at..]);
    }
    let host_end = rest.rfind(']').unwrap_or_default();
    match rest[host_end..].split_once(':') {
        Some((_, port)) if !is_port(port) => {
            format!("{scheme}{}:***", &rest[..rest.len() - port.len() - 1])
        }
        _ => server.to_owned(),
    }
}

fn is_port(text: &str) -> bool {
    text.trim_end_matches('/')
        .bytes()
        .all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_addresses_are_struck_out() {
        let settings = Settings::for_servers("nats://me:secret@a:4222,nats://b:4222,token@c");
        let text = settings.servers_redacted();
        assert_eq!(text, "`nats://***@a:4222`, `nats://b:4222`, `***@c`");
    }

    #[test]
    fn a_password_with_a_comma_is_struck_out_in_both_its_parts() {
        let settings = Settings::for_servers("nats://me:secret,too@a:4222,nats://[::1]:4222/");
        let text = settings.servers_redacted();
        assert_eq!(text, "`nats://me:***`, `***@a:4222`, `nats://[::1]:4222/`");
        let error = settings.addresses().unwrap_err().to_string();
        assert!(
            error.contains("me:***") && !error.contains("secret"),
            "{error}"
        );
    }

    #[test]
    fn the_client_is_given_no_login_with_an_address() {
        let settings = Settings::for_servers("nats://me:secret@a:4222,tls://token@[::1],c");
        let places = settings.places().unwrap();
        let shown: Vec<&str> = places.iter().map(ServerAddr::as_url_str).collect();
        assert_eq!(shown, ["nats://a:4222", "tls://[::1]", "nats://c"]);
    }

    #[test]
    fn no_secret_of_the_environment_is_shown_by_the_help() {
        use clap::CommandFactory;
        #[derive(clap::Parser)]
        struct Program {
            #[command(flatten)]
            connect: ConnectArgs,
        }
        for id in ["server", "user", "password", "token"] {
            let command = Program::command();
            let argument = command.get_arguments().find(|arg| arg.get_id() == id);
            assert!(
                argument.is_some_and(|arg| arg.is_hide_env_values_set()),
                "{id}"
            );
        }
    }

    #[test]
    fn a_user_without_a_password_is_a_token() {
        let args = ConnectArgs {
            user: Some("t".into()),
            server: Some("nats://x".into()),
            ..ConnectArgs::default()
        };
        let settings = args.resolve().unwrap();
        assert_eq!((settings.user, settings.token), (None, Some("t".into())));
    }

    #[test]
    fn a_login_in_an_address_may_hold_any_character() {
        let address: ServerAddr = "nats://me:p%40ss%2fw%zz@x:4222".parse().unwrap();
        let password = address.password().map(percent_decoded);
        assert_eq!(password.as_deref(), Some("p@ss/w%zz"));
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        let args = ConnectArgs {
            tlscert: Some("c.pem".into()),
            server: Some("nats://x".into()),
            ..ConnectArgs::default()
        };
        assert!(args.resolve().unwrap_err().to_string().contains("--tlskey"));
    }
}
