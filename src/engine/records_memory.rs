//! Records in memory, with a clock of their own, a line that can be cut, and writes whose answer is lost.
#![allow(clippy::unwrap_used, missing_docs, reason = "only tests use it, and they may panic")]
use std::{collections::BTreeMap, sync::Mutex};

use super::*;
use crate::failure::FailureKind;

/// What happens to the next writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    Works,
    /// Nothing arrives.
    Cut,
    /// Nothing arrives, and nobody says so.
    Silent,
    /// It arrives, its answer does not, and the client's second attempt is refused.
    LosesAnswers,
}

struct State {
    objects: BTreeMap<String, (Vec<u8>, u64, Duration)>,
    writes: u64,
    network: Network,
    there: bool,
    now: fn() -> Duration,
}

/// See the module.
pub struct MemoryRecords(Mutex<State>, Option<Arc<dyn Records>>);

impl Default for MemoryRecords {
    fn default() -> Self {
        Self::with_clock(crate::clock::since_boot)
    }
}

impl MemoryRecords {
    pub fn with_clock(now: fn() -> Duration) -> Self {
        Self(Mutex::new(State { objects: BTreeMap::new(), writes: 0, network: Network::Works, there: true, now }), None)
    }
    /// Journals that are kept here are copied there.
    pub fn copied_to(copies: Arc<dyn Records>) -> Self {
        Self(Self::default().0, Some(copies))
    }
    pub fn network(&self, network: Network) {
        self.0.lock().unwrap().network = network;
    }
    pub fn there(&self, there: bool) {
        self.0.lock().unwrap().there = there;
    }
    pub fn text(&self, key: &str) -> Option<String> {
        self.0.lock().unwrap().objects.get(key).map(|(body, ..)| String::from_utf8(body.clone()).unwrap())
    }
    pub fn put(&self, key: &str, text: &str) {
        let mut state = self.0.lock().unwrap();
        state.writes += 1;
        let number = state.writes;
        let now = (state.now)();
        state.objects.insert(key.to_owned(), (text.as_bytes().to_vec(), number, now));
    }
    fn cut() -> Failure {
        Failure::new(FailureKind::Timeout, "no answer")
    }
}

impl Records for MemoryRecords {
    fn place(&self) -> String {
        "memory".to_owned()
    }
    fn exists(&self) -> BoxFuture<'_, Result<bool, Failure>> {
        futures::future::ready(Ok(self.0.lock().unwrap().there)).boxed()
    }
    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<StoredObject>, Failure>> {
        let state = self.0.lock().unwrap();
        if state.network == Network::Silent {
            return futures::future::pending().boxed();
        }
        let found = state.objects.get(key).map(|(body, number, at)| StoredObject {
            body: body.clone().into(),
            etag: number.to_string(),
            age: Some((state.now)() - *at),
        });
        let answer = if state.network == Network::Cut { Err(Self::cut()) } else { Ok(found) };
        futures::future::ready(answer).boxed()
    }
    fn write<'a>(&'a self, key: &'a str, body: Vec<u8>, condition: Condition) -> BoxFuture<'a, Result<Written, Failure>> {
        let mut state = self.0.lock().unwrap();
        if state.network == Network::Silent {
            return futures::future::pending().boxed();
        }
        let current = state.objects.get(key).map(|(_, number, _)| number.to_string());
        let holds = match condition {
            Condition::None => true,
            Condition::Absent => current.is_none(),
            Condition::Unchanged { etag } => current == Some(etag),
        };
        let answer = match (state.network, holds) {
            (Network::Cut, _) => Err(Self::cut()),
            (_, false) => Ok(Written::Refused),
            (network, true) => {
                state.writes += 1;
                let number = state.writes;
                let now = (state.now)();
                state.objects.insert(key.to_owned(), (body, number, now));
                Ok(if network == Network::LosesAnswers { Written::Refused } else { Written::Done { etag: number.to_string() } })
            }
        };
        futures::future::ready(answer).boxed()
    }
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ObjectSummary>, Failure>> {
        let state = self.0.lock().unwrap();
        let found = state.objects.iter().filter(|(key, _)| key.starts_with(prefix));
        let found = found.map(|(key, (body, ..))| ObjectSummary { key: key.clone(), size: body.len() as u64 }).collect();
        futures::future::ready(Ok(found)).boxed()
    }
    fn copies(&self) -> Option<Arc<dyn Records>> {
        self.1.clone()
    }
}
