//! The harness itself: faults that do not happen would let every other scenario pass for nothing.

use std::time::{Duration, Instant};

use async_nats::ConnectOptions;
use async_nats::jetstream::{self, stream};
use futures_util::StreamExt;
use repull_tests::{
    Cluster, DEADLINE, FakeServer, Interceptor, Message, Metrics, NatsServer, Proxy, Toward,
    Verdict, World, eventually, matches,
};

async fn stream_with_one_message(client: &async_nats::Client, replicas: usize) {
    let jetstream = jetstream::new(client.clone());
    let config = stream::Config {
        name: "ONE".to_owned(),
        subjects: vec!["one.>".to_owned()],
        num_replicas: replicas,
        ..stream::Config::default()
    };
    jetstream.create_stream(config).await.unwrap();
    let ack = jetstream.publish("one.a", "1".into()).await.unwrap();
    ack.await.unwrap();
}

async fn messages(client: &async_nats::Client) -> Option<u64> {
    let jetstream = jetstream::new(client.clone());
    let stream = jetstream.get_stream("ONE").await.ok()?;
    Some(stream.cached_info().state.messages)
}

/// A client that notices a dead peer soon and never gives up.
async fn patient_client(url: &str) -> async_nats::Client {
    ConnectOptions::new()
        .ping_interval(Duration::from_millis(200))
        .reconnect_delay_callback(|_| Duration::from_millis(50))
        .connect(url)
        .await
        .unwrap()
}

/// Whether the server answers a request for its own round trip.
async fn answers(client: &async_nats::Client, within: Duration) -> bool {
    let request = client.request("$JS.API.INFO", "".into());
    matches!(tokio::time::timeout(within, request).await, Ok(Ok(_)))
}

