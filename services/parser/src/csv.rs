//! CSV records (RFC 4180) out of bytes, in bounded memory: what is too long is read to its end and forgotten.
use tokio::io::AsyncBufReadExt;

use crate::{
    config::Caps,
    content::Content,
    json::NUL,
    refused::Refused,
    rows::{KEPT_START, Rejected, RowsError, TOO_LONG, shorten},
};

const TOO_MANY: &str = "more fields than a row may have";
/// As JSON a row repeats the header's names and escapes its fields; beyond this many times a line's cap it is refused.
const GROWTH: usize = 4;

/// A file's header, and what its records are read with.
pub struct Csv {
    reader: csv_core::Reader,
    /// Names as JSON, with their colons.
    header: Vec<String>,
    output: Vec<u8>,
    ends: Vec<usize>,
}

/// The fields of one record.
struct Fields<'a> {
    text: &'a str,
    ends: &'a [usize],
}

impl Fields<'_> {
    fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(self.ends).map(|(start, end)| self.text.get(start..*end).unwrap_or_default())
    }
}

impl Csv {
    /// Reads the header; an empty file has none, and no rows.
    pub async fn open(content: &mut Content, caps: Caps) -> Result<Self, RowsError> {
        let mut csv = Self { reader: csv_core::Reader::new(), header: Vec::new(), output: vec![0; 4096], ends: vec![0; 64] };
        let mut names: Vec<String> = match csv.record(content, caps).await? {
            None => return Ok(csv),
            Some(Err(Rejected { reason, .. })) if reason == TOO_LONG => return Err(Refused::Header("too long").into()),
            Some(Err(Rejected { reason, .. })) if reason == TOO_MANY => return Err(Refused::Header("not usable: too many names").into()),
            Some(Err(_)) => return Err(Refused::Header("not text").into()),
            Some(Ok(fields)) => fields.iter().map(|name| name.trim_start_matches('\u{feff}').to_owned()).collect(),
        };
        csv.header = names.iter().map(|name| format!("{}:", serde_json::Value::from(name.as_str()))).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Refused::Header("not usable: a name stands there twice").into());
        }
        Ok(csv)
    }

    /// The next record as a JSON object's text, or what is wrong with it.
    pub async fn row(&mut self, content: &mut Content, caps: Caps) -> Result<Option<Result<String, Rejected>>, RowsError> {
        let header = std::mem::take(&mut self.header);
        let row = self.record(content, caps).await.map(|record| record.map(|read| read.and_then(|fields| object(&header, &fields, caps))));
        self.header = header;
        row
    }

    async fn record(&mut self, content: &mut Content, caps: Caps) -> Result<Option<Result<Fields<'_>, Rejected>>, RowsError> {
        let (mut written, mut ended) = (0, 0);
        let mut wrong = None;
        loop {
            let available = content.fill_buf().await?;
            let (result, read, wrote, ends) = self.reader.read_record(available, &mut self.output[written..], &mut self.ends[ended..]);
            content.as_mut().consume(read);
            written += wrote;
            ended += ends;
            match result {
                csv_core::ReadRecordResult::InputEmpty => {}
                csv_core::ReadRecordResult::OutputFull if self.output.len() >= caps.line_bytes => {
                    // The rest of the record is read and forgotten, but its start is kept for the report.
                    wrong = Some(TOO_LONG);
                    written = KEPT_START.min(self.output.len());
                    ended = 0;
                }
                csv_core::ReadRecordResult::OutputFull => self.output.resize((self.output.len() * 2).min(caps.line_bytes), 0),
                csv_core::ReadRecordResult::OutputEndsFull if self.ends.len() >= caps.columns => {
                    wrong = wrong.or(Some(TOO_MANY));
                    ended = 0;
                }
                csv_core::ReadRecordResult::OutputEndsFull => self.ends.resize((self.ends.len() * 2).min(caps.columns), 0),
                csv_core::ReadRecordResult::Record => break,
                csv_core::ReadRecordResult::End => return Ok(None),
            }
        }
        let reject = |reason: &str| Ok(Some(Err(Rejected { reason: reason.to_owned(), start: shorten(&self.output[..written]) })));
        if let Some(reason) = wrong {
            return reject(reason);
        }
        let Ok(text) = std::str::from_utf8(&self.output[..written]) else { return reject("not UTF-8") };
        if text.contains('\0') {
            return reject(NUL);
        }
        Ok(Some(Ok(Fields { text, ends: &self.ends[..ended] })))
    }
}

fn object(header: &[String], fields: &Fields<'_>, caps: Caps) -> Result<String, Rejected> {
    let reject = |reason: String| Err(Rejected { reason, start: shorten(fields.iter().collect::<Vec<_>>().join(",").as_bytes()) });
    if fields.ends.len() != header.len() {
        return reject(format!("{} fields where the header has {}", fields.ends.len(), header.len()));
    }
    let mut object = String::with_capacity(fields.text.len() * 2);
    object.push('{');
    for (name, field) in header.iter().zip(fields.iter()) {
        if object.len() > 1 {
            object.push(',');
        }
        object.push_str(name);
        object.push_str(&serde_json::Value::from(field).to_string());
        if object.len() > caps.line_bytes.saturating_mul(GROWTH) {
            return reject(TOO_LONG.to_owned());
        }
    }
    object.push('}');
    Ok(object)
}
