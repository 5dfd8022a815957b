//! What a session can read of a database, all in one moment: tables and sequences, and what it must leave out, with the reason.
use std::collections::BTreeMap;

use tokio_postgres::{Client, IsolationLevel, Transaction};

/// Schemas that are somebody's data; `n` is their row of pg_namespace.
pub(super) const OURS: &str = "n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'";
/// Between where a sequence stands and how far its next number is from there.
pub(super) const STEP: &str = ", in steps of ";

/// A table that can be read.
pub(super) struct Table {
    /// With its schema, quoted.
    pub name: String,
    /// The columns of its primary key, as in `ORDER BY`; none if it has none.
    pub key: Option<String>,
}

/// All tables, the parts of a partitioned one each for itself.
pub(super) struct Tables {
    /// Those that can be read.
    pub tables: Vec<Table>,
    /// Those that cannot, with the reason.
    pub unread: BTreeMap<String, String>,
}

/// A transaction that sees one moment. It is rolled back by whoever began it, and so is what [`lend`] does.
pub(super) async fn moment(client: &mut Client) -> Result<Transaction<'_>, tokio_postgres::Error> {
    begin(client, IsolationLevel::RepeatableRead).await
}

/// The same with another isolation.
pub(super) async fn begin(client: &mut Client, isolation: IsolationLevel) -> Result<Transaction<'_>, tokio_postgres::Error> {
    let transaction = client.build_transaction().isolation_level(isolation).read_only(false).start().await?;
    // Whoever connects with other settings must get the same texts; rows that a policy hides must be an error and not a smaller table.
    transaction
        .batch_execute(
            "SET LOCAL search_path = pg_catalog; SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL IntervalStyle = 'postgres';
             SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; SET LOCAL lc_monetary = 'C'; SET LOCAL row_security = off;
             SET LOCAL lock_timeout = '10s'",
        )
        .await?;
    Ok(transaction)
}

/// Makes the session a member of the roles that own what it may not read, for this transaction only: the master user of RDS is no superuser and
/// may grant that, and a rollback takes it back. Where it may not, what they own stays unread.
pub(super) async fn lend(transaction: &mut Transaction<'_>) -> Result<(), tokio_postgres::Error> {
    let owners = format!(
        "SELECT DISTINCT quote_ident(pg_get_userbyid(c.relowner)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind IN ('r', 'p', 'S') AND {OURS} AND NOT pg_has_role(c.relowner, 'USAGE')"
    );
    for owner in transaction.query(&owners, &[]).await? {
        let owner: String = owner.get(0);
        let savepoint = transaction.transaction().await?;
        match savepoint.batch_execute(&format!("GRANT {owner} TO CURRENT_USER")).await {
            Ok(()) => savepoint.commit().await?,
            Err(refused) if refused.as_db_error().is_some() => savepoint.rollback().await?,
            Err(broken) => return Err(broken),
        }
    }
    Ok(())
}

/// Every table that holds rows of its own.
pub(super) async fn tables(transaction: &Transaction<'_>) -> Result<Tables, tokio_postgres::Error> {
    // Texts are ordered by their bytes: another version of the operating system may have other rules for its languages.
    let query = format!(
        "SELECT c.oid::regclass::text,
                (SELECT string_agg('t.' || quote_ident(a.attname) || CASE WHEN a.attcollation <> 0 THEN ' COLLATE \"C\"' ELSE '' END, ', ' ORDER BY k.at)
                   FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, at), pg_attribute a
                  WHERE i.indrelid = c.oid AND i.indisprimary AND a.attrelid = c.oid AND a.attnum = k.attnum),
                CASE WHEN NOT (has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')) THEN current_user::text || ' may not read it'
                     WHEN row_security_active(c.oid) THEN 'a policy hides rows of it from ' || current_user::text END
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {OURS}"
    );
    let mut found = Tables { tables: Vec::new(), unread: BTreeMap::new() };
    for row in transaction.query(&query, &[]).await? {
        let (name, reason): (String, Option<String>) = (row.get(0), row.get(2));
        match reason {
            Some(reason) => drop(found.unread.insert(name, reason)),
            None => found.tables.push(Table { name, key: row.get(1) }),
        }
    }
    Ok(found)
}

/// Where each sequence stands, and those that cannot be read, with the reason.
pub(super) async fn sequences(
    transaction: &Transaction<'_>,
) -> Result<(BTreeMap<String, String>, BTreeMap<String, String>), tokio_postgres::Error> {
    let query = format!(
        "SELECT c.oid::regclass::text, has_sequence_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'),
                coalesce(pg_sequence_last_value(c.oid)::text, 'unused') || '{STEP}' || s.seqincrement, current_user::text || ' may not read it'
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_sequence s ON s.seqrelid = c.oid WHERE {OURS}"
    );
    let (mut read, mut unread) = (BTreeMap::new(), BTreeMap::new());
    for row in transaction.query(&query, &[]).await? {
        let (into, column) = if row.get(1) { (&mut read, 2usize) } else { (&mut unread, 3) };
        into.insert(row.get(0), row.get(column));
    }
    Ok((read, unread))
}

/// Whether something is kept outside of tables.
pub(super) async fn has_large_objects(transaction: &Transaction<'_>) -> Result<bool, tokio_postgres::Error> {
    Ok(transaction.query_one("SELECT EXISTS (SELECT FROM pg_largeobject_metadata)", &[]).await?.get(0))
}
