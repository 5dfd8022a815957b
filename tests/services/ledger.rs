//! What was handed in, held against what is there: rows in PostgreSQL, events in Kafka, messages in both queues.
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use krafka::consumer::AutoOffsetReset;
use uuid::Uuid;

use crate::{
    files::{Fate, File},
    place::{BUCKET, Place, TOPIC},
};

/// As many rejected rows are kept (PARSER_KEPT_REJECTIONS).
const KEPT: u64 = 10_000;

/// Everything that was handed in since the test began.
#[derive(Default)]
pub struct Ledger {
    /// By key and version.
    parsed: BTreeMap<(String, String), (u64, u64)>,
    /// By message.
    buried: BTreeSet<String>,
    /// Taken out of the dead-letter queue so far, by message, with how often.
    found: BTreeMap<String, u64>,
}

/// What a look has counted.
#[derive(Debug)]
pub struct Counts {
    pub files: usize,
    pub rows: u64,
    pub rejected: u64,
    pub events: u64,
    pub published_again: u64,
    pub poison: usize,
    pub buried_again: u64,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} files, {} rows, {} rejected rows; {} events, {} of them published again under the same id; {} poison messages, {} buried again",
            self.files, self.rows, self.rejected, self.events, self.published_again, self.poison, self.buried_again
        )
    }
}

impl Ledger {
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes what must become of a file, and returns its message.
    pub fn expect(&mut self, file: &File, version: &str) -> String {
        let message = file.message(version);
        match file.fate {
            Fate::Parsed { accepted, rejected } => drop(self.parsed.insert((file.key.clone(), version.to_owned()), (accepted, rejected))),
            Fate::Buried => drop(self.buried.insert(message.clone())),
        }
        message
    }
}

impl Place {
    /// Waits until nothing is left to do, and then fails on whatever is lost, doubled or made up.
    pub async fn everything_is_there(&mut self, within: Duration) -> Counts {
        self.until_idle(within).await;
        let (rows, rejected) = self.rows_are_right().await;
        let (events, published_again) = self.events_are_right().await;
        let buried_again = self.dead_letters_are_right().await;
        Counts { files: self.ledger.parsed.len(), rows, rejected, events, published_again, poison: self.ledger.buried.len(), buried_again }
    }

