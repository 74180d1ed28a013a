//! TLS, and every way to prove who one is: with each the whole installation works under the roles of
//! `deploy/nats`, and whoever proves the wrong thing is refused and told so.
//!
//! Certificates, nkeys and JWTs are made anew by each test.

mod tokens;

use std::path::{Path, PathBuf};

use async_nats::ConnectOptions;
use futures_util::StreamExt;
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyUsagePurpose};
use repull_tests::{Binary, DEADLINE, NatsServer, Output, Process, ProcessBuilder, repository};
use serde_json::{Value, json};
use tempfile::TempDir;

use tokens::{claims, claims_of, creds, token};

fn deployed(name: &str) -> String {
    let path = repository().join("deploy/nats").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}

/// A process of a role, with these variables beside the usual ones.
fn process(binary: Binary, role: &str, url: &str, proof: &[(&str, PathBuf)]) -> ProcessBuilder {
    let process = Process::builder(binary)
        .env("NATS_URL", url)
        .env("REPULL_INBOX_PREFIX", format!("_INBOX_{role}"));
    let process = match binary {
        Binary::Worker | Binary::Scheduler => process.env("REPULL_HTTP", "127.0.0.1:0"),
        Binary::Cli | Binary::Example(_) => process,
    };
    proof
        .iter()
        .fold(process, |process, (name, value)| process.env(name, value))
}

/// A scheduler, a worker and an operator work together, each by its own proof.
async fn assert_all_work(
    server: &NatsServer,
    url: &str,
    proof: impl Fn(&str) -> Vec<(&'static str, PathBuf)>,
) {
    let start = async |binary, role: &str| process(binary, role, url, &proof(role)).start().await;
    let mut scheduler = start(Binary::Scheduler, "scheduler").await;
    let mut worker = start(Binary::Worker, "worker").await;
    let submit = [
        "job",
        "submit",
        "fail",
        "{\"times\": 1}",
        "--backoff",
        "10ms,1,20ms",
        "--wait",
    ];
    let submitted = process(Binary::Cli, "operator", url, &proof("operator"));
    let _ = submitted.args(submit).run(b"").await.success();
    worker.stop().await;
    scheduler.stop().await;
    let mut refused = server.logs();
    refused.retain(|line| line.contains("Violation"));
    assert!(refused.is_empty(), "refused:\n{}", refused.join("\n"));
}

/// What a command says that is not let in.
async fn refused(url: &str, proof: &[(&str, PathBuf)]) -> Output {
    let command = process(Binary::Cli, "operator", url, proof).args(["queue", "list"]);
    command.run(b"").await.code(1)
}

#[track_caller]
fn assert_says(output: &Output, part: &str) {
    assert!(output.stderr.contains(part), "no `{part}` in {output}");
}

/// An authority, and the folder in which its certificates lie.
struct Authority {
    issuer: Issuer<'static, rcgen::KeyPair>,
    certificate: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    /// Writes `<name>.crt` and `<name>.key`, good for 127.0.0.1, and the authority's own `ca.crt`.
    fn issue(&self, folder: &Path, name: &str) -> Vec<(&'static str, PathBuf)> {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        vec![
            ("NATS_CA", file(folder, "ca.crt", &self.certificate)),
            (
                "NATS_CERT",
                file(folder, &format!("{name}.crt"), &certificate),
            ),
            (
                "NATS_KEY",
                file(folder, &format!("{name}.key"), &key.serialize_pem()),
            ),
        ]
    }
}

/// A server with the shipped TLS settings, whose files lie in that folder.
async fn server_with_tls(folder: &Path) -> (NatsServer, String) {
    let config = deployed("tls.conf").replace("./tls/", &format!("{}/", folder.display()));
    let server = NatsServer::builder().config(&config).start().await;
    let url = format!("tls://{}", server.address());
    (server, url)
}

#[tokio::test]
async fn with_mutual_tls_all_work_and_who_has_no_certificate_is_refused() {
    let folder = folder();
    let ours = Authority::new();
    ours.issue(folder.path(), "tls");
    let (server, url) = server_with_tls(folder.path()).await;
    let client = ours.issue(folder.path(), "client");
    assert_all_work(&server, &url, |_| client.clone()).await;

    let without = refused(&url, &client[..1]).await;
    assert_says(&without, "no connection to NATS");
    let elsewhere = tempfile::tempdir().unwrap();
    let others = Authority::new().issue(elsewhere.path(), "client");
    let foreign = [&client[..1], &others[1..]].concat();
    assert_says(&refused(&url, &foreign).await, "no connection to NATS");
    // The server's own certificate is checked too.
    let fooled = refused(&url, &others).await;
    assert_says(&fooled, "invalid peer certificate");
}

