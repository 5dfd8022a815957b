//! Rows out of bytes: CSV (RFC 4180) and NDJSON, one at a time, in bounded memory. A bad row is told apart from a bad file.
use std::io;

use serde_json::{Map, Value};
use tokio::io::AsyncBufReadExt;

use crate::{config::Caps, content::Content, refused::Refused};

/// As many bytes of a bad row are kept.
const KEPT_START: usize = 200;

/// How a file's rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A header line, then a record a line; quoted fields may span lines.
    Csv,
    /// A JSON object a line.
    Ndjson,
}

impl Format {
    /// By content type; where that says little, by the file's name.
    pub fn of(content_type: Option<&str>, filename: Option<&str>) -> Result<Self, Refused> {
        let content_type = content_type.map(|text| text.split(';').next().unwrap_or(text).trim().to_ascii_lowercase()).unwrap_or_default();
        match content_type.as_str() {
            "text/csv" => return Ok(Self::Csv),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => return Ok(Self::Ndjson),
            _ => {}
        }
        let name = filename.unwrap_or_default().to_ascii_lowercase();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        match name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("csv") => Ok(Self::Csv),
            Some("ndjson" | "jsonl") => Ok(Self::Ndjson),
            _ => Err(Refused::Format(if name.is_empty() { content_type } else { name.to_owned() })),
        }
    }
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }
}

/// A row, or what is wrong with it.
#[derive(Debug, PartialEq)]
pub struct Row {
    /// Counted from 1, the CSV header not included.
    pub line: u64,
    /// The row as a JSON object's text, or the reason against it.
    pub content: Result<String, Rejected>,
}

/// A bad row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Why.
    pub reason: String,
    /// How it begins.
    pub start: String,
}

/// Reads rows until the end.
pub struct Rows {
    content: Content,
    caps: Caps,
    line: u64,
    raw: Vec<u8>,
    csv: Option<Csv>,
}

struct Csv {
    reader: csv_core::Reader,
    header: Vec<String>,
    output: Vec<u8>,
    ends: Vec<usize>,
}

/// What ends reading.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The file's fault.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Not the file's fault.
    #[error("the object could not be read to its end")]
    Read(#[source] io::Error),
}

impl From<io::Error> for RowsError {
    fn from(error: io::Error) -> Self {
        crate::content::refused(&error).map_or(Self::Read(error), Self::Refused)
    }
}

impl Rows {
    /// Reads the header of a CSV file; an empty file has no rows.
    pub async fn open(content: Content, format: Format, caps: Caps) -> Result<Self, RowsError> {
        let mut rows = Self { content, caps, line: 0, raw: Vec::new(), csv: None };
        if format == Format::Csv {
            let mut csv = Csv { reader: csv_core::Reader::new(), header: Vec::new(), output: vec![0; 4096], ends: vec![0; 64] };
            match csv.record(&mut rows.content, caps.line_bytes).await? {
                None => {}
                Some(Err(rejected)) if rejected.reason == TOO_LONG => return Err(Refused::Header("too long").into()),
                Some(Err(_)) => return Err(Refused::Header("not UTF-8").into()),
                Some(Ok(fields)) => {
                    let fields: Vec<String> = fields.iter().map(|name| name.trim_start_matches('\u{feff}').to_owned()).collect();
                    let mut names = fields.clone();
                    names.sort_unstable();
                    names.dedup();
                    if names.len() != fields.len() {
                        return Err(Refused::Header("not usable: a name stands there twice").into());
                    }
                    csv.header = fields;
                }
            }
            rows.csv = Some(csv);
        }
        Ok(rows)
    }

    /// The next row.
    pub async fn next(&mut self) -> Result<Option<Row>, RowsError> {
        let content = if let Some(csv) = &mut self.csv {
            match csv.record(&mut self.content, self.caps.line_bytes).await? {
                None => return Ok(None),
                Some(Ok(fields)) if fields.len() == csv.header.len() => {
                    let object: Map<String, Value> = csv.header.iter().cloned().zip(fields.into_iter().map(Value::String)).collect();
                    storable(Value::Object(object), "")
                }
                Some(Ok(fields)) => Err(Rejected {
                    reason: format!("{} fields where the header has {}", fields.len(), csv.header.len()),
                    start: shorten(fields.join(",").as_bytes()),
                }),
                Some(Err(rejected)) => Err(rejected),
            }
        } else {
            match self.json_line().await? {
                None => return Ok(None),
                Some(content) => content,
            }
        };
        self.line += 1;
        if self.line > self.caps.rows {
            return Err(Refused::TooMuch { what: "rows", limit: self.caps.rows }.into());
        }
        Ok(Some(Row { line: self.line, content }))
    }

    /// What is left of the content, for the checksum.
    pub fn into_content(self) -> Content {
        self.content
    }