    async fn until_idle(&self, within: Duration) {
        let end = Instant::now() + within;
        loop {
            let (visible, hidden) = self.depth().await;
            let waiting = self.number("SELECT count(*) FROM outbox WHERE published_at IS NULL").await;
            if (visible, hidden, waiting) == (0, 0, 0) {
                return;
            }
            let left = format!("{visible} messages wait, {hidden} are hidden, {waiting} events are not published");
            assert!(Instant::now() < end, "after {within:?}: {left}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn rows_are_right(&self) -> (u64, u64) {
        let query = "SELECT f.key, f.version, f.rows_accepted, f.rows_rejected, f.bucket, coalesce(r.rows, 0), coalesce(x.rows, 0)
             FROM files f LEFT JOIN (SELECT file_id, count(*) AS rows FROM records GROUP BY file_id) r USING (file_id)
             LEFT JOIN (SELECT file_id, count(*) AS rows FROM rejected_rows GROUP BY file_id) x USING (file_id)";
        let mut there = BTreeMap::new();
        let mut total = (0, 0);
        for row in self.database.query(query, &[]).await.unwrap() {
            let number = |column: usize| u64::try_from(row.get::<_, i64>(column)).unwrap();
            let key: String = row.get(0);
            assert_eq!(row.get::<_, &str>(4), BUCKET);
            assert_eq!(number(5), number(2), "{key}: rows that are there, rows that were counted");
            assert_eq!(number(6), number(3).min(KEPT), "{key}: rejected rows that are kept");
            total = (total.0 + number(2), total.1 + number(3));
            there.insert((key, row.get::<_, String>(1)), (number(2), number(3)));
        }
        for (file, counts) in &self.ledger.parsed {
            assert_eq!(there.get(file), Some(counts), "{file:?}: rows accepted and rejected");
        }
        let expected = self.ledger.parsed.len();
        assert_eq!(
            there.len(),
            expected,
            "a file is there that nobody handed in: {:?}",
            there.keys().find(|k| !self.ledger.parsed.contains_key(k))
        );
        let counted = "SELECT count(*), count(DISTINCT content) FROM records WHERE content ? 'series'";
        let row = self.database.query_one(counted, &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), row.get::<_, i64>(1), "a row is there twice");
        total
    }

    async fn events_are_right(&self) -> (u64, u64) {
        let query = "SELECT file_id, (SELECT count(*) FROM outbox o WHERE o.payload->>'file_id' = f.file_id::text) FROM files f";
        let mut files = BTreeSet::new();
        for row in self.database.query(query, &[]).await.unwrap() {
            assert_eq!(row.get::<_, i64>(1), 1, "one event a file in the outbox");
            files.insert(row.get::<_, Uuid>(0));
        }
        let mut ids: BTreeMap<Uuid, BTreeSet<Uuid>> = BTreeMap::new();
        let mut events = 0;
        for (file, event) in self.events().await {
            events += 1;
            assert!(files.contains(&file), "an event of a file that is not there: {file}");
            ids.entry(file).or_default().insert(event);
        }
        for file in &files {
            let of_file = ids.get(file).unwrap_or_else(|| panic!("no event of {file} is in Kafka"));
            assert_eq!(of_file.len(), 1, "one id for the event of {file}: {of_file:?}");
        }
        (events, events - files.len() as u64)
    }

    /// File and event of every record in the topic.
    async fn events(&self) -> Vec<(Uuid, Uuid)> {
        let consumer = self.kafka.consumer_without_group().auto_offset_reset(AutoOffsetReset::Earliest).build().await.unwrap();
        consumer.assign(TOPIC, vec![0, 1, 2]).await.unwrap();
        let mut left = 0;
        for partition in 0..3 {
            let (low, high) = consumer.fetch_watermarks(TOPIC, partition).await.unwrap();
            left += high - low;
        }
        let mut all = Vec::new();
        let end = Instant::now() + Duration::from_secs(60);
        while i64::try_from(all.len()).unwrap() < left {
            assert!(Instant::now() < end, "{} of {left} events within 60 s", all.len());
            for record in consumer.poll(Duration::from_secs(1)).await.unwrap() {
                let event: serde_json::Value = serde_json::from_str(record.value_str().unwrap()).unwrap();
                let id = |name: &str| event[name].as_str().unwrap().parse().unwrap();
                assert_eq!(record.header_str("event_id"), event["event_id"].as_str(), "header and payload");
                all.push((id("file_id"), id("event_id")));
            }
        }
        consumer.close().await.unwrap();
        all
    }

    async fn dead_letters_are_right(&mut self) -> u64 {
        loop {
            let received = self.sqs.receive_message().queue_url(&self.dead_letters).max_number_of_messages(10);
            let messages = received.message_attribute_names("All").send().await.unwrap().messages.unwrap_or_default();
            if messages.is_empty() {
                break;
            }
            for message in messages {
                let reason = message.message_attributes().and_then(|all| all.get("reason")?.string_value());
                assert!(reason.is_some_and(|reason| !reason.is_empty()), "SQS moved it, not the parser: {message:?}");
                *self.ledger.found.entry(message.body.unwrap()).or_default() += 1;
                let delete = self.sqs.delete_message().queue_url(&self.dead_letters).receipt_handle(message.receipt_handle.unwrap());
                delete.send().await.unwrap();
            }
        }
        for message in self.ledger.found.keys() {
            assert!(self.ledger.buried.contains(message), "in the dead-letter queue, and no poison: {message}");
        }
        for message in &self.ledger.buried {
            assert!(self.ledger.found.contains_key(message), "poison that is not in the dead-letter queue: {message}");
        }
        self.ledger.found.values().map(|times| times - 1).sum()
    }
}
