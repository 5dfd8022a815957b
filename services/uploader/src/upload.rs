//! What a caller asks for and where it will be: validation, ids and keys. Pure.
use base64::{Engine, prelude::BASE64_STANDARD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use uuid::Uuid;

use crate::{callers::Caller, refusal::Refusal};

/// Above this a file is uploaded in parts.
pub const MULTIPART_ABOVE: u64 = 64 * 1024 * 1024;
/// S3's limit on the number of parts.
const MOST_PARTS: u64 = 10_000;
/// Parts are at least this large; S3 wants 5 MiB, fewer requests want more.
const SMALLEST_PART: u64 = 16 * 1024 * 1024;
/// S3 counts all user metadata of an object towards 2 KiB.
const LONGEST_NAME: usize = 255;

/// The body of `POST /v1/uploads`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The caller's name for it; kept as metadata, never part of the key.
    pub filename: String,
    /// A MIME type.
    pub content_type: String,
    /// Exactly as many bytes will be taken.
    pub size_bytes: u64,
    /// Hexadecimal.
    pub sha256: String,
}

/// A request that has been checked.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Its id.
    pub id: UploadId,
    /// Percent-encoded: S3 metadata is ASCII.
    pub filename: String,
    /// As asked.
    pub content_type: String,
    /// As asked.
    pub size_bytes: u64,
    /// Lower-case hexadecimal, for the parser.
    pub sha256_hex: String,
    /// Base64, for S3.
    pub sha256_base64: String,
}

/// An upload's id: a UUID, version 7. With the caller's name it gives the key, so nothing needs to be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadId(Uuid);

impl UploadId {
    /// Reads an id from a path.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        Uuid::parse_str(text).map(Self).map_err(|_not_a_uuid| Refusal::NotFound)
    }
    /// The object's key. A caller's name is part of it, so that nobody reaches another's uploads.
    pub fn key(self, prefix: &str, caller: &Caller) -> String {
        format!("{prefix}{}/{}", caller.as_str(), self.0)
    }
}

impl std::fmt::Display for UploadId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Asked {
    /// Checks everything that can be checked without S3.
    pub fn check(self, largest: u64) -> Result<Upload, Refusal> {
        if self.filename.is_empty() || self.filename.len() > LONGEST_NAME || self.filename.chars().any(char::is_control) {
            return Err(Refusal::Invalid(format!("filename: 1 to {LONGEST_NAME} bytes without control characters")));
        }
        let mime = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b));
        if self.content_type.len() > 100 || !self.content_type.split_once('/').is_some_and(|(kind, sub)| mime(kind) && mime(sub)) {
            return Err(Refusal::Invalid("content_type: a MIME type without parameters, as in text/csv".to_owned()));
        }
        if self.size_bytes == 0 {
            return Err(Refusal::Invalid("size_bytes: an empty file can't be uploaded".to_owned()));
        }
        if self.size_bytes > largest {
            return Err(Refusal::TooLarge { asked: self.size_bytes, largest });
        }
        let mut hash = [0; 32];
        hex::decode_to_slice(&self.sha256, &mut hash).map_err(|_bad| Refusal::Invalid("sha256: 64 hexadecimal digits".to_owned()))?;
        Ok(Upload {
            id: UploadId(Uuid::now_v7()),
            filename: utf8_percent_encode(&self.filename, NON_ALPHANUMERIC).to_string(),
            content_type: self.content_type,
            size_bytes: self.size_bytes,
            sha256_hex: hex::encode(hash),
            sha256_base64: BASE64_STANDARD.encode(hash),
        })
    }
}

/// The sizes of the parts of a file: all equal but the last.
pub fn part_sizes(size_bytes: u64) -> Vec<u64> {
    let part = SMALLEST_PART.max(size_bytes.div_ceil(MOST_PARTS));
    let mut sizes = vec![part; usize::try_from(size_bytes / part).unwrap_or(usize::MAX)];
    if !size_bytes.is_multiple_of(part) {
        sizes.push(size_bytes % part);
    }
    sizes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked() -> Asked {
        Asked { filename: "a.csv".into(), content_type: "text/csv".into(), size_bytes: 1, sha256: "ab".repeat(32) }
    }

    #[test]
    fn what_is_wrong_is_refused() {
        assert!(asked().check(10).is_ok());
        assert!(matches!(Asked { filename: String::new(), ..asked() }.check(10), Err(Refusal::Invalid(_))));
        assert!(matches!(Asked { filename: "a\nb".into(), ..asked() }.check(10), Err(Refusal::Invalid(_))));
        assert!(matches!(Asked { content_type: "text".into(), ..asked() }.check(10), Err(Refusal::Invalid(_))));
        assert!(matches!(Asked { content_type: "text/csv\r\nx: y".into(), ..asked() }.check(10), Err(Refusal::Invalid(_))));
        assert!(matches!(Asked { sha256: "zz".repeat(32), ..asked() }.check(10), Err(Refusal::Invalid(_))));
        assert!(matches!(Asked { size_bytes: 0, ..asked() }.check(10), Err(Refusal::Invalid(_))));
        assert!(matches!(Asked { size_bytes: 11, ..asked() }.check(10), Err(Refusal::TooLarge { asked: 11, largest: 10 })));
    }

    proptest! {
        #[test]
        fn parts_add_up_and_keep_s3s_limits(size in 1_u64..5 * 1024 * 1024 * 1024 * 1024) {
            let sizes = part_sizes(size);
            prop_assert_eq!(sizes.iter().sum::<u64>(), size);
            prop_assert!(sizes.len() <= 10_000);
            prop_assert!(sizes.iter().rev().skip(1).all(|part| *part >= 5 * 1024 * 1024));
        }

        #[test]
        fn an_encoded_name_is_plain_ascii(filename in "\\PC{1,60}") {
            let upload = Asked { filename, ..asked() }.check(10).unwrap();
            prop_assert!(upload.filename.bytes().all(|b| b.is_ascii_graphic()));
        }
    }
}
