//! Rows out of bytes: CSV (RFC 4180) and NDJSON, one at a time, in bounded memory. A bad row is told apart from a bad file.
use std::io;

use tokio::io::AsyncBufReadExt;

use crate::{config::Caps, content::Content, csv::Csv, json, refused::Refused};

/// As many bytes of a bad row are kept.
pub const KEPT_START: usize = 200;
pub const TOO_LONG: &str = "longer than a line may be";

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
    pub async fn open(mut content: Content, format: Format, caps: Caps) -> Result<Self, RowsError> {
        let csv = match format {
            Format::Csv => Some(Csv::open(&mut content, caps).await?),
            Format::Ndjson => None,
        };
        Ok(Self { content, caps, line: 0, raw: Vec::new(), csv })
    }

    /// The next row.
    pub async fn next(&mut self) -> Result<Option<Row>, RowsError> {
        let content = match &mut self.csv {
            Some(csv) => csv.row(&mut self.content, self.caps).await?,
            None => self.json_line().await?,
        };
        let Some(content) = content else { return Ok(None) };
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
            return Ok(Some(json::row(text).map_err(|reason| Rejected { reason, start: shorten(text) })));
        }
    }
}

/// The start of a bad row, as a text column can hold it.
pub fn shorten(bytes: &[u8]) -> String {
    // U+0000 can't be stored in a text column either.
    String::from_utf8_lossy(&bytes[..bytes.len().min(KEPT_START)]).replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    const CAPS: Caps = Caps {
        stored_bytes: 1 << 30,
        content_bytes: 64 << 20,
        ratio: 200,
        rows: 1_000_000,
        line_bytes: 5000,
        columns: 100,
        kept_rejections: 10,
    };

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
    async fn fields_are_bounded_in_number_and_in_what_they_become() {
        let wide = format!("{}\n", (0..101).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
        assert!(matches!(refused(all(wide.into_bytes(), Format::Csv, CAPS).await), Refused::Header(_)));
        let growing = [b"a\n".to_vec(), vec![1; 4000], b"\nok\n".to_vec(), vec![b','; 1000], b"\nok\n".to_vec()].concat();
        let rows = all(growing, Format::Csv, CAPS).await.unwrap();
        let reasons: Vec<_> = rows.iter().map(|row| row.content.as_ref().map_or_else(|r| r.reason.as_str(), |_| "ok")).collect();
        assert_eq!(reasons, [TOO_LONG, "ok", "more fields than a row may have", "ok"]);
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
