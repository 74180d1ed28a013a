//! Stub.

#[doc(hidden)]
pub mod engine;
