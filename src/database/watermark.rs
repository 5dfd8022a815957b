//! Up to when a database holds what was committed: for each table, when the newest of its rows was. Read before a drill and in what came back,
//! the two say exactly what would have been lost.
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, Transaction, error::SqlState};

use super::readable;

/// When rows were committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// When it was read, by the server's clock, which is the clock of the commits too.
    pub read_at: Timestamp,
    /// For each table, when the newest of its rows was committed; none for a table whose rows are older than the server remembers.
    pub tables: BTreeMap<String, Option<Timestamp>>,
    /// What is not known of, by name, with the reason.
    pub unknown: BTreeMap<String, String>,
}

impl Watermark {
    /// The newest row of all, with its table.
    pub fn newest(&self) -> Option<(Timestamp, &str)> {
        self.tables.iter().filter_map(|(name, at)| Some(((*at)?, name.as_str()))).max()
    }
}

fn moment(micros: i64) -> Timestamp {
    // A server's clock beyond the year 9999 is none.
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
}

/// Reads it, in one moment. Every table is read once, by the server; what comes from there is a time for each. Tables that `budget` does not
/// reach for stay unknown; without one all are read.
pub async fn watermark(client: &mut Client, budget: Option<Duration>) -> Result<Watermark, tokio_postgres::Error> {
    let end = budget.map(|budget| Instant::now() + budget);
    let mut transaction = readable::moment(client).await?;
    let now =
        transaction.query_one("SELECT (extract(epoch FROM now()) * 1000000)::int8, current_setting('track_commit_timestamp')", &[]).await?;
    let (read_at, tracked): (i64, String) = (now.get(0), now.get(1));
    let mut found = Watermark { read_at: moment(read_at), tables: BTreeMap::new(), unknown: BTreeMap::new() };
    if tracked == "on" {
        readable::lend(&mut transaction).await?;
        of_tables(&mut transaction, end, &mut found).await?;
    } else {
        found
            .unknown
            .insert("every table".to_owned(), "the server does not remember when rows were committed (track_commit_timestamp)".to_owned());
    }
    transaction.rollback().await?;
    Ok(found)
}

async fn of_tables(transaction: &mut Transaction<'_>, end: Option<Instant>, found: &mut Watermark) -> Result<(), tokio_postgres::Error> {
    let readable = readable::tables(transaction).await?;
    found.unknown.extend(readable.unread);
    for table in readable.tables {
        // A timeout of nothing would be none.
        let left = end.map_or(0, |end| end.saturating_duration_since(Instant::now()).as_millis().max(1));
        let savepoint = transaction.transaction().await?;
        savepoint.batch_execute(&format!("SET LOCAL statement_timeout = {left}")).await?;
        let newest = format!("SELECT (extract(epoch FROM max(pg_xact_commit_timestamp(xmin))) * 1000000)::int8 FROM ONLY {}", table.name);
        let newest = savepoint.query_one(&newest, &[]).await;
        savepoint.rollback().await?;
        match newest {
            Ok(row) => drop(found.tables.insert(table.name, row.get::<_, Option<i64>>(0).map(moment))),
            Err(late) if late.code() == Some(&SqlState::QUERY_CANCELED) => {
                found.unknown.insert(table.name, "it is too large for a quick look; --verify full reads all of it".to_owned());
            }
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

/// What a drill would have lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// When the newest row that is lost was committed, and the table that it is in; none if none is lost.
    pub newest: Option<(Timestamp, String)>,
    /// From the moment up to which everything came back to that row's.
    pub micros: i64,
}

/// Holds what came back against its source, as that was read before. `holds_until` is the moment up to which the restore says that it holds
/// everything: a row of the source that is older and not there was deleted before it. Err says why nobody can tell.
pub fn lost(source: &Watermark, restored: &Watermark, holds_until: Timestamp) -> Result<Lost, String> {
    if let Some((name, why)) = source.unknown.iter().chain(&restored.unknown).next() {
        return Err(format!("{name}: {why}"));
    }
    let lost = source.tables.iter().filter_map(|(name, at)| {
        let at = (*at)?;
        let there = restored.tables.get(name).copied().flatten().is_some_and(|there| there >= at);
        (!there && at > holds_until).then(|| (at, name.clone()))
    });
    let newest = lost.max();
    // Everything that was committed until then came back, and perhaps more.
    let from = restored.newest().map_or(holds_until, |(newest, _)| newest.max(holds_until));
    let micros = newest.as_ref().map_or(0, |(at, _)| at.as_microsecond().saturating_sub(from.as_microsecond()).max(0));
    Ok(Lost { newest, micros })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn time(second: u32) -> Timestamp {
        format!("2026-11-29T03:00:{second:02}Z").parse().unwrap()
    }

    fn mark(tables: &[(&str, Option<u32>)]) -> Watermark {
        let tables = tables.iter().map(|(name, at)| ((*name).to_owned(), at.map(time))).collect();
        Watermark { read_at: time(30), tables, unknown: BTreeMap::new() }
    }

    #[test]
    fn the_newest_row_that_is_lost_is_named_and_measured_from_the_point() {
        let source = mark(&[("public.a", Some(20)), ("public.b", Some(25)), ("public.old", None)]);
        let lost_of = |restored: &Watermark, until| lost(&source, restored, time(until)).unwrap();
        assert_eq!(lost_of(&source, 20), Lost { newest: None, micros: 0 }, "everything is there");
        let restored = mark(&[("public.a", Some(20)), ("public.b", Some(11)), ("public.old", None)]);
        assert_eq!(lost_of(&restored, 20), Lost { newest: Some((time(25), "public.b".into())), micros: 5_000_000 });
        assert_eq!(lost_of(&restored, 12), Lost { newest: Some((time(25), "public.b".into())), micros: 5_000_000 }, "20 came back too");
        assert_eq!(lost_of(&mark(&[]), 10).micros, 15_000_000, "a table that is missing is lost");
        assert_eq!(lost_of(&restored, 26), Lost { newest: None, micros: 0 }, "deleted before the point");
    }

    #[test]
    fn what_nobody_could_read_is_not_claimed() {
        let mut source = mark(&[("public.a", Some(20))]);
        source.unknown.insert("public.b".into(), "admin may not read it".into());
        assert_eq!(lost(&source, &mark(&[("public.a", Some(20))]), time(10)).unwrap_err(), "public.b: admin may not read it");
    }
}
