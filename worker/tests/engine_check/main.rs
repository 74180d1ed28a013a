//! Checks the worker's engine, the very one that runs in production, in two ways: `model` explores
//! every interleaving of small worlds, `random` lets large worlds run at random. Both drive the
//! engine against the same small model of a JetStream server (`server`), through a shell (`shell`)
//! that can be told to make the mistakes this project is about; `mutants` shows that the checks
//! find them.

mod explore;
mod model;
mod mutants;
mod random;
mod server;
mod shell;
mod world;
