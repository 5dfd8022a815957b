//! What a database holds, taken down and held against what was taken down before: after a restore nothing may be missing, changed or broken.
//! One read-only transaction sees one moment. Tables are streamed; none is ever in memory.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, IsolationLevel, Transaction};

use super::table_sum::{self, TableSum};

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Everything that is in the catalogue.
    Quick,
    /// And every row of every table.
    Full,
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
}

/// What is wrong with a database by itself, without anything to hold it against.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examined {
    /// A sentence for each thing that is wrong.
    pub wrong: Vec<String>,
    /// What was looked at.
    pub checked: Vec<String>,
    /// What could not be looked at, with the reason: nothing is claimed about it.
    pub skipped: Vec<String>,
}

const OURS: &str = "n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'";

/// Pairs of a name and what is recorded under it. Roles that the server or RDS makes differ between servers and are nobody's data.
fn queries() -> [(Section, String); 6] {
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
            Section::Sequence,
            "SELECT format('%I.%I', schemaname, sequencename), coalesce(last_value::text, 'unused') FROM pg_sequences".to_owned(),
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

async fn moment(client: &mut Client) -> Result<Transaction<'_>, tokio_postgres::Error> {
    let transaction = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
    // Whoever connects with other settings must get the same texts.
    transaction
        .batch_execute(
            "SET LOCAL search_path = pg_catalog; SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL IntervalStyle = 'postgres';
             SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; SET LOCAL lc_monetary = 'C'",
        )
        .await?;
    Ok(transaction)
}

