//! A migration's version, compared as Flyway compares them.
use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Serialize};

/// A version: numbers separated by dots (or, in file names, underscores). `1`, `1.0` and `1.00` are the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    parts: Vec<u64>,
    text: String,
}

impl Version {
    /// Reads a version as it stands in a file name or in the history table.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.replace('_', ".");
        let parts = text.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u64>>>()?;
        Some(Self { parts, text })
    }
    fn significant(&self) -> &[u64] {
        let end = self.parts.iter().rposition(|part| *part != 0).map_or(0, |last| last + 1);
        &self.parts[..end]
    }
}

impl std::str::FromStr for Version {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| format!("{text:?} is not a version, as in 12 or 2.1"))
    }
}
impl TryFrom<String> for Version {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}
impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.text
    }
}
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.significant() == other.significant()
    }
}
impl Eq for Version {}
impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.significant().cmp(other.significant())
    }
}
