//! What the files and the history table say together: what is applied, what will run, and why nothing may.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    history::{self, Entry},
    migration::{Migration, Migrations, Placeholders, Sort, Transaction},
    resume,
    version::Version,
};

/// What the files and the table say together.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// The newest version that is applied.
    pub version: Option<Version>,
    /// Files that will run, in this order.
    pub pending: Vec<Migration>,
    /// Of the pending ones, those that were begun outside a transaction and did not end well, with their rows' ranks: they are gone on with.
    pub begun: BTreeMap<String, i32>,
    /// Why nothing may run: changed, missing, failed or late files.
    pub problems: Vec<String>,
    /// The undo file of the newest version, if there is one.
    pub undo: Option<String>,
}

/// What the table says is applied, after everything that was undone or deleted.
struct Applied<'a> {
    versioned: BTreeMap<Version, &'a Entry>,
    repeatable: BTreeMap<&'a str, &'a Entry>,
    baseline: Option<Version>,
}

impl<'a> Applied<'a> {
    fn of(history: &'a [Entry]) -> Self {
        let mut applied = Self { versioned: BTreeMap::new(), repeatable: BTreeMap::new(), baseline: None };
        for entry in history {
            match (entry.kind.as_str(), &entry.version) {
                ("SCHEMA", _) => {}
                ("BASELINE" | "SQL_BASELINE", version) => applied.baseline = applied.baseline.max(version.clone()),
                // DELETE is Flyway's repair and our undo; the others are the undo of its commercial editions.
                ("DELETE" | "UNDO_SQL" | "UNDO_JDBC" | "UNDO_SCRIPT", Some(version)) if entry.success => {
                    applied.versioned.remove(version);
                }
                ("DELETE", None) if entry.success => {
                    applied.repeatable.remove(entry.description.as_str());
                }
                ("DELETE" | "UNDO_SQL" | "UNDO_JDBC" | "UNDO_SCRIPT", _) => {}
                (_, Some(version)) => {
                    applied.versioned.insert(version.clone(), entry);
                }
                (_, None) => {
                    applied.repeatable.insert(&entry.description, entry);
                }
            }
        }
        applied
    }

    fn entries(&self) -> impl Iterator<Item = &&'a Entry> {
        self.versioned.values().chain(self.repeatable.values())
    }

    fn version(&self) -> Option<Version> {
        let newest = self.versioned.iter().filter(|(_, entry)| entry.success).map(|(version, _)| version).next_back();
        newest.cloned().max(self.baseline.clone())
    }
}

/// The row of the newest applied version that a file of ours made; none where there is none, or a baseline is newer.
pub fn newest(history: &[Entry]) -> Option<Entry> {
    let applied = Applied::of(history);
    let version = applied.version()?;
    applied.versioned.get(&version).filter(|entry| entry.kind == "SQL").map(|entry| (**entry).clone())
}

/// Compares files and table. Pure.
pub fn compare(migrations: &Migrations, history: &[Entry]) -> Status {
    let applied = Applied::of(history);
    let mut status = Status { version: applied.version(), ..Status::default() };
    for file in &migrations.files {
        let (row, current) = match &file.sort {
            Sort::Versioned(version) => {
                let row = applied.versioned.get(version).copied();
                let ignored = row.is_none() && applied.baseline.as_ref().is_some_and(|baseline| version <= baseline);
                (row, ignored || row.is_some_and(|row| row.success))
            }
            _ => {
                let row = applied.repeatable.get(file.description.as_str()).copied();
                (row, row.is_some_and(|row| row.success && row.checksum == Some(file.checksum)))
            }
        };
        match (row, &file.sort) {
            (Some(row), Sort::Versioned(_)) if row.success && row.kind == "SQL" && row.checksum != Some(file.checksum) => {
                status.problems.push(format!("{} was changed after it was applied: put it back and write a new migration", file.script));
            }
            _ if current => {}
            (Some(row), _) if !row.success => match resume::obstacle(file) {
                None => drop(status.begun.insert(file.script.clone(), row.rank)),
                Some(why) => status.problems.push(failed_in_part(row, &why)),
            },
            (None, Sort::Versioned(version)) if status.version.as_ref().is_some_and(|newest| version < newest) => {
                status.problems.push(format!("{} comes late: a newer version is already applied; give it a newer number", file.script));
                continue;
            }
            _ => {}
        }
        if !current {
            status.problems.extend(refused(file));
            status.pending.push(file.clone());
        }
    }
    for entry in applied.entries().filter(|entry| entry.kind == "SQL") {
        let known = match &entry.version {
            Some(version) => migrations.files.iter().any(|file| file.sort.version() == Some(version)),
            None => migrations.files.iter().any(|file| file.sort == Sort::Repeatable && file.description == entry.description),
        };
        match (known, entry.success) {
            (true, _) => {}
            (false, true) => status.problems.push(format!("{} is applied, but its file is missing", entry.script)),
            (false, false) => status.problems.push(failed_in_part(entry, "its file is missing")),
        }
    }
    let newest = status.version.clone().map(Sort::Undo);
    status.undo = migrations.undo.iter().find(|file| Some(&file.sort) == newest.as_ref()).map(|file| file.script.clone());
    status
}

fn failed_in_part(entry: &Entry, why: &str) -> String {
    format!(
        "{} failed or was killed outside a transaction and may be there in part, and it cannot be gone on with: {why}. Compare its statements \
         with the schema, take back what is there of them, then `{}`",
        entry.script,
        history::delete_by_hand(entry.rank)
    )
}

/// What a pending file holds that cannot be run as it stands, each with its line.
pub(super) fn refused(file: &Migration) -> Vec<String> {
    let mut problems = Vec::new();
    if file.placeholders == Placeholders::Replaced
        && let Some(start) = file.sql.find("${").filter(|start| file.sql[*start..].contains('}'))
    {
        let line = file.sql[..start].matches('\n').count() + 1;
        problems.push(format!(
            "{}:{line}: Flyway puts a value into ${{…}}, and deployctl has none to put there: write the value itself, or, if the text is \
             meant as it stands, `placeholderReplacement=false` into {}.conf",
            file.script, file.script
        ));
    }
    let statements = file.statements();
    for statement in &statements {
        let ends_transaction = ["begin", "commit", "rollback", "end", "abort"].iter().any(|word| statement.starts(&[word]))
            || statement.starts(&["start", "transaction"])
            || statement.starts(&["prepare", "transaction"]);
        // ROLLBACK TO SAVEPOINT stays inside.
        if ends_transaction && !statement.tokens.iter().any(|token| token.is("to")) {
            let instead = match file.transaction {
                Transaction::Wrapped => format!("`executeInTransaction=false` in {}.conf runs each statement by itself", file.script),
                Transaction::None => "here each statement commits by itself".to_owned(),
            };
            problems.push(format!(
                "{}:{}: {}: a migration and its row in {} commit together, so it must not begin or end a transaction; {instead}",
                file.script,
                statement.line,
                statement.head(),
                history::TABLE,
            ));
        }
        if statement.starts(&["copy"]) && statement.tokens.iter().any(|token| token.is("stdin")) {
            problems.push(format!("{}:{}: COPY FROM STDIN cannot be run from a file: write INSERT", file.script, statement.line));
        }
        if file.transaction == Transaction::Wrapped && super::migration::refuses_transactions(statement) {
            problems.push(format!(
                "{}:{}: {}: PostgreSQL runs it outside of transactions only, and the rest of the file needs one: give it a file of its own",
                file.script,
                statement.line,
                statement.head()
            ));
        }
    }
    problems
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