#[tokio::test]
async fn restarted_server_keeps_its_port_and_its_stream() {
    let mut server = NatsServer::start().await;
    let client = patient_client(&server.url()).await;
    stream_with_one_message(&client, 1).await;

    server.kill().await;
    server.restart().await;
    let kept = eventually(DEADLINE, "the stream is back", async || {
        messages(&client).await
    })
    .await;
    assert_eq!(kept, 1);

    server.restart_empty().await;
    eventually(DEADLINE, "the stream is gone", async || {
        let connected = answers(&client, Duration::from_secs(5)).await;
        (connected && messages(&client).await.is_none()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn paused_server_answers_when_it_is_resumed() {
    let mut server = NatsServer::start().await;
    let client = server.connect().await;
    assert!(answers(&client, DEADLINE).await);

    server.pause();
    assert!(!answers(&client, Duration::from_millis(300)).await);
    server.resume();
    assert!(answers(&client, DEADLINE).await);
}

#[tokio::test]
async fn reloaded_server_obeys_its_new_configuration() {
    let mut server = NatsServer::builder()
        .config("max_payload: 1000")
        .start()
        .await;
    assert_eq!(server.connect().await.server_info().max_payload, 1000);
    server.reload("max_payload: 2000").await;
    assert_eq!(server.connect().await.server_info().max_payload, 2000);
}

#[tokio::test]
async fn stalled_proxy_holds_a_ping_until_it_is_restored() {
    let server = NatsServer::start().await;
    let proxy = Proxy::to(&server.address());
    let client = async_nats::connect(proxy.url()).await.unwrap();
    assert!(answers(&client, DEADLINE).await);

    let stalls: [fn(&Proxy); 3] = [Proxy::stall, Proxy::stall_to_client, Proxy::stall_to_server];
    for stall in stalls {
        stall(&proxy);
        assert!(!answers(&client, Duration::from_millis(300)).await);
        proxy.restore();
        assert!(answers(&client, DEADLINE).await);
    }
    assert_eq!(proxy.accepted(), 1, "a stall must not close the connection");
}

#[tokio::test]
async fn one_way_stall_lets_the_other_way_pass() {
    let server = NatsServer::start().await;
    let proxy = Proxy::to(&server.address());
    let behind = async_nats::connect(proxy.url()).await.unwrap();
    let direct = server.connect().await;
    let mut heard = direct.subscribe("from.behind").await.unwrap();
    direct.flush().await.unwrap();
    assert!(answers(&direct, DEADLINE).await);

    proxy.stall_to_client();
    behind.publish("from.behind", "x".into()).await.unwrap();
    let message = tokio::time::timeout(DEADLINE, heard.next()).await;
    assert!(message.unwrap().is_some());
    assert!(!answers(&behind, Duration::from_millis(300)).await);
}

#[tokio::test]
async fn cut_proxy_refuses_until_it_is_restored() {
    let server = NatsServer::start().await;
    let proxy = Proxy::to(&server.address());
    let client = patient_client(&proxy.url()).await;
    assert!(answers(&client, DEADLINE).await);

    proxy.cut();
    proxy.wait_for_connections(0).await;
    eventually(DEADLINE, "the proxy refuses connections", async || {
        let refused = tokio::net::TcpStream::connect(proxy.address()).await;
        refused.is_err().then_some(())
    })
    .await;
    let accepted = proxy.accepted();
    proxy.restore();
    eventually(DEADLINE, "the client is back", async || {
        answers(&client, Duration::from_secs(1)).await.then_some(())
    })
    .await;
    assert!(proxy.accepted() > accepted);

    let accepted = proxy.accepted();
    proxy.cut_once();
    eventually(DEADLINE, "the client connects again", async || {
        (proxy.accepted() > accepted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn slow_proxy_delays_and_throttles() {
    let server = NatsServer::start().await;
    let proxy = Proxy::to(&server.address());
    let client = async_nats::connect(proxy.url()).await.unwrap();
    assert!(answers(&client, DEADLINE).await);

    proxy.delay(Duration::from_millis(150));
    let started = Instant::now();
    assert!(answers(&client, DEADLINE).await);
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(300), "only {waited:?}");

    proxy.restore();
    proxy.throttle(20_000);
    let started = Instant::now();
    client
        .publish("bulk", vec![0; 10_000].into())
        .await
        .unwrap();
    assert!(answers(&client, DEADLINE).await);
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(400), "only {waited:?}");
}

#[tokio::test]
async fn cluster_elects_steps_down_and_survives_a_node() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.connect().await;
    stream_with_one_message(&client, 3).await;

    let before = cluster.stream_leader("ONE").await;
    let after = cluster.step_down("ONE").await;
    assert_ne!(before, after);

    cluster.kill_node(after).await;
    eventually(
        DEADLINE,
        "the stream has a leader without the lost node",
        async || {
            let leader = cluster.stream_leader("ONE").await;
            (leader != after).then_some(())
        },
    )
    .await;
    cluster.restart_node(after).await;
    cluster.wait_current("ONE").await;
    assert_eq!(messages(&client).await, Some(1));

    let before = cluster.meta_leader().await;
    assert_ne!(cluster.meta_step_down().await, before);
}

#[tokio::test]
async fn fake_server_answers_a_scripted_pull() {
    let fake = FakeServer::start(|message| {
        if message.subject.starts_with("$JS.API.CONSUMER.MSG.NEXT.") {
            return Verdict::status(message, 409, "Never Heard Of");
        }
        Verdict::Pass
    });
    let client = async_nats::connect(fake.url()).await.unwrap();

    let pull = "$JS.API.CONSUMER.MSG.NEXT.JOBS.default";
    let answer = client.request(pull, "1".into()).await.unwrap();
    assert_eq!(answer.status.unwrap().as_u16(), 409);
    assert_eq!(answer.description.as_deref(), Some("Never Heard Of"));
    let asked = fake.wait_for(pull, 1, DEADLINE).await;
    assert_eq!(asked[0].text(), "1");

    let nobody = client.request("nobody.listens", "".into()).await;
    let error = nobody.unwrap_err().to_string();
    assert!(error.contains("no responders"), "{error}");
}

#[tokio::test]
async fn fake_server_routes_what_its_script_lets_pass() {
    let fake = FakeServer::start(|_| Verdict::Pass);
    let client = async_nats::connect(fake.url()).await.unwrap();
    let mut heard = client.subscribe("a.*").await.unwrap();
    client.publish("a.b", "hello".into()).await.unwrap();
    let message = tokio::time::timeout(DEADLINE, heard.next()).await.unwrap();
    assert_eq!(message.unwrap().payload, "hello");

    let forged = Message::new("a.c", "forged").with_header("Kind", "x");
    assert_eq!(fake.deliver(&forged), 1);
    let message = tokio::time::timeout(DEADLINE, heard.next()).await.unwrap();
    let headers = message.unwrap().headers.unwrap();
    assert_eq!(headers.get("Kind").unwrap().as_str(), "x");
}

#[tokio::test]
async fn interceptor_swallows_one_message_and_forges_another() {
    let server = NatsServer::start().await;
    let interceptor = Interceptor::before(&server.address());
    let client = async_nats::connect(interceptor.url()).await.unwrap();
    stream_with_one_message(&client, 1).await;
    let before = server.connect().await;

    interceptor.judge(|toward, message| match toward {
        Toward::Server if message.subject == "one.lost" => Verdict::Swallow,
        Toward::Server if message.subject == "one.refused" => {
            Verdict::status(message, 503, "No Responders")
        }
        _ => Verdict::Pass,
    });
    let jetstream = jetstream::new(client.clone());
    let _lost = jetstream.publish("one.lost", "".into()).await.unwrap();
    let refused = jetstream.publish("one.refused", "".into()).await.unwrap();
    assert!(refused.await.is_err());
    assert_eq!(interceptor.seen(Toward::Server, "one.*").len(), 3);
    assert_eq!(messages(&before).await, Some(1));

    interceptor.let_pass();
    let stored = jetstream.publish("one.refused", "".into()).await.unwrap();
    assert_eq!(stored.await.unwrap().sequence, 2);
}

#[test]
fn subjects_match_as_nats_matches_them() {
    assert!(matches("a.*.c", "a.b.c"));
    assert!(matches("a.>", "a.b.c"));
    assert!(matches(">", "a"));
    assert!(!matches("a.>", "a"));
    assert!(!matches("a.*", "a.b.c"));
    assert!(!matches("a.b", "a"));
}

#[test]
fn metrics_are_read_as_prometheus_writes_them() {
    let metrics = Metrics::parse(
        "# TYPE jobs counter\n\
         jobs_total{queue=\"a b\",outcome=\"ok\"} 3\n\
         jobs_total{queue=\"c\",outcome=\"ok\"} 4 1700000000\n\
         slots 2.5\n# EOF\n",
    );
    assert_eq!(metrics.value("jobs_total"), 7.0);
    assert_eq!(metrics.sum("jobs_total", &[("queue", "a b")]), Some(3.0));
    assert_eq!(metrics.sum("jobs_total", &[("queue", "a")]), None);
    assert_eq!(metrics.value("slots"), 2.5);
}

#[tokio::test]
async fn world_has_its_streams_when_it_starts() {
    let world = World::builder().namespace("mine").start().await;
    let streams: Vec<String> = world
        .jetstream()
        .stream_names()
        .filter_map(async |name| name.ok())
        .collect()
        .await;
    assert!(
        streams.iter().any(|name| name == "MINE_JOBS"),
        "{streams:?}"
    );
    assert!(!streams.iter().any(|name| name.starts_with("REPULL_")));
}

#[tokio::test]
async fn world_of_a_cluster_keeps_its_streams_on_every_node() {
    let world = World::builder().cluster(3).proxied().start().await;
    world.cluster().wait_current("REPULL_JOBS").await;
    assert_eq!(world.proxies().len(), 3);
    let client = world.connect_to(&world.url()).await;
    assert!(answers(client.nats(), DEADLINE).await);
    let through: u64 = world.proxies().iter().map(Proxy::accepted).sum();
    assert_eq!(through, 1);
}

#[tokio::test]
async fn command_of_a_world_reports_its_exit_code_and_both_outputs() {
    let world = World::builder().without_topology().start().await;
    let version = world.cli(&["--version"]).await.success();
    assert!(version.stdout.starts_with("repull "), "{version}");
    let wrong = world.cli(&["--no-such-flag"]).await.code(2);
    assert!(wrong.stdout.is_empty(), "{wrong}");
    assert!(wrong.stderr.contains("no-such-flag"), "{wrong}");
}
