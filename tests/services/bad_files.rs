//! Files made to hurt: each is read by a parser of its own, whose memory is measured; the next good file finds that parser alive.
use std::{io::Write as _, time::Duration};

use flate2::{Compression, write::GzEncoder};

use crate::{
    files::{self, Fate, File, Random},
    place::Place,
    processes::Service,
    soak,
};

/// What reading any one file may add to an idle parser, in KiB: a line at its cap, its row as JSON, what is on its way to the database.
const MOST: u64 = 16 * 1024;

struct Bad {
    what: &'static str,
    file: File,
}

const CSV: &str = "text/csv";
const NDJSON: &str = "application/x-ndjson";

pub async fn hurt_nobody(place: &mut Place) {
    let mut random = Random::seeded("bad files");
    let mut parser = place.parser(40).started().await;
    place.deliver(vec![files::good("bad", 0, &mut random)]).await;
    parser.says("uploads/bad/0", Duration::from_secs(30)).await;
    for (number, bad) in (1..).zip(made()) {
        let seen = parser.said().len();
        parser.forget_peak();
        let idle = parser.peak_kib();
        let (key, fate, stored) = (bad.file.key.clone(), bad.file.fate, bad.file.bytes.len());
        let within = Duration::from_secs(if soak() { 600 } else { 60 });
        place.deliver(vec![bad.file]).await;
        let words = if fate == Fate::Buried { "file refused" } else { key.as_str() };
        parser.says_after(seen, words, within).await;
        let peak = parser.peak_kib();
        let said = outcome(&parser, words);
        eprintln!("{:<32} {stored:>11} B stored: {idle:>6} KiB before it, {peak:>6} KiB at most; {said}", bad.what);
        assert!(peak < idle + MOST, "{}: {peak} KiB, {idle} KiB before it", bad.what);
        // The same process goes on: no crash, and no start in between.
        place.deliver(vec![files::good("bad", number, &mut random)]).await;
        parser.says(&format!("uploads/bad/{number}\""), within).await;
    }
    parser.terminate(Duration::from_secs(20)).await;
    let counts = place.everything_is_there(Duration::from_secs(60)).await;
    eprintln!("one parser read all of them; {counts}");
}

/// The line about it, without what every line has.
fn outcome(parser: &Service, words: &str) -> String {
    let said = parser.said();
    let line = said.lines().rev().find(|line| line.contains(words)).unwrap_or_default();
    let line: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
    ["message", "reason", "accepted", "rejected", "millis"]
        .iter()
        .filter(|name| !line[**name].is_null())
        .map(|name| format!("{name} {}", line[*name]))
        .collect::<Vec<_>>()
        .join(", ")
}

fn made() -> Vec<Bad> {
    let (mebibyte, soak) = (1024 * 1024, soak());
    let size = |sample: usize, all: usize| if soak { all } else { sample } * mebibyte;
    let file = |key: &str, content_type, bytes, fate| File::new(format!("uploads/bad/{key}"), content_type, bytes, fate);
    let parsed = |accepted, rejected| Fate::Parsed { accepted, rejected };
    let bad = |what, file| Bad { what, file };
    let rows = if soak { 1_000_000 } else { 20_000 };
    let line = size(24, 1024);
    let wide = format!("{}\n1\n", (0..120_000).map(|n| format!("c{n}")).collect::<Vec<_>>().join(","));
    // A mebibyte each, and forty times as much as a tree.
    let dense = format!("{{\"a\":[{}0]}}\n", "0,".repeat(500_000)).repeat(if soak { 50 } else { 4 });
    let dense_rows = if soak { 50 } else { 4 };
    let fields = format!("a\n{}\n", ",".repeat(900_000)).repeat(3);
    vec![
        bad("a gzip bomb of zeros", file("bomb", NDJSON, bomb(size(32, 4096)), Fate::Buried)),
        bad("a gzip file just under the ratio", file("dense-gzip", NDJSON, just_allowed(size(24, 1024)), parsed(0, 1))),
        bad("NDJSON of one line", file("line", NDJSON, vec![b'x'; line], parsed(0, 1))),
        bad("CSV of one field", file("field", CSV, [b"a\n\"", &vec![b'y'; line][..], b"\"\nok\n"].concat(), parsed(1, 1))),
        bad("tiny rows", file("tiny", NDJSON, b"{}\n".repeat(rows), parsed(rows as u64, 0))),
        bad("tiny rows, all of them bad", file("tiny-bad", NDJSON, b"x\n".repeat(rows), parsed(0, rows as u64))),
        bad("lines of numbers", file("dense", NDJSON, dense.into_bytes(), parsed(dense_rows, 0))),
        bad("a CSV header of many names", file("wide", CSV, wide.into_bytes(), Fate::Buried)),
        bad("CSV records of many fields", file("fields", CSV, fields.into_bytes(), parsed(2, 3))),
        bad("invalid UTF-8 in NDJSON", file("utf8", NDJSON, b"{\"a\":\"\xff\xfe\"}\n{\"a\":1}\n\x80\x81\n".to_vec(), parsed(1, 2))),
        bad("invalid UTF-8 in CSV", file("utf8-csv", CSV, b"a,b\n1,\xc3\x28\n2,ok\n".to_vec(), parsed(1, 1))),
        bad("invalid UTF-8 in a CSV header", file("utf8-header", CSV, b"a,\xff\n1,2\n".to_vec(), Fate::Buried)),
        bad("an empty file, NDJSON", file("empty", NDJSON, Vec::new(), parsed(0, 0))),
        bad("an empty file, CSV", file("empty-csv", CSV, Vec::new(), parsed(0, 0))),
    ]
}

/// Zeros, with so much of what can't be compressed that a hundred bytes come out of each: one line, to be read to its end.
fn just_allowed(size: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let mut random = Random::of(1);
    for _ in 0..size / (100 * 1024) {
        let noise: Vec<u8> = (0..1024).map(|_| b' ' + u8::try_from(random.below(90)).unwrap()).collect();
        encoder.write_all(&noise).unwrap();
        encoder.write_all(&[b'0'; 99 * 1024]).unwrap();
    }
    encoder.finish().unwrap()
}

/// So many zeros.
fn bomb(size: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![b'0'; 1024 * 1024];
    for _ in 0..size / zeros.len() {
        encoder.write_all(&zeros).unwrap();
    }
    encoder.finish().unwrap()
}
