//! What a database holds, taken down and held against what was taken down before: after a restore nothing may be missing, changed or broken.
//! One transaction sees one moment, and is rolled back. Tables are streamed; none is ever in memory.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, Transaction};

use super::{
    readable::{self, OURS},
    table_sum::{self, TableSum},
};

/// How much is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Depth {
    /// Everything that is in the catalogue, where sequences stand, the newest commit.
    #[default]
    Quick,
    /// And every row of every table, and every index against its table.
    Full,
}

impl std::fmt::Display for Depth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Quick => "quick",
            Self::Full => "full",
        })
    }
}

/// A part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Section {
    /// Flyway's history: what was migrated, with which checksum.
    Migration,
    /// With their versions.
    Extension,
    /// What they may do in the whole cluster, and whose members they are.
    Role,
    /// Owners of relations and schemas, and what they have granted.
    Grant,
    /// Where they stand.
    Sequence,
    /// Their definitions, and whether all rows were held against them.
    Constraint,
    /// Their definitions, and whether they can be used.
    Index,
}

impl std::fmt::Display for Section {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Migration => "migration",
            Self::Extension => "extension",
            Self::Role => "role",
            Self::Grant => "grants of",
            Self::Sequence => "sequence",
            Self::Constraint => "constraint",
            Self::Index => "index",
        })
    }
}

/// What a database held at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What the catalogue says, by name.
    pub sections: BTreeMap<Section, BTreeMap<String, String>>,
    /// Every table's rows; none where only the catalogue was looked at.
    pub tables: Option<BTreeMap<String, TableSum>>,
    /// What could not be read, by name, with the reason; nothing is known about it.
    #[serde(default)]
    pub unread: BTreeMap<String, String>,
}

/// Pairs of a name and what is recorded under it. Roles that the server or RDS makes differ between servers and are nobody's data.
fn queries() -> [(Section, String); 5] {
    [
        (Section::Extension, "SELECT extname::text, extversion FROM pg_extension".to_owned()),
        (
            Section::Role,
            "SELECT r.rolname::text, concat_ws(' ',
                 CASE WHEN r.rolsuper THEN 'superuser' END, CASE WHEN r.rolcanlogin THEN 'login' END,
                 CASE WHEN r.rolcreatedb THEN 'createdb' END, CASE WHEN r.rolcreaterole THEN 'createrole' END,
                 CASE WHEN r.rolreplication THEN 'replication' END, CASE WHEN r.rolbypassrls THEN 'bypassrls' END,
                 (SELECT 'member of ' || string_agg(g.rolname, ', ' ORDER BY g.rolname)
                    FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid))
               FROM pg_roles r WHERE r.rolname !~ '^(pg_|rds)'"
                .to_owned(),
        ),
        (
            Section::Grant,
            format!(
                "SELECT o.name, 'owner ' || pg_get_userbyid(o.owner) || coalesce((
                     SELECT '; ' || string_agg(a.privilege_type || ' to ' || coalesce(g.rolname, 'public')
                         || CASE WHEN a.is_grantable THEN ' with grant option' ELSE '' END, ', ' ORDER BY a.privilege_type, g.rolname)
                       FROM aclexplode(o.acl) a LEFT JOIN pg_roles g ON g.oid = a.grantee), '')
                   FROM (SELECT c.oid::regclass::text AS name, c.relowner AS owner, c.relacl AS acl
                           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                          WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND {OURS}
                         UNION ALL SELECT 'schema ' || n.nspname, n.nspowner, n.nspacl FROM pg_namespace n WHERE {OURS}) o"
            ),
        ),
        (
            Section::Constraint,
            format!(
                "SELECT c.conrelid::regclass::text || '.' || c.conname, pg_get_constraintdef(c.oid)
                        || CASE WHEN c.convalidated THEN '' ELSE ' (not validated)' END
                   FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace WHERE c.conrelid <> 0 AND {OURS}"
            ),
        ),
        (
            Section::Index,
            format!(
                "SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
                        || CASE WHEN i.indisvalid AND i.indisready AND i.indislive THEN '' ELSE ' (not valid)' END
                   FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OURS}"
            ),
        ),
    ]
}