    async fn json_line(&mut self) -> Result<Option<Result<String, Rejected>>, RowsError> {
        loop {
            self.raw.clear();
            let mut too_long = false;
            let mut any = false;
            loop {
                let available = self.content.fill_buf().await?;
                if available.is_empty() {
                    break;
                }
                any = true;
                let end = available.iter().position(|byte| *byte == b'\n');
                let taken = end.map_or(available.len(), |end| end + 1);
                if !too_long && self.raw.len() + taken > self.caps.line_bytes {
                    too_long = true;
                    let kept = taken.min(KEPT_START);
                    self.raw.extend_from_slice(&available[..kept]);
                } else if !too_long {
                    self.raw.extend_from_slice(&available[..taken]);
                }
                self.content.as_mut().consume(taken);
                if end.is_some() {
                    break;
                }
            }
            if !any {
                return Ok(None);
            }
            let text = self.raw.trim_ascii();
            if too_long {
                return Ok(Some(Err(Rejected { reason: TOO_LONG.to_owned(), start: shorten(text) })));
            }
            // Blank lines mean nothing in NDJSON.
            if text.is_empty() {
                continue;
            }
            let reject = |reason: String| Rejected { reason, start: shorten(text) };
            return Ok(Some(match serde_json::from_slice::<Value>(text) {
                Ok(value @ Value::Object(_)) => storable(value, &shorten(text)),
                Ok(_) => Err(reject("not a JSON object".to_owned())),
                Err(error) => Err(reject(format!("not JSON: {error}"))),
            }));
        }
    }
}

const TOO_LONG: &str = "longer than a line may be";

impl Csv {
    async fn record(&mut self, content: &mut Content, cap: usize) -> Result<Option<Result<Vec<String>, Rejected>>, RowsError> {
        let (mut written, mut ended) = (0, 0);
        let mut too_long = false;
        loop {
            let available = content.fill_buf().await?;
            let (result, read, wrote, ends) = self.reader.read_record(available, &mut self.output[written..], &mut self.ends[ended..]);
            content.as_mut().consume(read);
            written += wrote;
            ended += ends;
            match result {
                csv_core::ReadRecordResult::InputEmpty => {}
                csv_core::ReadRecordResult::OutputFull if self.output.len() >= cap => {
                    // The rest of the record is read and forgotten, but its start is kept for the report.
                    too_long = true;
                    written = KEPT_START.min(self.output.len());
                    ended = 0;
                }
                csv_core::ReadRecordResult::OutputFull => self.output.resize((self.output.len() * 2).min(cap), 0),
                csv_core::ReadRecordResult::OutputEndsFull if self.ends.len() >= cap => {
                    too_long = true;
                    ended = 0;
                }
                csv_core::ReadRecordResult::OutputEndsFull => self.ends.resize((self.ends.len() * 2).min(cap), 0),
                csv_core::ReadRecordResult::Record => break,
                csv_core::ReadRecordResult::End => return Ok(None),
            }
        }
        if too_long {
            return Ok(Some(Err(Rejected {
                reason: TOO_LONG.to_owned(),
                start: shorten(&self.output[..KEPT_START.min(self.output.len())]),
            })));
        }
        let Ok(text) = std::str::from_utf8(&self.output[..written]) else {
            return Ok(Some(Err(Rejected { reason: "not UTF-8".to_owned(), start: shorten(&self.output[..written]) })));
        };
        let starts = std::iter::once(0).chain(self.ends[..ended].iter().copied());
        let fields = starts.zip(&self.ends[..ended]).map(|(start, end)| text.get(start..*end).unwrap_or_default().to_owned());
        Ok(Some(Ok(fields.collect())))
    }
}

/// PostgreSQL's jsonb takes every JSON text but one with U+0000.
fn storable(value: Value, start: &str) -> Result<String, Rejected> {
    let text = value.to_string();
    if text.contains("\\u0000") && contains_nul(&value) {
        return Err(Rejected { reason: "contains U+0000".to_owned(), start: start.to_owned() });
    }
    Ok(text)
}

fn contains_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(contains_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || contains_nul(value)),
        _ => false,
    }
}

