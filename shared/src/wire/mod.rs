//! What crosses NATS: subjects, headers, and how jobs and their events are written and read.
//!
//! `docs/WIRE.md` says the same for people who write a client in another language. Reading is
//! tolerant (an unknown header is handed to the handler), writing is strict.

mod envelope;
mod event;
pub mod headers;
mod ledger;
mod readable;
mod subject;

pub use envelope::{DecodeError, decode, decode_at, encode_headers, write_time};
pub use event::{EventKind, JobEvent};
pub use ledger::{Fate, LedgerEntry};
pub use readable::{Unreadable, read_headers};
pub use subject::{Address, InvalidSubject, Place};
