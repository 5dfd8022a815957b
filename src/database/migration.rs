//! Migration files as Flyway names, hashes and understands them, so that Flyway and deployctl can take turns on one database.
use std::{cmp::Ordering, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    scripts::{Scripts, ScriptsError},
    statement::{self, Statement},
    version::Version,
};

/// What a file's prefix says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sort {
    /// `V`: once, in the order of versions.
    Versioned(Version),
    /// `R`: after all versioned ones, again whenever its content changes.
    Repeatable,
    /// `U`: takes back what the versioned file of the same version did; run by `db undo` only.
    Undo(Version),
}

impl Sort {
    /// The version; none for repeatable files.
    pub fn version(&self) -> Option<&Version> {
        match self {
            Self::Versioned(version) | Self::Undo(version) => Some(version),
            Self::Repeatable => None,
        }
    }
}

/// Whether a file runs inside a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transaction {
    /// The rule: the file and its history row commit together.
    Wrapped,
    /// Each statement by itself: `executeInTransaction=false` in FILE.conf, or, as Flyway has it, a file whose every statement can run in no
    /// other way: CREATE INDEX CONCURRENTLY and its like.
    None,
}

/// One migration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// Versioned, repeatable or undo.
    pub sort: Sort,
    /// The name's second part, underscores as spaces.
    pub description: String,
    /// The file's path in its folder.
    pub script: String,
    /// Flyway's checksum.
    pub checksum: i32,
    /// Inside a transaction or not.
    pub transaction: Transaction,
    /// Whether Flyway would put values into `${…}`.
    pub placeholders: Placeholders,
    /// The SQL.
    pub sql: String,
}

/// What `placeholderReplacement` in FILE.conf says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placeholders {
    /// Flyway's rule: `${x}` stands for a value. deployctl has none to give.
    Replaced,
    /// `${x}` is text.
    Kept,
}

/// A folder's migrations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migrations {
    /// Versioned files in order, then repeatable ones by description.
    pub files: Vec<Migration>,
    /// Undo files by version.
    pub undo: Vec<Migration>,
}

/// A folder of migrations that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// Not readable.
    #[error(transparent)]
    Scripts(#[from] ScriptsError),
    /// Neither V, U nor R, or no version or description.
    #[error("{0}: a migration is named V1__what_it_does.sql, U1__what_it_undoes.sql or R__what_it_is.sql")]
    Name(String),
    /// Two files claim one place in the order.
    #[error("{0} and {1} are both version {2}")]
    Twice(String, String, Version),
    /// Two repeatable files are one to Flyway.
    #[error("{0} and {1} have the same description, by which repeatable migrations are told apart")]
    SameDescription(String, String),
    /// A setting that is not known.
    #[error("{0}: only executeInTransaction, placeholderReplacement (true or false) and encoding=UTF-8 are understood here")]
    Setting(String),
}

impl Migrations {
    /// Reads a folder and what is below it.
    pub fn read(folder: &Path) -> Result<Self, MigrationError> {
        Self::of(&Scripts::read(folder)?)
    }

    /// Understands the names, puts them in order, refuses what contradicts itself.
    pub fn of(scripts: &Scripts) -> Result<Self, MigrationError> {
        let sql = scripts.0.iter().filter(|(name, _)| name.ends_with(".sql"));
        let all = sql.map(|(name, sql)| understand(name, sql, scripts.0.get(&format!("{name}.conf")))).collect::<Result<Vec<_>, _>>()?;
        let (mut undo, mut files): (Vec<_>, Vec<_>) = all.into_iter().partition(|file| matches!(file.sort, Sort::Undo(_)));
        files.sort_by(order);
        undo.sort_by(order);
        for pair in files.windows(2).chain(undo.windows(2)) {
            let (first, second) = (&pair[0], &pair[1]);
            match (first.sort.version(), second.sort.version()) {
                (Some(one), Some(other)) if one == other => {
                    return Err(MigrationError::Twice(first.script.clone(), second.script.clone(), one.clone()));
                }
                (None, None) if first.description == second.description => {
                    return Err(MigrationError::SameDescription(first.script.clone(), second.script.clone()));
                }
                _ => {}
            }
        }
        Ok(Self { files, undo })
    }
}

impl Migration {
    /// Its statements.
    pub fn statements(&self) -> Vec<Statement> {
        statement::split(&self.sql)
    }
}

