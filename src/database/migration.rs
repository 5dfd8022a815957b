//! Migration files as Flyway names and hashes them, so that Flyway and deployctl can take turns on one database.
use std::{
    cmp::Ordering,
    fmt,
    path::{Path, PathBuf},
};

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

impl TryFrom<String> for Version {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is not a version"))
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

/// What a file's prefix says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sort {
    /// `V`: once, in the order of versions.
    Versioned(Version),
    /// `R`: after all versioned ones, again whenever its content changes.
    Repeatable,
}

/// Whether a file runs inside a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transaction {
    /// The rule: the file and its history row commit together.
    Wrapped,
    /// `executeInTransaction=false` in FILE.conf, as Flyway has it: for CREATE INDEX CONCURRENTLY and its like, one statement a file.
    None,
}

/// One migration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// Versioned or repeatable.
    pub sort: Sort,
    /// The name's second part, underscores as spaces.
    pub description: String,
    /// The file's name.
    pub script: String,
    /// Flyway's checksum.
    pub checksum: i32,
    /// Inside a transaction or not.
    pub transaction: Transaction,
    /// The SQL.
    pub sql: String,
}

/// A folder of migrations that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// Not readable.
    #[error("can't read {0}")]
    Read(PathBuf, #[source] std::io::Error),
    /// Neither V, U nor R, or no version or description.
    #[error("{0}: a migration is named V1__what_it_does.sql, U1__what_it_undoes.sql or R__what_it_is.sql")]
    Name(String),
    /// Two files claim one place in the order.
    #[error("{0} and {1} are both version {2}")]
    Twice(String, String, Version),
    /// A setting that is not known.
    #[error("{0}: only `executeInTransaction=true|false` is understood here")]
    Setting(String),
}

/// Flyway's checksum: CRC-32 over the lines' UTF-8 bytes without their line ends and without a byte order mark, as a signed number.
pub fn checksum(sql: &str) -> i32 {
    let mut crc = crc32fast::Hasher::new();
    // To Java a carriage return alone ends a line too.
    for line in sql.trim_start_matches('\u{feff}').split(['\r', '\n']) {
        crc.update(line.as_bytes());
    }
    i32::from_ne_bytes(crc.finalize().to_ne_bytes())
}

/// Reads a folder: versioned files in order, then repeatable ones by description. Undo files are read by `db undo` only.
pub fn read_folder(folder: &Path) -> Result<Vec<Migration>, MigrationError> {
    let read = |error| MigrationError::Read(folder.to_owned(), error);
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let name = entry.map_err(read)?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".sql") && !name.starts_with('U') {
            names.push(name);
        }
    }
    names.sort_unstable();
    let mut migrations = names.into_iter().map(|name| read_file(folder, name)).collect::<Result<Vec<_>, _>>()?;
    migrations.sort_by(|a, b| match (&a.sort, &b.sort) {
        (Sort::Versioned(a), Sort::Versioned(b)) => a.cmp(b),
        (Sort::Versioned(_), Sort::Repeatable) => Ordering::Less,
        (Sort::Repeatable, Sort::Versioned(_)) => Ordering::Greater,
        (Sort::Repeatable, Sort::Repeatable) => a.description.cmp(&b.description),
    });
    for pair in migrations.windows(2) {
        if let (Sort::Versioned(first), Sort::Versioned(second)) = (&pair[0].sort, &pair[1].sort)
            && first == second
        {
            return Err(MigrationError::Twice(pair[0].script.clone(), pair[1].script.clone(), first.clone()));
        }
    }
    Ok(migrations)
}

fn read_file(folder: &Path, script: String) -> Result<Migration, MigrationError> {
    let path = folder.join(&script);
    let wrong = || MigrationError::Name(script.clone());
    let (prefix, description) = script.strip_suffix(".sql").and_then(|name| name.split_once("__")).ok_or_else(wrong)?;
    let sort = match prefix.split_at_checked(1) {
        Some(("V", version)) => Sort::Versioned(Version::parse(version).ok_or_else(wrong)?),
        Some(("R", "")) => Sort::Repeatable,
        _ => return Err(wrong()),
    };
    if description.is_empty() {
        return Err(wrong());
    }
    let mut sql = std::fs::read_to_string(&path).map_err(|error| MigrationError::Read(path.clone(), error))?;
    if sql.starts_with('\u{feff}') {
        // PostgreSQL would take the byte order mark for a letter of the first word.
        sql.remove(0);
    }
    let transaction = setting(&folder.join(format!("{script}.conf")))?;
    Ok(Migration { sort, description: description.replace('_', " "), checksum: checksum(&sql), transaction, sql, script })
}

fn setting(path: &Path) -> Result<Transaction, MigrationError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Transaction::Wrapped),
        Err(error) => return Err(MigrationError::Read(path.to_owned(), error)),
    };
    let mut transaction = Transaction::Wrapped;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        transaction = match line.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
            Some(("executeInTransaction", "true")) => Transaction::Wrapped,
            Some(("executeInTransaction", "false")) => Transaction::None,
            _ => return Err(MigrationError::Setting(path.display().to_string())),
        };
    }
    Ok(transaction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    #[test]
    fn files_are_read_in_flyways_order() {
        let folder = folder(&[
            ("V10__ten.sql", ""),
            ("V2__two_words.sql", "select 1;"),
            ("V1.1__b.sql", ""),
            ("V1__a.sql", ""),
            ("R__views.sql", ""),
            ("U1__undo.sql", ""),
            ("V2__two_words.sql.conf", "executeInTransaction=false\n"),
        ]);
        let read = read_folder(folder.path()).unwrap();
        assert_eq!(
            read.iter().map(|m| m.script.as_str()).collect::<Vec<_>>(),
            ["V1__a.sql", "V1.1__b.sql", "V2__two_words.sql", "V10__ten.sql", "R__views.sql"]
        );
        assert_eq!((read[2].description.as_str(), read[2].transaction), ("two words", Transaction::None));
    }

    #[test]
    fn one_version_twice_is_an_error_even_when_written_differently() {
        let twice = folder(&[("V1__a.sql", ""), ("V1_0__b.sql", "")]);
        assert!(matches!(read_folder(twice.path()), Err(MigrationError::Twice(..))));
        for name in ["V__a.sql", "Vx__a.sql", "V1_a.sql", "V1__.sql", "a.sql", "R1__a.sql"] {
            let wrong = folder(&[(name, "")]);
            assert!(matches!(read_folder(wrong.path()), Err(MigrationError::Name(_))), "{name}");
        }
    }

    #[test]
    fn the_checksum_ignores_line_ends_and_a_byte_order_mark() {
        // 0xcbf43926 is CRC-32's published check value, over the digits 1 to 9.
        assert_eq!(checksum("123456789"), 0xcbf4_3926_u32.cast_signed());
        assert_eq!(checksum("1234\r\n567\r89\n"), checksum("123456789"));
        assert_eq!(checksum("\u{feff}123456789"), checksum("123456789"));
    }
}
