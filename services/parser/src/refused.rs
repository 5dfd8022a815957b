//! Why a file can't be taken. These are the file's own faults: trying again changes nothing, so its message ends in the dead-letter queue.

/// A fault of the file as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not under the prefix, or in another bucket.
    #[error("{0} is not where uploads are")]
    Elsewhere(String),
    /// More bytes, or more once decompressed, or more rows.
    #[error("more than {limit} {what}")]
    TooMuch {
        /// Bytes or rows, and of what.
        what: &'static str,
        /// The cap.
        limit: u64,
    },
    /// The gzip stream is broken or cut.
    #[error("the gzip stream is broken: {0}")]
    Gzip(String),
    /// What arrived is not what the client said it would send.
    #[error("the content's SHA-256 is {found}, the client declared {declared}")]
    Checksum {
        /// Computed.
        found: String,
        /// From the object's metadata.
        declared: String,
    },
    /// Neither CSV nor NDJSON.
    #[error("{0} is neither CSV nor NDJSON")]
    Format(String),
    /// A CSV file without a usable first line.
    #[error("the header line is {0}")]
    Header(&'static str),
    /// A message that is none of S3's.
    #[error("{0}")]
    Message(String),
    /// PostgreSQL can't hold what is in it, however often it is asked: SQLSTATE and PostgreSQL's words.
    #[error("the database can't hold it: {0}")]
    Database(String),
    /// A fault of the parser, shown by this file. It would show again.
    #[error("reading it made the parser panic")]
    Panic,
}

impl Refused {
    /// A stable word for metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Elsewhere(_) => "elsewhere",
            Self::TooMuch { .. } => "too-much",
            Self::Gzip(_) => "gzip",
            Self::Checksum { .. } => "checksum",
            Self::Format(_) => "format",
            Self::Header(_) => "header",
            Self::Message(_) => "message",
            Self::Database(_) => "database",
            Self::Panic => "panic",
        }
    }
}
