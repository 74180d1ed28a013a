//! What people and programs see: tables, details and JSON on stdout; errors and hints on stderr.

pub(crate) mod ask;
pub(crate) mod details;
pub(crate) mod out;
pub(crate) mod read;
pub(crate) mod report;
pub(crate) mod table;
pub(crate) mod time;
