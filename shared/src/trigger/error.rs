//! What can be wrong with a trigger.

/// Why a trigger is refused. Each message names the field, its value and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is not JSON at all.
    #[error(
        "trigger `{text}` is not JSON, expected for example {{\"cron\": {{\"expression\": \"30 2 * * *\", \"timezone\": \"Europe/Berlin\"}}}}: {cause}"
    )]
    NotJson {
        /// The text, shortened.
        text: String,
        /// What the JSON reader said.
        cause: String,
    },
    /// A field has a value that cannot be used.
    #[error("trigger field `{field}` is {value}, expected {expected}")]
    Field {
        /// Where it stands, for example `any[1].cron.timezone`.
        field: String,
        /// The value as it was given.
        value: String,
        /// What would have been right.
        expected: String,
    },
    /// A field is not one that this kind of trigger has.
    #[error("trigger field `{field}` is unknown, expected {expected}")]
    Unknown {
        /// Where it stands.
        field: String,
        /// The fields there are.
        expected: String,
    },
    /// A field that must be there is not.
    #[error("trigger field `{field}` is missing, expected {expected}")]
    Missing {
        /// Where it should stand.
        field: String,
        /// What it would hold.
        expected: String,
    },
    /// Nothing is wrong in form, but the trigger would never fire.
    #[error("trigger never fires: {what}")]
    Never {
        /// Which part, and why.
        what: String,
    },
}

impl Error {
    pub(super) fn field(
        field: &str,
        value: impl Into<String>,
        expected: impl Into<String>,
    ) -> Error {
        Error::Field {
            field: field.to_owned(),
            value: value.into(),
            expected: expected.into(),
        }
    }
}
