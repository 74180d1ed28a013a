//! The life of a job, feature by feature, with real servers, workers and schedulers.

mod examples;
mod unique;
