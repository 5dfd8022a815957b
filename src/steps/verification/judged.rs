//! What a look into a restored database comes to: what was checked, what differs, what is wrong, and what nobody can say. Pure.
use serde::{Deserialize, Serialize};

use crate::{
    database::{
        audit::{Depth, Record, Section, differences},
        watermark::Watermark,
    },
    failure::Failure,
    steps::inside::Looked,
};

/// What is said about a restored database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// How much was to be looked at.
    pub depth: Depth,
    /// What was looked at, a sentence each.
    pub checked: Vec<String>,
    /// What was not looked at, each with the reason.
    pub skipped: Vec<String>,
    /// Where it differs from what was taken down when its snapshot was made.
    pub differs: Vec<String>,
    /// What is wrong with it by itself; it may have been before.
    pub wrong: Vec<String>,
    /// Up to when it has what was committed.
    pub watermark: Option<Watermark>,
}

/// Of so many things that differ each is told; the rest is counted.
pub const TOLD: usize = 50;

impl Verified {
    /// Nobody looked.
    pub fn nothing(depth: Depth, why: &str) -> Self {
        let skipped = vec![format!("what is inside the database (schema, roles, rows, indexes, newest commit): {why}")];
        Self { depth, checked: Vec::new(), skipped, differs: Vec::new(), wrong: Vec::new(), watermark: None }
    }

    /// An agent was sent and came back without an answer: so would a service.
    pub fn not_reached(depth: Depth, failure: &Failure) -> Self {
        let mut verified = Self::nothing(depth, "the agent came back without an answer");
        verified.wrong = failure.report(TOLD);
        verified
    }

    /// An agent has looked. `kept` is what was taken down when the snapshot was made, or why there is nothing of the kind.
    pub fn judged(depth: Depth, kept: Result<Record, String>, looked: Looked) -> Self {
        let Looked { record, examined, watermark } = looked;
        let mut verified = Self {
            depth,
            checked: examined.checked,
            skipped: examined.skipped,
            differs: Vec::new(),
            wrong: examined.wrong,
            watermark: None,
        };
        verified.inventory(&record);
        match kept {
            Ok(kept) => {
                verified.differs = differences(&kept, &record);
                verified.against(&kept, &record);
            }
            Err(why) => verified.skipped.push(format!("whether this is all that there was: {why}")),
        }
        verified.skipped.extend(record.unread.iter().map(|(name, why)| format!("{name}: {why}")));
        match watermark.newest() {
            Some((at, table)) => verified.checked.push(format!("newest row: committed at {at}, in {table}")),
            None => verified.skipped.push("the newest row: no table has one whose time of commit is known".to_owned()),
        }
        verified.skipped.extend(watermark.unknown.iter().map(|(name, why)| format!("the newest row of {name}: {why}")));
        verified.skipped.sort();
        verified.skipped.dedup();
        verified.watermark = Some(watermark);
        cut(&mut verified.differs);
        cut(&mut verified.wrong);
        verified
    }

    fn inventory(&mut self, record: &Record) {
        let schema = record.sections.get(&Section::Migration).and_then(|rows| {
            // Flyway numbers its rows; the newest is the one that counts.
            rows.iter().max_by_key(|(name, _)| name.rsplit_once('#').and_then(|(_, rank)| rank.parse::<u64>().ok()))
        });
        self.checked.push(match schema {
            Some((_, newest)) => format!("schema: its newest migration is {newest}"),
            None => "schema: it has no history of migrations".to_owned(),
        });
        let failed = record.sections.get(&Section::Migration).into_iter().flatten().filter(|(_, said)| said.ends_with("FAILED"));
        self.wrong.extend(failed.map(|(name, said)| format!("migration {name} has failed: {said}")));
        if let Some(tables) = &record.tables {
            let rows: u64 = tables.values().map(|table| table.rows).sum();
            self.checked.push(format!("{} tables: all of their {rows} rows were read", tables.len()));
        }
    }

