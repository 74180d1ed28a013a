//! Scenarios: what Repull promises, shown with real servers, the real binaries and real faults.
//!
//! One test binary, one module per part. The names of the tests are the list of the promises; how
//! to run and read them is in `docs/TESTING.md`.

mod answers;
mod bench;
mod faults;
mod fuzzed;
mod harness;
mod identity;
mod languages;
mod life;
mod loads;
mod metrics;
mod pin;
mod pods;
mod poison;
mod roles;
mod scaling;
mod schedulers;
mod starts;
mod stock_tasks;
mod tidy;
mod traces;
mod upgrade;
mod way;
