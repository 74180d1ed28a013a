//! Clients that will not recover: the process must end, with a reason and a status that says so, for
//! whoever restarts it. Also that nothing of the kind happens in health.

use std::time::Duration;

use repull_tests::{DEADLINE, Process, Toward, Verdict, World, WorldBuilder};

use super::{PULLS, assert_watchdog_rested, sleeper, wait_promised, wait_status};

/// The shortest time that the watchdog can be told; the process ends after three times this.
const WATCHDOG: Duration = Duration::from_secs(13);

fn watchdog() -> String {
    format!("{}s", WATCHDOG.as_secs())
}

async fn ends_because(worker: &mut Process, reason: &str) {
    let status = worker.wait_exit(5 * WATCHDOG).await;
    assert_eq!(status.code(), Some(1), "it ended with {status}");
    let log = worker.stderr();
    assert!(log.contains(reason), "no `{reason}` in:\n{log}");
}

const BOTH: &str = "accounts { \
     JOBS { jetstream: enabled, users: [{ user: admin, password: a }, { user: worker, password: w }] } \
     } \n no_auth_user: admin";
const WITHOUT_WORKER: &str = "accounts { \
     JOBS { jetstream: enabled, users: [{ user: admin, password: a }] } \
     } \n no_auth_user: admin";

fn with_users(builder: WorldBuilder) -> WorldBuilder {
    builder.server_config(BOTH)
}

/// C-8. Credentials that are taken away: the client would try for ever.
#[tokio::test]
async fn a_worker_whose_credentials_are_revoked_ends_with_the_reason() {
    let mut world = with_users(World::builder()).start().await;
    let url = world.server().url_as("worker", "w");
    let mut worker = world
        .worker()
        .url(&url)
        .env("REPULL_WATCHDOG", &watchdog())
        .start()
        .await;

    world.server_mut().reload(WITHOUT_WORKER).await;

    wait_status(&mut worker, "/readyz", 503).await;
    ends_because(&mut worker, "refused the credentials").await;
}

/// Credentials that are refused for a moment only, as while a configuration is rolled out.
#[tokio::test]
async fn a_worker_whose_credentials_come_back_goes_on() {
    let mut world = with_users(World::builder()).start().await;
    let url = world.server().url_as("worker", "w");
    let mut worker = world.worker().url(&url).start().await;

    world.server_mut().reload(WITHOUT_WORKER).await;
    wait_status(&mut worker, "/readyz", 503).await;
    worker
        .wait_for_line("refused our credentials", DEADLINE)
        .await;
    world.server_mut().reload(BOTH).await;

    wait_status(&mut worker, "/readyz", 200).await;
    super::assert_all_free(&world, &mut worker).await;
}

/// C-6, C-5. The connection lives, heartbeats of the worker itself go out, and its pulls go nowhere:
/// the watchdog tries a new inbox, then a new connection, and then ends the process.
#[tokio::test]
async fn a_worker_whose_pulls_go_nowhere_ends_with_the_class_of_the_fault() {
    let world = World::builder().intercepted().start().await;
    let mut worker = world
        .worker()
        .slots(2)
        .env("REPULL_WATCHDOG", &watchdog())
        .start()
        .await;
    world.interceptor().judge(|toward, message| {
        if toward == Toward::Server && message.subject == PULLS {
            return Verdict::Swallow;
        }
        Verdict::Pass
    });
    // The pull of before is used up by the first job; nothing brings the second.
    let jobs = [
        sleeper(&world, 0).await,
        sleeper(&world, 0).await,
        sleeper(&world, 0).await,
    ];
    repull_tests::outcome(world.client(), &jobs[0], DEADLINE).await;

    worker
        .wait_for_metric("repull_worker_watchdog_actions_total", "it acted", |n| {
            n >= 1.0
        })
        .await;
    let (alive, _) = worker.http("/healthz").await;
    assert_eq!(alive, 200, "the process itself is well until it gives up");
    ends_because(&mut worker, "backlog_not_delivered").await;

    world.interceptor().let_pass();
    let mut next = world.worker().slots(2).start().await;
    super::assert_each_succeeded_once(&world, &jobs, DEADLINE).await;
    super::assert_all_free(&world, &mut next).await;
}

/// The account loses its JetStream, or all its streams, for good: nobody will ever answer a pull.
#[tokio::test]
async fn a_worker_that_can_never_have_its_consumer_ends_with_the_reason() {
    const WITHOUT_JETSTREAM: &str = "accounts { \
         JOBS { users: [{ user: admin, password: a }, { user: worker, password: w }] } \
         } \n no_auth_user: admin";
    let mut world = with_users(World::builder()).start().await;
    let url = world.server().url_as("worker", "w");
    let mut worker = world
        .worker()
        .url(&url)
        .env("REPULL_WATCHDOG", &watchdog())
        .start()
        .await;
    wait_promised(&mut worker, 100).await;

    world.server_mut().reload(WITHOUT_JETSTREAM).await;

    wait_status(&mut worker, "/readyz", 503).await;
    ends_because(&mut worker, "the watchdog ended the worker").await;
}

/// E-8. In health the watchdog rests, idle or not, and an idle worker's one pull is kept alive by its
/// heartbeats.
#[tokio::test]
async fn an_idle_worker_in_health_needs_no_watchdog_and_one_pull() {
    let world = World::start().await;
    let mut worker = world
        .worker()
        .env("REPULL_WATCHDOG", &watchdog())
        .start()
        .await;
    worker
        .wait_for_metric(
            "repull_worker_pull_statuses_total",
            "heartbeats came for longer than the watchdog waits",
            |heartbeats| heartbeats >= 3.0,
        )
        .await;
    let metrics = worker.metrics().await;
    assert_eq!(metrics.value("repull_worker_pulls_total"), 1.0);
    assert_watchdog_rested(&mut worker).await;
}