    fn against(&mut self, kept: &Record, found: &Record) {
        let count = |section: Section| kept.sections.get(&section).map_or(0, std::collections::BTreeMap::len);
        let sections = [
            (Section::Migration, "migrations"),
            (Section::Extension, "extensions"),
            (Section::Role, "roles"),
            (Section::Grant, "owners and grants"),
            (Section::Sequence, "sequences"),
            (Section::Constraint, "constraints"),
            (Section::Index, "indexes"),
        ];
        let counted: Vec<String> = sections.iter().map(|(section, name)| format!("{} {name}", count(*section))).collect();
        self.checked.push(format!("held against what was taken down with writes paused: {}", counted.join(", ")));
        match (&kept.tables, &found.tables) {
            (Some(kept), Some(_)) => {
                let rows: u64 = kept.values().map(|table| table.rows).sum();
                self.checked.push(format!("held against it, row by row: {} tables with {rows} rows, by count and SHA-256", kept.len()));
            }
            (Some(_), None) => self.skipped.push("rows against what was taken down: --verify full counts and hashes them".to_owned()),
            (None, _) => self.skipped.push("rows: none were taken down".to_owned()),
        }
    }
}

fn cut(lines: &mut Vec<String>) {
    let more = lines.len().saturating_sub(TOLD);
    if more > 0 {
        lines.truncate(TOLD);
        lines.push(format!("and {more} more"));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::collections::BTreeMap;

    use super::*;
    use crate::database::{examine::Examined, table_sum::TableSum};

    fn record(rows: u64) -> Record {
        let sums = BTreeMap::from([("public.a".to_owned(), TableSum { rows, sha256: format!("{rows:064}") })]);
        let migrations = [
            ("public.flyway_schema_history#2", "2 V2__b.sql checksum 7 done"),
            ("public.flyway_schema_history#10", "10 V10__c.sql checksum 8 done"),
        ];
        let migrations = migrations.map(|(name, said)| (name.to_owned(), said.to_owned()));
        Record { sections: BTreeMap::from([(Section::Migration, BTreeMap::from(migrations))]), tables: Some(sums), unread: BTreeMap::new() }
    }

    fn looked(rows: u64) -> Looked {
        let at = "2026-11-29T03:00:00Z".parse().unwrap();
        let watermark = Watermark { read_at: at, tables: BTreeMap::from([("public.a".to_owned(), Some(at))]), unknown: BTreeMap::new() };
        Looked { record: record(rows), examined: Examined::default(), watermark }
    }

    #[test]
    fn what_was_taken_down_is_held_against_what_came_back() {
        let whole = Verified::judged(Depth::Full, Ok(record(5)), looked(5));
        assert!(whole.differs.is_empty() && whole.skipped.is_empty(), "{whole:?}");
        for said in [
            "newest migration is 10 V10__c.sql",
            "1 tables with 5 rows, by count and SHA-256",
            "newest row: committed at 2026-11-29T03:00:00Z, in public.a",
        ] {
            assert!(whole.checked.iter().any(|line| line.contains(said)), "{said}: {whole:?}");
        }
        let short = Verified::judged(Depth::Full, Ok(record(5)), looked(4));
        assert!(short.differs[0].starts_with("table public.a is: 4 rows"), "{short:?}");
    }

    #[test]
    fn without_a_record_nothing_is_said_of_all_that_there_was() {
        let mut found = looked(5);
        found.record.unread.insert("public.b".into(), "admin may not read it".into());
        let verified = Verified::judged(Depth::Full, Err("writes were not paused".into()), found);
        assert!(!verified.checked.iter().any(|line| line.contains("held against")), "{verified:?}");
        assert_eq!(verified.skipped, ["public.b: admin may not read it", "whether this is all that there was: writes were not paused"]);
        let nobody = Verified::nothing(Depth::Full, "no cluster is prepared");
        assert!(nobody.checked.is_empty() && nobody.watermark.is_none(), "{nobody:?}");
    }

    #[test]
    fn who_cannot_be_reached_is_wrong_and_a_failed_migration_too() {
        let unreached = Verified::not_reached(Depth::Quick, &Failure::step("db-2 can't be reached from inside the cluster"));
        assert_eq!(unreached.wrong, ["db-2 can't be reached from inside the cluster"]);
        let mut failed = looked(5);
        let rows = failed.record.sections.get_mut(&Section::Migration).unwrap();
        rows.insert("public.flyway_schema_history#11".into(), "11 V11__d.sql checksum 9 FAILED".into());
        assert!(Verified::judged(Depth::Quick, Err(String::new()), failed).wrong[0].contains("V11__d.sql"));
    }
}
