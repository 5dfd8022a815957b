//! One file into the database: COPY into a temporary table, then everything that it leaves behind in one transaction, once.
use std::{pin::pin, time::Duration};

use aws_sdk_s3::{
    error::{DisplayErrorContext, ProvideErrorMetadata as _},
    operation::get_object::GetObjectOutput,
};
use bytes::{BufMut, BytesMut};
use futures::SinkExt;
use serde_json::json;
use tokio_postgres::{Client, Transaction};
use uuid::Uuid;

use crate::{
    config::{Caps, Config},
    content::{self, Stored},
    database::ConnectError,
    notification::Created,
    refused::Refused,
    rows::{Format, Rejected, Rows, RowsError},
};

/// Rows are handed to COPY in pieces of this size.
const PIECE: usize = 256 * 1024;

/// What became of a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Ingested {
    /// It is in the database now.
    Parsed {
        /// Rows taken.
        accepted: u64,
        /// Rows refused.
        rejected: u64,
    },
    /// It already was: the message came twice.
    Already,
    /// Another worker has it in hand: the message came twice, or was taken for lost while its file was still being read.
    Busy,
    /// The object is gone; nothing can be done.
    Gone,
}

/// Why a file is not in the database.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// Its own fault, for ever.
    #[error("refused: {0}")]
    Refused(#[from] Refused),
    /// S3 did not deliver.
    #[error("S3: {0}")]
    Storage(String),
    /// The object broke off.
    #[error("the object could not be read")]
    Read(#[source] std::io::Error),
    /// The database did not take it.
    #[error("the database")]
    Database(#[source] tokio_postgres::Error),
    /// There was none to give it to.
    #[error("no database")]
    Connect(#[from] ConnectError),
    /// Neither a result nor an error.
    #[error("not done after {} s", .0.as_secs())]
    Late(Duration),
}

impl From<tokio_postgres::Error> for IngestError {
    /// Class 22 is a value that no column can hold, class 54 one that is too large: PostgreSQL would say it of the same file for ever.
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(said) if matches!(said.code().code().get(..2), Some("22" | "54")) => {
                Self::Refused(Refused::Database(format!("SQLSTATE {}: {}", said.code().code(), said.message())))
            }
            _ => Self::Database(error),
        }
    }
}

impl From<RowsError> for IngestError {
    fn from(error: RowsError) -> Self {
        match error {
            RowsError::Refused(refused) => Self::Refused(refused),
            RowsError::Read(error) => Self::Read(error),
        }
    }
}

struct Object<'a> {
    created: &'a Created,
    file_id: Uuid,
    version: &'a str,
    caller: &'a str,
    filename: Option<String>,
    format: Format,
    declared_sha256: Option<String>,
}

/// Reads the object and writes it, unless it has been written before.
pub async fn ingest(config: &Config, s3: &aws_sdk_s3::Client, database: &mut Client, created: &Created) -> Result<Ingested, IngestError> {
    let caller = created.key.strip_prefix(&config.key_prefix).and_then(|rest| rest.split_once('/')).map(|(caller, _)| caller);
    let Some(caller) = caller.filter(|_| created.bucket == config.bucket) else {
        return Err(Refused::Elsewhere(format!("s3://{}/{}", created.bucket, created.key)).into());
    };
    let version = created.version.as_deref().unwrap_or("null");
    let file_id = Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("s3://{}/{}?versionId={version}", created.bucket, created.key).as_bytes());
    let transaction = database.transaction().await?;
    // One reader a file: a second one would do all of the work in vain. The lock goes with the transaction, and with its connection if we die.
    let (high, _) = file_id.as_u64_pair();
    if !transaction.query_one("SELECT pg_try_advisory_xact_lock($1)", &[&high.cast_signed()]).await?.get::<_, bool>(0) {
        return Ok(Ingested::Busy);
    }
    if transaction.query_opt("SELECT FROM files WHERE file_id = $1", &[&file_id]).await?.is_some() {
        return Ok(Ingested::Already);
    }
    let request = s3.get_object().bucket(&created.bucket).key(&created.key).set_version_id(created.version.clone());
    let object = match request.send().await {
        Ok(object) => object,
        // Of a version that was removed S3 says NoSuchVersion, which the SDK does not model.
        Err(error) if matches!(error.code(), Some("NoSuchKey" | "NoSuchVersion")) => return Ok(Ingested::Gone),
        Err(error) => return Err(IngestError::Storage(DisplayErrorContext(&error).to_string())),
    };
    if object.content_length().is_some_and(|length| u64::try_from(length).is_ok_and(|length| length > config.caps.stored_bytes)) {
        return Err(Refused::TooMuch { what: "stored bytes", limit: config.caps.stored_bytes }.into());
    }
    let described = describe(created, file_id, version, caller, &object)?;
    let (content, stored) = content::open(object.body.into_async_read(), config.caps).await.map_err(RowsError::from)?;
    let mut rows = Rows::open(content, described.format, config.caps).await?;
    let (accepted, rejected, kept) = stage(&transaction, &mut rows, config.caps).await?;
    content::drain(&mut rows.into_content()).await.map_err(RowsError::from)?;
    let sha256 = stored.sha256();
    if let Some(declared) = described.declared_sha256.as_ref().filter(|declared| **declared != sha256) {
        return Err(Refused::Checksum { found: sha256, declared: declared.clone() }.into());
    }
    if !keep(&transaction, &described, &stored, accepted, rejected, &kept, &config.kafka.topic).await? {
        return Ok(Ingested::Already);
    }
    transaction.commit().await?;
    Ok(Ingested::Parsed { accepted, rejected })
}

