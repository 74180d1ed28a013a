//! The fuzz targets' laws on the stable compiler: every seed, and every way to cut it short.
//!
//! What a fuzzer finds becomes a seed under `fuzz/seeds`, and so a test.

#[path = "../../fuzz/src/lib.rs"]
mod laws;

use std::path::PathBuf;

use repull_tests::repository;

/// The seeds of a target.
fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = repository().join("fuzz/seeds").join(target);
    let files = std::fs::read_dir(&folder).expect("a folder of seeds");
    let paths = files.map(|file| file.expect("a seed").path());
    paths
        .map(|path| {
            let data = std::fs::read(&path).expect("a readable seed");
            (path, data)
        })
        .collect()
}

/// Holds a law against every seed of a target, and against cuts and flips of it.
fn hold(target: &str, law: fn(&[u8])) {
    let seeds = seeds(target);
    assert!(seeds.len() > 5, "{target} has {} seeds", seeds.len());
    for (path, seed) in &seeds {
        let tried = std::panic::catch_unwind(|| {
            law(seed);
            for at in 0..seed.len() {
                law(&seed[..at]);
                let mut changed = seed.clone();
                changed.remove(at);
                law(&changed);
                let mut changed = seed.clone();
                changed[at] ^= 0x01;
                law(&changed);
            }
        });
        assert!(tried.is_ok(), "{} breaks the law", path.display());
    }
}

#[test]
fn subjects_and_names_read_back_and_add_no_token() {
    hold("subject", laws::subject);
}

#[test]
fn messages_read_back_whatever_their_headers() {
    hold("headers", laws::headers);
}

#[test]
fn triggers_read_back_and_fire_in_order() {
    hold("trigger", laws::trigger);
}

#[test]
fn files_of_tasks_and_settings_are_read_or_refused() {
    hold("config", laws::config);
}