async fn pairs(transaction: &Transaction<'_>, query: &str) -> Result<BTreeMap<String, String>, tokio_postgres::Error> {
    Ok(transaction.query(query, &[]).await?.into_iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Takes down what a database holds.
pub async fn record(client: &mut Client, depth: Depth) -> Result<Record, tokio_postgres::Error> {
    let mut transaction = readable::moment(client).await?;
    let mut record = catalogue(&transaction).await?;
    // Only now: what is lent for the reading would be told among the roles.
    readable::lend(&mut transaction).await?;
    contents(&transaction, depth, &mut record).await?;
    transaction.rollback().await?;
    Ok(record)
}

/// What everybody may read.
pub(super) async fn catalogue(transaction: &Transaction<'_>) -> Result<Record, tokio_postgres::Error> {
    let mut record = Record::default();
    for (section, query) in queries() {
        record.sections.insert(section, pairs(transaction, &query).await?);
    }
    Ok(record)
}

/// What tables and sequences hold.
pub(super) async fn contents(transaction: &Transaction<'_>, depth: Depth, record: &mut Record) -> Result<(), tokio_postgres::Error> {
    let readable = readable::tables(transaction).await?;
    record.unread = readable.unread;
    let (sequences, hidden) = readable::sequences(transaction).await?;
    record.unread.extend(hidden);
    record.sections.insert(Section::Sequence, sequences);
    record.sections.insert(Section::Migration, migrations(transaction, &record.unread).await?);
    if depth == Depth::Full {
        record.tables = Some(table_sum::of(transaction, &readable.tables).await?);
        if readable::has_large_objects(transaction).await? {
            record.unread.insert("large objects".to_owned(), "they are in no table".to_owned());
        }
    }
    Ok(())
}

/// Every row of every history table, whichever schema it is in.
async fn migrations(
    transaction: &Transaction<'_>,
    unread: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, tokio_postgres::Error> {
    let tables = "SELECT c.oid::regclass::text FROM pg_class c WHERE c.relname = 'flyway_schema_history' AND c.relkind = 'r'";
    let mut found = BTreeMap::new();
    for table in transaction.query(tables, &[]).await? {
        let table: String = table.get(0);
        if unread.contains_key(&table) {
            continue;
        }
        let rows = format!(
            "SELECT '{}#' || installed_rank, concat_ws(' ', version, script, 'checksum ' || checksum, CASE WHEN success THEN 'done' ELSE 'FAILED' END)
               FROM {table}",
            table.replace('\'', "''")
        );
        found.extend(pairs(transaction, &rows).await?);
    }
    Ok(found)
}

/// Sentences on everything that differs; none if the database holds exactly what was taken down. What either could not read is left out.
pub fn differences(expected: &Record, found: &Record) -> Vec<String> {
    let mut all = Vec::new();
    let none = BTreeMap::new();
    let known = |name: &str| !expected.unread.contains_key(name) && !found.unread.contains_key(name);
    for (section, expected) in &expected.sections {
        let found = found.sections.get(section).unwrap_or(&none);
        let same = |is: &String, should: &String| is == should || (*section == Section::Sequence && is_further(is, should));
        compare(&section.to_string(), expected, found, &known, &same, &mut all);
    }
    if let (Some(expected), Some(found)) = (&expected.tables, &found.tables) {
        compare("table", expected, found, &known, &<TableSum as PartialEq>::eq, &mut all);
    }
    all
}

/// Whether a sequence stands further on than it did. PostgreSQL logs numbers ahead of their use, so that a server which comes back from a
/// copy of its files leaves some out; none is given twice.
fn is_further(is: &str, should: &str) -> bool {
    let read = |text: &str| {
        let (last, step) = text.split_once(readable::STEP)?;
        Some((last.parse::<i64>().ok(), step.parse::<i64>().ok()?))
    };
    match (read(is), read(should)) {
        (Some((Some(is), step)), Some((Some(should), before))) if step == before => {
            if step > 0 {
                is >= should
            } else {
                is <= should
            }
        }
        // One that had given no number has given some.
        (Some((Some(_), step)), Some((None, before))) => step == before,
        _ => false,
    }
}

fn compare<T: std::fmt::Display>(
    what: &str,
    expected: &BTreeMap<String, T>,
    found: &BTreeMap<String, T>,
    known: &impl Fn(&str) -> bool,
    same: &impl Fn(&T, &T) -> bool,
    all: &mut Vec<String>,
) {
    for (name, should) in expected.iter().filter(|(name, _)| known(name)) {
        match found.get(name) {
            None => all.push(format!("{what} {name} is missing; it was: {should}")),
            Some(is) if !same(is, should) => all.push(format!("{what} {name} is: {is}; it was: {should}")),
            Some(_) => {}
        }
    }
    let more = found.iter().filter(|(name, _)| !expected.contains_key(*name) && known(name));
    all.extend(more.map(|(name, is)| format!("{what} {name} was not there before: {is}")));
}