fn describe<'a>(
    created: &'a Created,
    file_id: Uuid,
    version: &'a str,
    caller: &'a str,
    object: &GetObjectOutput,
) -> Result<Object<'a>, Refused> {
    let metadata = |name: &str| object.metadata().and_then(|all| all.get(name));
    let filename = metadata("filename").map(|name| percent_encoding::percent_decode_str(name).decode_utf8_lossy().into_owned());
    let format = Format::of(object.content_type(), filename.as_deref().or(Some(&created.key)))?;
    Ok(Object {
        created,
        file_id,
        version,
        caller,
        format,
        declared_sha256: metadata("sha256").map(|hash| hash.to_ascii_lowercase()),
        filename,
    })
}

/// Streams the rows into a temporary table. Bad rows are counted, and the first of them kept.
async fn stage(transaction: &Transaction<'_>, rows: &mut Rows, caps: Caps) -> Result<(u64, u64, Vec<(u64, Rejected)>), IngestError> {
    transaction.batch_execute("CREATE TEMPORARY TABLE staging (line bigint, content jsonb) ON COMMIT DROP").await?;
    let sink = transaction.copy_in("COPY staging (line, content) FROM STDIN").await?;
    let mut sink = pin!(sink);
    let mut piece = BytesMut::with_capacity(PIECE * 2);
    let (mut accepted, mut rejected, mut kept) = (0, 0, Vec::new());
    while let Some(row) = rows.next().await? {
        match row.content {
            Ok(content) => {
                accepted += 1;
                piece.put_slice(row.line.to_string().as_bytes());
                piece.put_u8(b'\t');
                // COPY's text format: JSON text has no raw tab or newline, so only the backslash means something else there.
                for part in content.split_inclusive('\\') {
                    piece.put_slice(part.as_bytes());
                    if part.ends_with('\\') {
                        piece.put_u8(b'\\');
                    }
                }
                piece.put_u8(b'\n');
                if piece.len() >= PIECE {
                    sink.send(piece.split().freeze()).await?;
                }
            }
            Err(reason) => {
                rejected += 1;
                if rejected <= caps.kept_rejections {
                    kept.push((row.line, reason));
                }
            }
        }
    }
    if !piece.is_empty() {
        sink.send(piece.freeze()).await?;
    }
    sink.finish().await?;
    Ok((accepted, rejected, kept))
}

/// The file, its rows and its event. False if another worker was faster: then nothing is written.
async fn keep(
    transaction: &Transaction<'_>,
    object: &Object<'_>,
    stored: &Stored,
    accepted: u64,
    rejected: u64,
    kept: &[(u64, Rejected)],
    topic: &str,
) -> Result<bool, IngestError> {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let (size, sha256) = (number(stored.bytes()), stored.sha256());
    let inserted = transaction
        .execute(
            "INSERT INTO files (file_id, bucket, key, version, caller, filename, format, sha256, size_bytes, rows_accepted, rows_rejected)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING",
            &[
                &object.file_id,
                &object.created.bucket,
                &object.created.key,
                &object.version,
                &object.caller,
                &object.filename,
                &object.format.as_str(),
                &sha256,
                &size,
                &number(accepted),
                &number(rejected),
            ],
        )
        .await?;
    if inserted == 0 {
        return Ok(false);
    }
    transaction.execute("INSERT INTO records SELECT $1, line, content FROM staging", &[&object.file_id]).await?;
    let lines: Vec<i64> = kept.iter().map(|(line, _)| number(*line)).collect();
    let reasons: Vec<&str> = kept.iter().map(|(_, row)| row.reason.as_str()).collect();
    let starts: Vec<&str> = kept.iter().map(|(_, row)| row.start.as_str()).collect();
    transaction
        .execute(
            "INSERT INTO rejected_rows SELECT $1, * FROM unnest($2::bigint[], $3::text[], $4::text[])",
            &[&object.file_id, &lines, &reasons, &starts],
        )
        .await?;
    // Derived from the file's id: published twice, it is still one event.
    let event_id = Uuid::new_v5(&object.file_id, b"file.parsed");
    let payload = json!({
        "event_id": event_id, "type": "file.parsed", "file_id": object.file_id, "bucket": object.created.bucket, "key": object.created.key,
        "version": object.version, "caller": object.caller, "filename": object.filename, "format": object.format.as_str(), "sha256": sha256,
        "size_bytes": size, "rows_accepted": accepted, "rows_rejected": rejected, "smoke": object.caller == "smoke",
    });
    transaction
        .execute(
            "INSERT INTO outbox (event_id, topic, key, payload) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            &[&event_id, &topic, &object.created.key, &payload],
        )
        .await?;
    Ok(true)
}