fn order(a: &Migration, b: &Migration) -> Ordering {
    match (a.sort.version(), b.sort.version()) {
        (Some(a), Some(b)) => a.cmp(b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.description.cmp(&b.description),
    }
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

fn understand(script: &str, sql: &str, conf: Option<&String>) -> Result<Migration, MigrationError> {
    let wrong = || MigrationError::Name(script.to_owned());
    let file = script.rsplit('/').next().unwrap_or(script);
    let (prefix, description) = file.strip_suffix(".sql").and_then(|name| name.split_once("__")).ok_or_else(wrong)?;
    let version = |text: &str| Version::parse(text).ok_or_else(wrong);
    let sort = match prefix.split_at_checked(1) {
        Some(("V", text)) => Sort::Versioned(version(text)?),
        Some(("U", text)) => Sort::Undo(version(text)?),
        Some(("R", "")) => Sort::Repeatable,
        _ => return Err(wrong()),
    };
    if description.is_empty() {
        return Err(wrong());
    }
    // PostgreSQL would take the byte order mark for a letter of the first word.
    let sql = sql.strip_prefix('\u{feff}').unwrap_or(sql).to_owned();
    let settings = Settings::read(&format!("{script}.conf"), conf.map_or("", String::as_str))?;
    let by_itself = || {
        let statements = statement::split(&sql);
        !statements.is_empty() && statements.iter().all(refuses_transactions)
    };
    let transaction = settings.transaction.unwrap_or_else(|| if by_itself() { Transaction::None } else { Transaction::Wrapped });
    Ok(Migration {
        sort,
        description: description.replace('_', " "),
        script: script.to_owned(),
        checksum: checksum(&sql),
        transaction,
        placeholders: settings.placeholders,
        sql,
    })
}

/// Statements that PostgreSQL runs outside of transactions only.
pub fn refuses_transactions(statement: &Statement) -> bool {
    let concurrently = statement.tokens.iter().take(4).any(|token| token.is("concurrently"));
    let one_of = |words: &[&str]| statement.tokens.first().is_some_and(|first| words.iter().any(|word| first.is(word)));
    (concurrently && one_of(&["create", "drop", "reindex"]))
        || one_of(&["vacuum"])
        || (one_of(&["create", "drop"]) && statement.tokens.get(1).is_some_and(|second| second.is("database") || second.is("tablespace")))
        || statement.starts(&["alter", "system"])
}

/// FILE.conf.
struct Settings {
    transaction: Option<Transaction>,
    placeholders: Placeholders,
}

impl Settings {
    fn read(name: &str, text: &str) -> Result<Self, MigrationError> {
        let mut settings = Self { transaction: None, placeholders: Placeholders::Replaced };
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
                Some(("executeInTransaction", "true")) => settings.transaction = Some(Transaction::Wrapped),
                Some(("executeInTransaction", "false")) => settings.transaction = Some(Transaction::None),
                Some(("placeholderReplacement", "true")) => settings.placeholders = Placeholders::Replaced,
                Some(("placeholderReplacement", "false")) => settings.placeholders = Placeholders::Kept,
                Some(("encoding", encoding)) if encoding.eq_ignore_ascii_case("utf-8") => {}
                _ => return Err(MigrationError::Setting(name.to_owned())),
            }
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scripts(files: &[(&str, &str)]) -> Scripts {
        Scripts(files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
    }

    #[test]
    fn files_are_read_in_flyways_order() {
        let read = Migrations::of(&scripts(&[
            ("V10__ten.sql", ""),
            ("sub/V2__two_words.sql", "select 1;"),
            ("V1.1__b.sql", ""),
            ("V1__a.sql", ""),
            ("R__views.sql", ""),
            ("deep/er/R__a_view.sql", ""),
            ("U1__undo.sql", ""),
            ("sub/V2__two_words.sql.conf", "executeInTransaction=false\nplaceholderReplacement = false\n# no\nencoding=utf-8"),
        ]))
        .unwrap();
        assert_eq!(
            read.files.iter().map(|m| m.script.as_str()).collect::<Vec<_>>(),
            ["V1__a.sql", "V1.1__b.sql", "sub/V2__two_words.sql", "V10__ten.sql", "deep/er/R__a_view.sql", "R__views.sql"]
        );
        assert_eq!((read.files[2].description.as_str(), read.files[2].transaction), ("two words", Transaction::None));
        assert_eq!((read.files[2].placeholders, read.files[0].placeholders), (Placeholders::Kept, Placeholders::Replaced));
        assert_eq!(read.undo.len(), 1);
    }

    #[test]
    fn a_file_whose_statements_refuse_transactions_runs_without_one() {
        let transaction = |sql: &str| Migrations::of(&scripts(&[("V1__a.sql", sql)])).unwrap().files[0].transaction;
        for alone in
            ["CREATE UNIQUE INDEX CONCURRENTLY i ON t (a);", "-- a\nDROP INDEX CONCURRENTLY i; REINDEX INDEX CONCURRENTLY j", "VACUUM t"]
        {
            assert_eq!(transaction(alone), Transaction::None, "{alone}");
        }
        for wrapped in ["", "SELECT 1", "CREATE INDEX i ON t (a)", "CREATE INDEX CONCURRENTLY i ON t (a); SELECT 1"] {
            assert_eq!(transaction(wrapped), Transaction::Wrapped, "{wrapped}");
        }
    }

    #[test]
    fn one_place_twice_is_an_error_even_when_written_differently() {
        assert!(matches!(Migrations::of(&scripts(&[("V1__a.sql", ""), ("x/V1_0__b.sql", "")])), Err(MigrationError::Twice(..))));
        assert!(matches!(Migrations::of(&scripts(&[("U1__a.sql", ""), ("U1_0__b.sql", "")])), Err(MigrationError::Twice(..))));
        assert!(matches!(Migrations::of(&scripts(&[("R__a.sql", ""), ("x/R__a.sql", "")])), Err(MigrationError::SameDescription(..))));
        assert!(Migrations::of(&scripts(&[("V1__a.sql", ""), ("U1__a.sql", "")])).is_ok());
        for name in ["V__a.sql", "Vx__a.sql", "V1_a.sql", "V1__.sql", "a.sql", "R1__a.sql", "B1__a.sql", "sub/a.sql"] {
            assert!(matches!(Migrations::of(&scripts(&[(name, "")])), Err(MigrationError::Name(_))), "{name}");
        }
        assert!(matches!(
            Migrations::of(&scripts(&[("V1__a.sql", ""), ("V1__a.sql.conf", "shouldExecute=false")])),
            Err(MigrationError::Setting(_))
        ));
    }

    #[test]
    fn the_checksum_ignores_line_ends_and_a_byte_order_mark() {
        // 0xcbf43926 is CRC-32's published check value, over the digits 1 to 9.
        assert_eq!(checksum("123456789"), 0xcbf4_3926_u32.cast_signed());
        assert_eq!(checksum("1234\r\n567\r89\n"), checksum("123456789"));
        assert_eq!(checksum("\u{feff}123456789"), checksum("123456789"));
    }
}