fn shorten(bytes: &[u8]) -> String {
    // U+0000 can't be stored in a text column either.
    String::from_utf8_lossy(&bytes[..bytes.len().min(KEPT_START)]).replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    const CAPS: Caps =
        Caps { stored_bytes: 1 << 30, content_bytes: 64 << 20, ratio: 200, rows: 1_000_000, line_bytes: 5000, kept_rejections: 10 };

    async fn all(bytes: Vec<u8>, format: Format, caps: Caps) -> Result<Vec<Row>, RowsError> {
        let (content, _) = crate::content::open(std::io::Cursor::new(bytes), caps).await?;
        let mut rows = Rows::open(content, format, caps).await?;
        let mut read = Vec::new();
        while let Some(row) = rows.next().await? {
            read.push(row);
        }
        Ok(read)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn refused(result: Result<Vec<Row>, RowsError>) -> Refused {
        match result {
            Err(RowsError::Refused(refused)) => refused,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[tokio::test]
    async fn csv_with_quotes_newlines_and_a_short_row() {
        let text = "\u{feff}name,note\r\nann,\"a \"\"b\"\"\nc\"\r\nbob\r\ncid,x\0y\r\n";
        for bytes in [text.as_bytes().to_vec(), gzip(text.as_bytes())] {
            let rows = all(bytes, Format::Csv, CAPS).await.unwrap();
            assert_eq!(rows[0].content.as_deref().unwrap(), r#"{"name":"ann","note":"a \"b\"\nc"}"#);
            assert_eq!(rows[1].content.as_ref().unwrap_err().reason, "1 fields where the header has 2");
            assert_eq!(rows[2].content.as_ref().unwrap_err().reason, "contains U+0000");
            assert_eq!(rows.len(), 3);
        }
    }

    #[tokio::test]
    async fn ndjson_keeps_bad_rows_with_their_reason() {
        let mut bytes = b"{\"a\":1}\n\n[1]\n{\"a\":\n\xff\n".to_vec();
        bytes.extend(vec![b'x'; 20_000]);
        bytes.extend(b"\n{\"b\":2}");
        let rows = all(bytes, Format::Ndjson, CAPS).await.unwrap();
        let reasons: Vec<_> = rows.iter().map(|row| row.content.as_ref().map_or_else(|r| r.reason.as_str(), |_| "ok")).collect();
        assert_eq!(reasons[0], "ok");
        assert_eq!(reasons[1], "not a JSON object");
        assert!(reasons[2].starts_with("not JSON") && reasons[3].starts_with("not JSON"), "{reasons:?}");
        assert_eq!((reasons[4], reasons[5]), (TOO_LONG, "ok"));
        assert!(rows[4].content.as_ref().unwrap_err().start.len() <= KEPT_START);
    }

    #[tokio::test]
    async fn an_overlong_csv_record_costs_no_memory_and_not_the_next_row() {
        let mut bytes = b"a\n\"".to_vec();
        bytes.extend(vec![b'y'; 3_000_000]);
        bytes.extend(b"\"\nok\n");
        let rows = all(bytes, Format::Csv, CAPS).await.unwrap();
        assert_eq!(rows[0].content.as_ref().unwrap_err().reason, TOO_LONG);
        assert_eq!(rows[1].content.as_deref().unwrap(), r#"{"a":"ok"}"#);
    }

    #[tokio::test]
    async fn bombs_cut_streams_and_empty_files() {
        let bomb = gzip(&vec![b'0'; 50 << 20]);
        assert!(matches!(refused(all(bomb, Format::Ndjson, CAPS).await), Refused::TooMuch { .. }));
        let mut cut = gzip(&b"{\"a\":1}\n".repeat(1000));
        cut.truncate(cut.len() / 2);
        assert!(matches!(refused(all(cut, Format::Ndjson, CAPS).await), Refused::Gzip(_)));
        let garbage = b"\x1f\x8b\x08\x00 this is no gzip stream".to_vec();
        assert!(matches!(refused(all(garbage, Format::Csv, CAPS).await), Refused::Gzip(_)));
        assert_eq!(all(Vec::new(), Format::Csv, CAPS).await.unwrap(), []);
        assert_eq!(all(Vec::new(), Format::Ndjson, CAPS).await.unwrap(), []);
        let few = Caps { rows: 2, ..CAPS };
        assert!(matches!(refused(all(b"{}\n{}\n{}\n".to_vec(), Format::Ndjson, few).await), Refused::TooMuch { what: "rows", .. }));
        assert!(matches!(refused(all(b"a,a\n".to_vec(), Format::Csv, CAPS).await), Refused::Header(_)));
    }

    #[tokio::test]
    async fn a_cut_connection_is_not_the_files_fault() {
        let mut start = gzip(&b"{\"a\":1}\n".repeat(1000));
        start.truncate(start.len() / 2);
        let pieces = [Ok(bytes::Bytes::from(start)), Err(io::Error::from(io::ErrorKind::UnexpectedEof))];
        let stored = tokio_util::io::StreamReader::new(futures::stream::iter(pieces));
        let (content, _) = crate::content::open(stored, CAPS).await.unwrap();
        let mut rows = Rows::open(content, Format::Ndjson, CAPS).await.unwrap();
        let ended = loop {
            match rows.next().await {
                Ok(Some(_)) => {}
                other => break other,
            }
        };
        assert!(matches!(ended, Err(RowsError::Read(_))), "{ended:?}");
    }

    #[test]
    fn the_type_decides_and_the_name_where_it_says_little() {
        assert_eq!(Format::of(Some("text/csv; charset=utf-8"), None), Ok(Format::Csv));
        assert_eq!(Format::of(Some("application/octet-stream"), Some("A.NDJSON.gz")), Ok(Format::Ndjson));
        assert!(Format::of(Some("image/png"), Some("a.png")).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_bytes_make_it_panic_or_loop(bytes in proptest::collection::vec(any::<u8>(), 0..4000), csv in any::<bool>()) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let format = if csv { Format::Csv } else { Format::Ndjson };
            // Whether it is refused or read does not matter here; that it ends does.
            drop(runtime.block_on(all(bytes, format, Caps { line_bytes: 64, ..CAPS })));
        }
    }
}
