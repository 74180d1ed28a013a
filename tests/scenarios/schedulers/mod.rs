//! Schedulers under faults: each fire becomes one job, whatever happens to schedulers, to their
//! network, to their clocks and to the servers.
//!
//! Hundreds of fires a second go on while the fault happens and after it. The stream sequences of
//! the jobs are held against the listing of the triggers: a fire without a job is lost, one with two
//! is doubled. The jobs are taken as they come, so that neither the work queue nor the subject of a
//! job that is still there refuses a second one by itself.

mod crew;
mod endurance;
mod load;

use chrono::TimeDelta;
use repull_tests::{DEADLINE, Toward, Verdict, World};

use crew::Crew;
use load::Load;

/// Pairs of schedules: eleven fires a second each.
const PAIRS: usize = 20;

/// Fires before and after a fault.
const SOME: usize = 200;

#[tokio::test]
async fn leaders_killed_one_after_the_other_lose_and_double_no_fire() {
    let world = World::start().await;
    let mut crew = Crew::start(&world, 3, 1).await;
    let load = Load::start(&world, PAIRS).await;
    for _ in 0..2 {
        load.goes_on_for(SOME).await;
        let leader = crew.leader().await;
        crew.kill(leader).await;
    }
    assert!(load.check().await > 2 * SOME);
}

#[tokio::test]
async fn shards_whose_leaders_are_killed_and_frozen_lose_and_double_no_fire() {
    let world = World::start().await;
    let mut crew = Crew::start(&world, 3, 5).await;
    let load = Load::start(&world, PAIRS).await;
    load.goes_on_for(SOME).await;
    let leader = crew.leader().await;
    crew.freeze(leader).await;
    load.goes_on_for(SOME).await;
    let leader = crew.leader().await;
    crew.kill(leader).await;
    assert!(load.check().await > 2 * SOME);
}

#[tokio::test]
async fn frozen_leaders_that_wake_up_beside_their_successors_lose_and_double_no_fire() {
    let world = World::start().await;
    let mut crew = Crew::start(&world, 2, 1).await;
    let load = Load::start(&world, PAIRS).await;
    for _ in 0..3 {
        load.goes_on_for(SOME).await;
        let leader = crew.leader().await;
        crew.freeze(leader).await;
    }
    assert!(load.check().await > 3 * SOME);
}

/// What a silent network held back reaches the server after the successor has begun.
#[tokio::test]
async fn a_leader_cut_off_in_silence_and_connected_again_loses_and_doubles_no_fire() {
    let world = World::start().await;
    let proxy = world.another_proxy();
    let mut crew = Crew::start(&world, 0, 1).await;
    let first = crew.join(|scheduler| scheduler.url(&proxy.url())).await;
    let load = Load::start(&world, PAIRS).await;
    crew.join(|scheduler| scheduler).await;
    load.goes_on_for(SOME).await;
    proxy.stall();
    crew.without(first).await;
    load.goes_on_for(SOME).await;
    proxy.restore();
    crew.back(first);
    crew.is_led().await;
    load.goes_on_for(SOME).await;
    // And the other way round: answers do not come, what is published does arrive.
    let leader = crew.leader().await;
    assert_ne!(leader, first, "the lease went back");
    crew.process(leader).pause();
    crew.without(leader).await;
    proxy.stall_to_client();
    crew.process(leader).resume();
    crew.back(leader);
    crew.without(first).await;
    proxy.restore();
    crew.back(first);
    assert!(load.check().await > 3 * SOME);
}

/// The watermark says what is stored, not what was sent: it goes on being written while what is
/// published gets lost, and the successor of a leader that dies then makes up for all of it.
#[tokio::test]
async fn fires_that_were_lost_on_their_way_are_made_up_for_by_the_successor() {
    let world = World::builder().intercepted().start().await;
    let mut crew = Crew::start(&world, 1, 1).await;
    let load = Load::start(&world, PAIRS).await;
    crew.join(|scheduler| scheduler.url(&world.server_url()))
        .await;
    load.goes_on_for(SOME).await;
    let interceptor = world.interceptor();
    interceptor.judge(|toward, message| {
        let is_job = message.subject.starts_with("repull.jobs.");
        match toward == Toward::Server && is_job {
            true => Verdict::Swallow,
            false => Verdict::Pass,
        }
    });
    let marks = "$KV.REPULL_WATERMARK.>";
    let written = interceptor.seen(Toward::Server, marks).len();
    interceptor
        .wait_for(Toward::Server, marks, written + 3, DEADLINE)
        .await;
    crew.kill(0).await;
    assert!(load.check().await > SOME);
}

#[tokio::test]
async fn a_clock_set_forward_and_back_loses_and_doubles_no_fire() {
    let world = World::start().await;
    let clock = world.clock();
    let mut crew = Crew::start(&world, 0, 1).await;
    let first = crew.join(|scheduler| scheduler.clock(&clock)).await;
    let load = Load::start(&world, PAIRS).await;
    load.goes_on_for(SOME).await;
    for seconds in [6, -3, 0] {
        clock.set(TimeDelta::seconds(seconds));
        load.goes_on_for(SOME).await;
    }
    // A successor whose clock is right goes on where one ahead of it stopped.
    crew.join(|scheduler| scheduler).await;
    clock.set(TimeDelta::seconds(6));
    load.goes_on_for(6 * 11 * PAIRS).await;
    crew.process(first)
        .wait_for_line("ahead of the NATS server's", DEADLINE)
        .await;
    crew.kill(first).await;
    assert!(load.check().await > 5 * SOME);
}

#[tokio::test]
async fn a_cluster_whose_leader_of_jobs_is_killed_while_fires_are_published_loses_and_doubles_none()
{
    let mut world = World::builder().cluster(3).start().await;
    let mut crew = Crew::start(&world, 2, 1).await;
    let load = Load::start(&world, PAIRS).await;
    load.goes_on_for(SOME).await;
    let leader = world.cluster().stream_leader("REPULL_JOBS").await;
    world.cluster_mut().kill_node(leader).await;
    crew.is_led().await;
    load.goes_on_for(SOME).await;
    world.cluster_mut().restart_node(leader).await;
    assert!(load.check().await > 2 * SOME);
}