async fn pairs(transaction: &Transaction<'_>, query: &str) -> Result<BTreeMap<String, String>, tokio_postgres::Error> {
    Ok(transaction.query(query, &[]).await?.into_iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Takes down what a database holds.
pub async fn record(client: &mut Client, depth: Depth) -> Result<Record, tokio_postgres::Error> {
    let transaction = moment(client).await?;
    let mut sections = BTreeMap::new();
    for (section, query) in queries() {
        sections.insert(section, pairs(&transaction, &query).await?);
    }
    sections.insert(Section::Migration, migrations(&transaction).await?);
    let tables = match depth {
        Depth::Quick => None,
        Depth::Full => Some(table_sum::all(&transaction).await?),
    };
    transaction.rollback().await?;
    Ok(Record { sections, tables })
}

/// Every row of every history table, whichever schema it is in.
async fn migrations(transaction: &Transaction<'_>) -> Result<BTreeMap<String, String>, tokio_postgres::Error> {
    let tables = "SELECT c.oid::regclass::text FROM pg_class c WHERE c.relname = 'flyway_schema_history' AND c.relkind = 'r'";
    let mut found = BTreeMap::new();
    for table in transaction.query(tables, &[]).await? {
        let table: String = table.get(0);
        let rows = format!(
            "SELECT '{}#' || installed_rank, concat_ws(' ', version, script, 'checksum ' || checksum, CASE WHEN success THEN 'done' ELSE 'FAILED' END)
               FROM {table}",
            table.replace('\'', "''")
        );
        found.extend(pairs(transaction, &rows).await?);
    }
    Ok(found)
}

/// Sentences on everything that differs; none if the database holds exactly what was taken down.
pub fn differences(expected: &Record, found: &Record) -> Vec<String> {
    let mut all = Vec::new();
    let none = BTreeMap::new();
    for (section, expected) in &expected.sections {
        let found = found.sections.get(section).unwrap_or(&none);
        compare(&section.to_string(), expected, found, &mut all);
    }
    if let (Some(expected), Some(found)) = (&expected.tables, &found.tables) {
        compare("table", expected, found, &mut all);
    }
    all
}

fn compare<T: PartialEq + std::fmt::Display>(
    what: &str,
    expected: &BTreeMap<String, T>,
    found: &BTreeMap<String, T>,
    all: &mut Vec<String>,
) {
    for (name, should) in expected {
        match found.get(name) {
            None => all.push(format!("{what} {name} is missing; it was: {should}")),
            Some(is) if is != should => all.push(format!("{what} {name} is: {is}; it was: {should}")),
            Some(_) => {}
        }
    }
    all.extend(
        found
            .iter()
            .filter(|(name, _)| !expected.contains_key(*name))
            .map(|(name, is)| format!("{what} {name} was not there before: {is}")),
    );
}

/// Looks for what is wrong by itself: indexes that cannot be used or do not fit their tables, sequences behind the rows that they number.
pub async fn examine(client: &mut Client) -> Result<Examined, tokio_postgres::Error> {
    let mut transaction = moment(client).await?;
    let mut examined = Examined::default();
    let invalid = format!(
        "SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE NOT (i.indisvalid AND i.indisready AND i.indislive) AND {OURS}"
    );
    let invalid = transaction.query(&invalid, &[]).await?;
    examined.wrong.extend(invalid.iter().map(|row| format!("index {} is not valid: queries do not use it", row.get::<_, String>(0))));
    sequences(&transaction, &mut examined).await?;
    indexes(&mut transaction, &mut examined).await?;
    transaction.rollback().await?;
    Ok(examined)
}

async fn sequences(transaction: &Transaction<'_>, examined: &mut Examined) -> Result<(), tokio_postgres::Error> {
    let owned = format!(
        "SELECT s.oid::regclass::text, t.oid::regclass::text, quote_ident(a.attname), q.seqincrement > 0,
                pg_sequence_last_value(s.oid)
           FROM pg_class s JOIN pg_namespace n ON n.oid = s.relnamespace JOIN pg_sequence q ON q.seqrelid = s.oid
           JOIN pg_depend d ON d.objid = s.oid AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
           JOIN pg_class t ON t.oid = d.refobjid JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
          WHERE s.relkind = 'S' AND {OURS}"
    );
    let owned = transaction.query(&owned, &[]).await?;
    for row in &owned {
        let (sequence, table, column): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let (grows, last): (bool, Option<i64>) = (row.get(3), row.get(4));
        let furthest = format!("SELECT {}({column})::int8 FROM {table}", if grows { "max" } else { "min" });
        let Some(furthest) = transaction.query_one(&furthest, &[]).await?.get::<_, Option<i64>>(0) else { continue };
        let behind = last.is_none_or(|last| if grows { last < furthest } else { last > furthest });
        if behind {
            let last = last.map_or_else(|| "unused".to_owned(), |last| format!("at {last}"));
            examined
                .wrong
                .push(format!("sequence {sequence} is {last}, and {table}.{column} has {furthest} already: the next insert fails"));
        }
    }
    examined.checked.push(format!("{} sequences that number a column", owned.len()));
    Ok(())
}

/// Every B-tree against its table, by amcheck: it finds rows that the index does not lead to.
async fn indexes(transaction: &mut Transaction<'_>, examined: &mut Examined) -> Result<(), tokio_postgres::Error> {
    let place =
        "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'";
    let Some(place) = transaction.query_opt(place, &[]).await?.map(|row| row.get::<_, String>(0)) else {
        examined.skipped.push("indexes against their tables: the extension amcheck is not installed in this database".to_owned());
        return Ok(());
    };
    let trees = format!(
        "SELECT i.indexrelid::regclass::text, i.indexrelid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
           JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE m.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence <> 't' AND i.indisvalid AND i.indisready AND {OURS}"
    );
    let trees = transaction.query(&trees, &[]).await?;
    let mut looked = 0;
    for row in &trees {
        let (name, oid): (String, u32) = (row.get(0), row.get(1));
        // An error ends a transaction, but not one around a savepoint.
        let savepoint = transaction.transaction().await?;
        let check = savepoint.execute(&format!("SELECT {place}.bt_index_check($1::oid::regclass, true)"), &[&oid]).await;
        savepoint.rollback().await?;
        match check {
            Ok(_) => looked += 1,
            Err(error) => match error.as_db_error() {
                Some(said) if *said.code() == tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE => {
                    examined.skipped.push(format!("index {name} against its table: {}", said.message()));
                }
                Some(said) => {
                    examined
                        .wrong
                        .push(format!("index {name} does not fit its table: {}; next: REINDEX INDEX CONCURRENTLY {name}", said.message()));
                }
                None => return Err(error),
            },
        }
    }
    examined.checked.push(format!("{looked} indexes against their tables"));
    Ok(())
}
