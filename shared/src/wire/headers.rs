//! The names of all headers, in one table. All are optional on a job.

/// Attempts that have ended before this message was published; a whole number, default 0.
pub const ATTEMPT: &str = "Repull-Attempt";
/// Attempts the job gets in all; a whole number of at least 1.
pub const MAX_ATTEMPTS: &str = "Repull-Max-Attempts";
/// The wait between attempts: `<first>,<factor>,<cap>`, such as `1s,2,6h`.
pub const BACKOFF: &str = "Repull-Backoff";
/// How long one attempt may run, such as `90s`, or `never`.
pub const TIMEOUT: &str = "Repull-Timeout";
/// Fails for good when it has not succeeded by this time (RFC 3339).
pub const DEADLINE: &str = "Repull-Deadline";
/// Ends `expired` when its first attempt has not started by this time (RFC 3339).
pub const EXPIRES: &str = "Repull-Expires";
/// Not before this time (RFC 3339): only on `later` subjects.
pub const RUN_AT: &str = "Repull-Run-At";
/// The id under which a later job is queued, where its subject names another: a fire that waits
/// for the previous run of its schedule. Only on `later` subjects.
pub const JOB_ID: &str = "Repull-Job-Id";
/// When the submitter made the job (RFC 3339).
pub const ENQUEUED_AT: &str = "Repull-Enqueued-At";
/// The schedule that fired the job.
pub const SCHEDULE: &str = "Repull-Schedule";
/// The fire that the job stands for (RFC 3339).
pub const FIRE: &str = "Repull-Fire";
/// `on` or `off`: whether the outcome is stored.
pub const RESULT: &str = "Repull-Result";
/// Distinguishes one enqueue from another of the same id.
pub const NONCE: &str = "Repull-Nonce";
/// The job's last errors: a JSON array of `{attempt, at, worker, error}`.
pub const ERRORS: &str = "Repull-Errors";
/// What an event on a `results` subject says: see [`EventKind`](super::EventKind).
pub const EVENT: &str = "Repull-Event";
/// The worker that published an event.
pub const WORKER: &str = "Repull-Worker";
/// When the attempt started (RFC 3339).
pub const STARTED_AT: &str = "Repull-Started-At";
/// When the event happened (RFC 3339).
pub const AT: &str = "Repull-At";
/// The stream sequence of the job's message that an event was published for.
pub const SEQUENCE: &str = "Repull-Sequence";
/// Why an outcome has no value although the handler returned one.
pub const VALUE_DROPPED: &str = "Repull-Value-Dropped";
/// Progress as a fraction from 0 to 1.
pub const PROGRESS: &str = "Repull-Progress";
/// Why a job is dead.
pub const REASON: &str = "Repull-Reason";
/// When a job died (RFC 3339).
pub const DIED_AT: &str = "Repull-Died-At";
/// The subject on which a dead message was found, where that is not a job's.
pub const FOUND_ON: &str = "Repull-Found-On";
/// The media type of the body; JSON where absent.
pub const CONTENT_TYPE: &str = "Content-Type";

/// Every header of ours begins with this; the server's begin with `Nats-`.
pub const PREFIX: &str = "Repull-";
/// Headers of the server's, which are never handed on.
pub const SERVER_PREFIX: &str = "Nats-";
