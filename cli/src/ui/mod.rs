//! What people and programs see: tables, JSON, errors and hints.

pub(crate) mod report;
