//! All faults in a row, for minutes, on a cluster with several shards.

use chrono::TimeDelta;
use repull_tests::World;

use super::crew::Crew;
use super::load::Load;

/// Pairs of schedules: eleven fires a second each.
const PAIRS: usize = 60;

/// Fires between two faults.
const SOME: usize = 2_000;

/// How often each fault comes.
const ROUNDS: usize = 5;

#[tokio::test]
#[ignore = "takes minutes"]
async fn every_fault_in_a_row_loses_and_doubles_no_fire() {
    let mut world = World::builder().cluster(3).proxied().start().await;
    let clock = world.clock();
    let mut crew = Crew::start(&world, 2, 4).await;
    crew.join(|scheduler| scheduler.clock(&clock)).await;
    let load = Load::start(&world, PAIRS).await;
    for round in 0..ROUNDS {
        load.goes_on_for(SOME).await;
        let leader = crew.leader().await;
        crew.freeze(leader).await;

        load.goes_on_for(SOME).await;
        clock.set(TimeDelta::seconds(7));
        load.goes_on_for(SOME).await;
        clock.set(TimeDelta::seconds(-7));
        load.goes_on_for(SOME).await;
        clock.set(TimeDelta::zero());

        load.goes_on_for(SOME).await;
        world.proxies().iter().for_each(repull_tests::Proxy::stall);
        // Nothing gets through to any scheduler: the lease of each lapses.
        load.falls_silent().await;
        world
            .proxies()
            .iter()
            .for_each(repull_tests::Proxy::restore);
        crew.is_led().await;

        load.goes_on_for(SOME).await;
        let node = world.cluster().stream_leader("REPULL_JOBS").await;
        world.cluster_mut().kill_node(node).await;
        load.goes_on_for(SOME).await;
        world.cluster_mut().restart_node(node).await;

        load.goes_on_for(SOME).await;
        let leader = crew.leader().await;
        crew.kill(leader).await;
        crew.join(|scheduler| scheduler.clock(&clock)).await;
        println!("round {round}: {} fires", load.count());
    }
    assert!(load.check().await > 7 * SOME * ROUNDS);
}
