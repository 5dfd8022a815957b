//! Made-up files: good ones with a few bad rows, and poison of every kind. The same seed makes the same files.
use std::io::Write as _;

use aws_sdk_s3::{error::SdkError, operation::put_object::PutObjectError, primitives::ByteStream};
use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::place::BUCKET;

/// What must become of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Rows taken and rows refused.
    Parsed { accepted: u64, rejected: u64 },
    /// Its message ends in the dead-letter queue.
    Buried,
}

/// A file, or a message without one.
pub struct File {
    pub key: String,
    pub fate: Fate,
    pub content_type: &'static str,
    pub filename: String,
    /// What the caller declared.
    pub sha256: String,
    pub bytes: Vec<u8>,
    /// In place of what S3 would send.
    pub message: Option<String>,
}

impl File {
    pub fn new(key: String, content_type: &'static str, bytes: Vec<u8>, fate: Fate) -> Self {
        let sha256 = hex::encode(Sha256::digest(&bytes));
        Self { filename: "made-up".to_owned(), key, fate, content_type, sha256, bytes, message: None }
    }

    /// Returns the version that S3 gave it.
    pub async fn upload(&self, s3: &aws_sdk_s3::Client) -> Result<String, Box<SdkError<PutObjectError>>> {
        if self.message.is_some() {
            return Ok(String::new());
        }
        let request = s3.put_object().bucket(BUCKET).key(&self.key).content_type(self.content_type);
        let request = request.metadata("filename", &self.filename).metadata("sha256", &self.sha256);
        let put = request.body(ByteStream::from(self.bytes.clone())).send().await.map_err(Box::new)?;
        Ok(put.version_id.expect("the bucket keeps versions"))
    }

    /// What S3 tells the queue.
    pub fn message(&self, version: &str) -> String {
        self.message.clone().unwrap_or_else(|| notification(BUCKET, &self.key, version))
    }
}

pub fn notification(bucket: &str, key: &str, version: &str) -> String {
    json!({ "Records": [{
        "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "eventVersion": "2.1", "awsRegion": "us-east-1",
        "s3": { "bucket": { "name": bucket }, "object": { "key": key, "size": 1, "versionId": version } },
    }] })
    .to_string()
}

/// A reproducible source of numbers: splitmix64.
pub struct Random(u64);

impl Random {
    /// From DEPLOYCTL_SEED or the clock; the seed is printed. It gives the same files and choices again, not the same moments.
    pub fn seeded(what: &str) -> Self {
        let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let seed = std::env::var("DEPLOYCTL_SEED").map_or_else(|_| now(), |seed| seed.parse().expect("DEPLOYCTL_SEED is a number"));
        eprintln!("{what}: DEPLOYCTL_SEED={seed}");
        Self(seed)
    }

    /// The same every time.
    pub const fn of(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// A good file: mostly small, one in forty large enough that a kill finds it in the middle of its COPY.
pub fn good(series: &str, number: u64, random: &mut Random) -> File {
    let rows = if random.below(40) == 0 { 3000 + random.below(3000) } else { 1 + random.below(40) };
    let csv = random.below(2) == 0;
    let mut text = String::new();
    if csv {
        text.push_str("series,file,row\n");
    }
    let mut rejected = 0;
    for row in 0..rows {
        let bad = random.below(20) == 0;
        rejected += u64::from(bad);
        text.push_str(&match (csv, bad) {
            (true, false) => format!("{series},{number},{row}\n"),
            (true, true) => format!("{series},{number}\n"),
            (false, false) => format!("{{\"series\":\"{series}\",\"file\":\"{number}\",\"row\":\"{row}\"}}\n"),
            (false, true) => format!("{{\"file\":{number},\n"),
        });
    }
    let bytes = if random.below(3) == 0 { gzip(text.as_bytes()) } else { text.into_bytes() };
    let content_type = if csv { "text/csv" } else { "application/x-ndjson" };
    File::new(format!("uploads/{series}/{number}"), content_type, bytes, Fate::Parsed { accepted: rows - rejected, rejected })
}

/// Poison of one kind after the other.
pub fn poison(series: &str, number: u64) -> File {
    let key = format!("uploads/{series}/poison-{number}");
    let file = |content_type, bytes: &[u8]| File::new(key.clone(), content_type, bytes.to_vec(), Fate::Buried);
    let without = |message: String| File { message: Some(message), ..file("text/csv", b"") };
    let good = b"a,b\n1,2\n";
    match number % 8 {
        0 => file("text/csv", b"\x1f\x8b\x08\x00 this is no gzip stream"),
        1 => File { sha256: "0".repeat(64), ..file("text/csv", good) },
        2 => file("image/png", good),
        3 => file("text/csv", b"a,a\n1,2\n"),
        // No column holds it.
        4 => File { filename: "zero%00.csv".to_owned(), ..file("text/csv", good) },
        5 => without(format!("hello {series} {number}")),
        6 => without(json!({ "series": series, "number": number }).to_string()),
        _ => without(notification("another-bucket", &key, "1")),
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