/// Renewal needs no restart: the files are read at each connect.
#[tokio::test]
async fn renewed_certificates_are_used_at_the_next_connect() {
    let folder = folder();
    let first = Authority::new();
    first.issue(folder.path(), "tls");
    let (mut server, url) = server_with_tls(folder.path()).await;
    let client = first.issue(folder.path(), "client");
    let _scheduler = process(Binary::Scheduler, "scheduler", &url, &client)
        .start()
        .await;
    let mut worker = process(Binary::Worker, "worker", &url, &client)
        .start()
        .await;
    server.stop().await;

    let second = Authority::new();
    second.issue(folder.path(), "tls");
    second.issue(folder.path(), "client");
    server.restart().await;

    worker.wait_until_ready().await;
    worker.stop().await;
}

#[tokio::test]
async fn with_an_nkey_for_each_role_all_work_and_another_one_is_refused() {
    let folder = folder();
    let mut config = String::new();
    for role in [
        "producer",
        "worker",
        "scheduler",
        "operator",
        "observer",
        "admin",
        "sys",
    ] {
        let key = KeyPair::new_user();
        file(folder.path(), &format!("{role}.seed"), &key.seed().unwrap());
        config += &format!(
            "REPULL_{}_NKEY: {}\n",
            role.to_uppercase(),
            key.public_key()
        );
    }
    let include = "include \"permissions.conf\"";
    config += &deployed("accounts-nkey.conf").replace(include, &deployed("permissions.conf"));
    let server = NatsServer::builder().config(&config).start().await;
    let seed = |name: &str| vec![("NATS_NKEY", folder.path().join(format!("{name}.seed")))];
    assert_all_work(&server, &server.url(), seed).await;

    let stranger = KeyPair::new_user().seed().unwrap();
    file(folder.path(), "stranger.seed", &stranger);
    let output = refused(&server.url(), &seed("stranger")).await;
    assert_says(&output, "refused the credentials");
    assert!(!output.stderr.contains(stranger.trim()), "{output}");
    file(folder.path(), "broken.seed", "SUAGARBAGE");
    let output = refused(&server.url(), &seed("broken")).await;
    assert_says(&output, "no valid nkey seed");
    assert!(!output.stderr.contains("SUAGARBAGE"), "{output}");
}

/// A server in operator mode, with a signing key for each role.
struct OperatorMode {
    server: NatsServer,
    folder: TempDir,
    account: KeyPair,
    roles: [(&'static str, KeyPair); 3],
}

impl OperatorMode {
    async fn start() -> Self {
        let (operator, system, account) = (
            KeyPair::new_operator(),
            KeyPair::new_account(),
            KeyPair::new_account(),
        );
        let limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
            "conn": -1, "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
        });
        // One signing key a role, with the role's lists: in a user's own token they would be longer than
        // what a server reads of a client that it does not know yet.
        let roles = ["scheduler", "worker", "operator"].map(|role| (role, KeyPair::new_account()));
        let scopes = roles.iter().map(|(role, key)| {
            json!({"kind": "user_scope", "key": key.public_key(), "role": role, "template": claims_of(role)})
        });
        let scopes: Vec<Value> = scopes.collect();
        let accounts = [
            token(
                &operator,
                &system.public_key(),
                "account",
                json!({"limits": {
                    "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
                    "conn": -1, "leaf": -1,
                }}),
            ),
            token(
                &operator,
                &account.public_key(),
                "account",
                json!({"limits": limits, "signing_keys": scopes}),
            ),
        ];
        let config = format!(
            "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{\n{}: {}\n{}: {}\n}}\n",
            token(
                &operator,
                &operator.public_key(),
                "operator",
                json!({"system_account": system.public_key()})
            ),
            system.public_key(),
            system.public_key(),
            accounts[0],
            account.public_key(),
            accounts[1],
        );
        Self {
            server: NatsServer::builder().config(&config).start().await,
            folder: folder(),
            account,
            roles,
        }
    }

    /// Writes a role's credentials, good until then if that is given.
    fn issue(&self, role: &str, until: Option<chrono::DateTime<chrono::Utc>>) {
        let user = KeyPair::new_user();
        let mut rights = json!({"issuer_account": self.account.public_key()});
        if let Some(until) = until {
            rights["exp"] = until.timestamp().into();
        }
        let key = self.roles.iter().find(|(name, _)| *name == role);
        let token = token(&key.unwrap().1, &user.public_key(), "user", rights);
        creds(self.folder.path(), role, &token, &user);
    }

