//! What is wrong with a database by itself, without anything to hold it against: indexes that cannot be used or do not fit their tables,
//! sequences behind the rows that they number.
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, Transaction, error::SqlState};

use super::{
    audit::Depth,
    readable::{self, OURS},
};

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examined {
    /// A sentence for each thing that is wrong.
    pub wrong: Vec<String>,
    /// What was looked at.
    pub checked: Vec<String>,
    /// What could not be looked at, with the reason: nothing is claimed about it.
    pub skipped: Vec<String>,
}

/// Looks; whatever it needs for that is rolled back.
pub async fn examine(client: &mut Client, depth: Depth) -> Result<Examined, tokio_postgres::Error> {
    let mut transaction = readable::moment(client).await?;
    let mut examined = Examined::default();
    validity(&transaction, &mut examined).await?;
    readable::lend(&mut transaction).await?;
    sequences(&transaction, &mut examined).await?;
    match depth {
        Depth::Full => indexes(&mut transaction, &mut examined).await?,
        Depth::Quick => examined.skipped.push("indexes against their tables: --verify full looks at them".to_owned()),
    }
    transaction.rollback().await?;
    Ok(examined)
}

async fn validity(transaction: &Transaction<'_>, examined: &mut Examined) -> Result<(), tokio_postgres::Error> {
    let all = format!(
        "SELECT i.indexrelid::regclass::text, i.indisvalid AND i.indisready AND i.indislive
           FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OURS} ORDER BY 1"
    );
    let all = transaction.query(&all, &[]).await?;
    let invalid = all.iter().filter(|row| !row.get::<_, bool>(1));
    examined.wrong.extend(invalid.map(|row| format!("index {} is not valid: queries do not use it", row.get::<_, String>(0))));
    examined.checked.push(format!("{} indexes: whether they can be used", all.len()));
    Ok(())
}

async fn sequences(transaction: &Transaction<'_>, examined: &mut Examined) -> Result<(), tokio_postgres::Error> {
    let owned = format!(
        "SELECT s.oid::regclass::text, t.oid::regclass::text, quote_ident(a.attname), q.seqincrement > 0, pg_sequence_last_value(s.oid),
                has_sequence_privilege(s.oid, 'SELECT') AND has_table_privilege(t.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')
                  AND has_schema_privilege(t.relnamespace, 'USAGE') AND NOT row_security_active(t.oid), current_user::text
           FROM pg_class s JOIN pg_namespace n ON n.oid = s.relnamespace JOIN pg_sequence q ON q.seqrelid = s.oid
           JOIN pg_depend d ON d.objid = s.oid AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
           JOIN pg_class t ON t.oid = d.refobjid JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
          WHERE s.relkind = 'S' AND NOT q.seqcycle AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) AND {OURS} ORDER BY 1"
    );
    let mut looked = 0;
    for row in transaction.query(&owned, &[]).await? {
        let (sequence, table, column): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let (grows, last): (bool, Option<i64>) = (row.get(3), row.get(4));
        if !row.get::<_, bool>(5) {
            examined.skipped.push(format!("sequence {sequence} against {table}.{column}: {} may not read both", row.get::<_, String>(6)));
            continue;
        }
        looked += 1;
        let furthest = format!("SELECT {}({column})::int8 FROM {table}", if grows { "max" } else { "min" });
        let Some(furthest) = transaction.query_one(&furthest, &[]).await?.get::<_, Option<i64>>(0) else { continue };
        let behind = last.is_none_or(|last| if grows { last < furthest } else { last > furthest });
        if behind {
            let last = last.map_or_else(|| "unused".to_owned(), |last| format!("at {last}"));
            examined.wrong.push(format!(
                "sequence {sequence} is {last}, and {table}.{column} has {furthest} already: it will give numbers that are taken"
            ));
        }
    }
    examined.checked.push(format!("{looked} sequences that number a column: whether they are ahead of it"));
    Ok(())
}

/// Where amcheck's functions are. One that is not installed is, until the rollback.
async fn amcheck(transaction: &mut Transaction<'_>) -> Result<Result<String, String>, tokio_postgres::Error> {
    let place =
        "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'";
    if let Some(row) = transaction.query_opt(place, &[]).await? {
        return Ok(Ok(row.get(0)));
    }
    let savepoint = transaction.transaction().await?;
    let made = "CREATE SCHEMA deployctl_amcheck; CREATE EXTENSION amcheck SCHEMA deployctl_amcheck";
    match savepoint.batch_execute(made).await {
        Ok(()) => {
            savepoint.commit().await?;
            Ok(Ok("deployctl_amcheck".to_owned()))
        }
        Err(refused) => {
            let Some(said) = refused.as_db_error().map(|said| said.message().to_owned()) else { return Err(refused) };
            savepoint.rollback().await?;
            Ok(Err(format!("amcheck is not installed in this database and cannot be: {said}")))
        }
    }
}

/// Every B-tree against its table, by amcheck: it finds rows that the index does not lead to.
async fn indexes(transaction: &mut Transaction<'_>, examined: &mut Examined) -> Result<(), tokio_postgres::Error> {
    let place = match amcheck(transaction).await? {
        Ok(place) => place,
        Err(why) => {
            examined.skipped.push(format!("indexes against their tables: {why}"));
            return Ok(());
        }
    };
    let all = format!(
        "SELECT i.indexrelid::regclass::text, i.indexrelid, m.amname::text
           FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind = 'i' AND c.relpersistence <> 't' AND i.indisvalid AND i.indisready AND {OURS} ORDER BY 1"
    );
    let mut looked = 0;
    for row in transaction.query(&all, &[]).await? {
        let (name, oid, method): (String, u32, String) = (row.get(0), row.get(1), row.get(2));
        if method != "btree" {
            examined.skipped.push(format!("index {name} against its table: amcheck knows no {method}"));
            continue;
        }
        // An error ends a transaction, but not one around a savepoint.
        let savepoint = transaction.transaction().await?;
        let check = savepoint.execute(&format!("SELECT {place}.bt_index_check($1::oid::regclass, true)"), &[&oid]).await;
        savepoint.rollback().await?;
        let Err(error) = check else {
            looked += 1;
            continue;
        };
        match error.as_db_error() {
            Some(said) if [SqlState::INDEX_CORRUPTED, SqlState::DATA_CORRUPTED].contains(said.code()) => {
                examined
                    .wrong
                    .push(format!("index {name} does not fit its table: {}; next: REINDEX INDEX CONCURRENTLY {name}", said.message()));
            }
            Some(said) => examined.skipped.push(format!("index {name} against its table: {}", said.message())),
            None => return Err(error),
        }
    }
    examined.checked.push(format!("{looked} indexes against their tables"));
    Ok(())
}