    fn proof(&self, role: &str) -> Vec<(&'static str, PathBuf)> {
        let file = self.folder.path().join(format!("{role}.creds"));
        vec![("NATS_CREDS", file)]
    }
}

#[tokio::test]
async fn with_credentials_of_operator_mode_all_work_and_those_of_another_account_are_refused() {
    let mode = OperatorMode::start().await;
    let url = mode.server.url();
    for (role, _) in &mode.roles {
        mode.issue(role, None);
    }
    assert_all_work(&mode.server, &url, |role| mode.proof(role)).await;

    let (user, stranger) = (KeyPair::new_user(), KeyPair::new_account());
    let rights = json!({"issuer_account": mode.account.public_key()});
    let token = token(&stranger, &user.public_key(), "user", rights);
    creds(mode.folder.path(), "stranger", &token, &user);
    let output = refused(&url, &mode.proof("stranger")).await;
    assert_says(&output, "refused the credentials");
    assert!(!output.stderr.contains(&token), "{output}");

    file(mode.folder.path(), "stranger.creds", "no credentials");
    let output = refused(&url, &mode.proof("stranger")).await;
    assert_says(&output, "stranger.creds");
    assert_says(&output, "no user JWT");
}

/// The server ends a connection when its token expires.
#[tokio::test]
async fn renewed_credentials_are_used_at_the_next_connect() {
    let mode = OperatorMode::start().await;
    let url = mode.server.url();
    mode.issue("scheduler", None);
    let mut scheduler = process(
        Binary::Scheduler,
        "scheduler",
        &url,
        &mode.proof("scheduler"),
    )
    .start()
    .await;
    let soon = chrono::Utc::now() + chrono::TimeDelta::seconds(15);
    mode.issue("worker", Some(soon));
    let mut worker = process(Binary::Worker, "worker", &url, &mode.proof("worker"))
        .start()
        .await;
    mode.issue("worker", None);

    worker
        .wait_for_line("User Authentication Expired", DEADLINE)
        .await;
    worker
        .wait_for_metric("repull_worker_reconnects_total", "it is back", |n| n >= 1.0)
        .await;
    worker.wait_until_ready().await;
    worker.stop().await;
    scheduler.stop().await;
}

/// Answers the server's questions who somebody is: whoever has the password of the role's name gets
/// the role's permissions.
async fn answer_callouts(service: async_nats::Client, issuer: KeyPair) {
    let mut questions = service.subscribe("$SYS.REQ.USER.AUTH").await.unwrap();
    service.flush().await.unwrap();
    tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let asked = claims(std::str::from_utf8(&question.payload).unwrap());
            let (given, key) = (
                &asked["nats"]["connect_opts"],
                asked["nats"]["user_nkey"].as_str().unwrap(),
            );
            let role = given["user"].as_str().unwrap_or_default();
            let mut answer = if given["pass"] == format!("{role}-by-callout") {
                let mut rights = claims_of(role);
                rights["aud"] = "REPULL".into();
                json!({"jwt": token(&issuer, key, "user", rights)})
            } else {
                json!({"error": "nobody of that name and password"})
            };
            answer["aud"] = asked["nats"]["server_id"]["id"].clone();
            let answer = token(&issuer, key, "authorization_response", answer);
            let to = question.reply.expect("a question");
            service.publish(to, answer.into()).await.unwrap();
        }
    });
}

#[tokio::test]
async fn by_an_auth_callout_all_work_and_who_is_refused_by_it_is_told() {
    let issuer = KeyPair::new_account();
    let config = format!(
        "accounts {{\nAUTH: {{users: [{{user: callout, password: callout}}]}}\nREPULL: {{jetstream: enabled}}\nSYS: {{}}\n}}\nsystem_account: SYS\nauthorization {{auth_callout {{issuer: {}, auth_users: [callout], account: AUTH}}}}",
        issuer.public_key()
    );
    let server = NatsServer::builder().config(&config).start().await;
    let service = ConnectOptions::with_user_and_password("callout".into(), "callout".into());
    answer_callouts(service.connect(server.url()).await.unwrap(), issuer).await;
    let proof = |role: &str| {
        vec![
            ("NATS_USER", PathBuf::from(role)),
            ("NATS_PASSWORD", PathBuf::from(format!("{role}-by-callout"))),
        ]
    };
    assert_all_work(&server, &server.url(), proof).await;

    let wrong = [
        proof("operator")[0].clone(),
        ("NATS_PASSWORD", PathBuf::from("wrong-one")),
    ];
    let output = refused(&server.url(), &wrong).await;
    assert_says(&output, "refused the credentials");
    assert!(!output.stderr.contains("wrong-one"), "{output}");
}
