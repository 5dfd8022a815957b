//! Going on with a migration that ran outside a transaction and was killed or failed: which statements can be run again, and what an
//! index that was not finished needs.
use tokio_postgres::Client;

use super::{
    migration::{Migration, Transaction},
    statement::{Statement, Token},
};

/// A statement, as far as running it again is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Again {
    /// CREATE INDEX CONCURRENTLY of this index on this table: done if the index is valid, made anew if it is not.
    Index {
        /// Its name, as PostgreSQL keeps it.
        name: String,
        /// Its table as written, quoted where it was.
        table: String,
    },
    /// DROP INDEX CONCURRENTLY of this index: done if it is not there.
    DropIndex {
        /// Its name as written.
        name: String,
    },
    /// Twice is the same as once.
    Harmless,
    /// Twice is not the same as once.
    Never,
}

/// Tells what running it again would do.
pub fn again(statement: &Statement) -> Again {
    let tokens = &statement.tokens;
    let at = |word: &str| tokens.iter().position(|token| token.is(word));
    let concurrently = at("concurrently");
    if statement.starts(&["create"])
        && let (Some(concurrently), Some(on)) = (concurrently, at("on"))
    {
        let after =
            if tokens[concurrently + 1..].first().is_some_and(|token| token.is("if")) { concurrently + 4 } else { concurrently + 1 };
        let only = usize::from(tokens.get(on + 1).is_some_and(|token| token.is("only")));
        return match tokens.get(after).and_then(Token::name).filter(|_| after < on) {
            Some(name) => Again::Index { name: name.to_owned(), table: qualified(&tokens[on + 1 + only..]) },
            // PostgreSQL chooses a name, and another one the next time.
            None => Again::Never,
        };
    }
    if statement.starts(&["drop", "index", "concurrently"]) {
        let after = if statement.starts(&["drop", "index", "concurrently", "if", "exists"]) { 5 } else { 3 };
        let name = qualified(&tokens[after.min(tokens.len())..]);
        return if name.is_empty() { Again::Never } else { Again::DropIndex { name } };
    }
    let harmless = [
        &["reindex"][..],
        &["vacuum"],
        &["analyze"],
        &["set"],
        &["refresh", "materialized", "view"],
        &["comment", "on"],
        &["grant"],
        &["revoke"],
    ];
    let validates = statement.starts(&["alter", "table"]) && at("validate").is_some() && at("add").is_none() && at("drop").is_none();
    if validates || harmless.iter().any(|words| statement.starts(words)) { Again::Harmless } else { Again::Never }
}

/// `a.b` as written at the tokens' begin, in quotes where it must be.
fn qualified(tokens: &[Token]) -> String {
    let mut name = String::new();
    let mut tokens = tokens.iter();
    while let Some(part) = tokens.next().and_then(Token::name) {
        name.push_str(&quoted(part));
        if tokens.next() != Some(&Token::Symbol('.')) {
            break;
        }
        name.push('.');
    }
    name
}

/// A name in quotes.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Why a file cannot be gone on with; none if all of its statements can be run again.
pub fn obstacle(file: &Migration) -> Option<String> {
    if file.transaction == Transaction::Wrapped {
        return Some("it would run inside a transaction now".to_owned());
    }
    let statements = file.statements();
    let never = statements.iter().find(|statement| again(statement) == Again::Never)?;
    Some(format!("line {} of it, `{}`, must not be run twice", never.line, never.head()))
}

/// An index as the catalog has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Schema and name, quoted: what DROP takes.
    pub name: String,
    /// Whether queries may use it.
    pub valid: bool,
    /// Whether somebody else holds the lock that building an index holds on its table.
    pub table_busy: bool,
}

impl Index {
    /// What takes it away without stopping anybody.
    pub fn repair(&self) -> String {
        format!("DROP INDEX CONCURRENTLY {};", self.name)
    }
}

const INDEXES: &str = "SELECT format('%I.%I', n.nspname, c.relname), i.indisvalid,
        EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'relation' AND l.relation = i.indrelid
                AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND l.mode = 'ShareUpdateExclusiveLock' AND l.pid <> pg_backend_pid())
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace";

fn index(row: &tokio_postgres::Row) -> Index {
    Index { name: row.get(0), valid: row.get(1), table_busy: row.get(2) }
}

/// The index of this name in the schema of this table. An index is always in its table's schema.
pub async fn find(client: &Client, name: &str, table: &str) -> Result<Option<Index>, tokio_postgres::Error> {
    let query =
        format!("{INDEXES} WHERE c.relname = $1 AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass($2)::oid)");
    Ok(client.query_opt(&query, &[&name, &table]).await?.as_ref().map(index))
}

/// Whether this index, named as in a statement, is there.
pub async fn exists(client: &Client, name: &str) -> Result<bool, tokio_postgres::Error> {
    Ok(client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&name]).await?.get(0))
}

/// Indexes that a killed or failed CREATE INDEX CONCURRENTLY or REINDEX CONCURRENTLY has left: every write still keeps them, no query uses them.
pub async fn invalid(client: &Client) -> Result<Vec<Index>, tokio_postgres::Error> {
    let query = format!("{INDEXES} WHERE NOT i.indisvalid AND n.nspname NOT IN ('pg_catalog', 'pg_toast') ORDER BY 1");
    Ok(client.query(&query, &[]).await?.iter().map(index).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::statement::split;

    #[test]
    fn statements_are_told_by_what_twice_means() {
        let index = |name: &str, table: &str| Again::Index { name: name.into(), table: table.into() };
        for (sql, expected) in [
            ("CREATE INDEX CONCURRENTLY a ON t (x)", index("a", "\"t\"")),
            ("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS \"A b\" ON ONLY s.\"T\" (x)", index("A b", "\"s\".\"T\"")),
            ("CREATE INDEX CONCURRENTLY ON t (x)", Again::Never),
            ("DROP INDEX CONCURRENTLY s.a", Again::DropIndex { name: "\"s\".\"a\"".into() }),
            ("DROP INDEX CONCURRENTLY IF EXISTS a", Again::DropIndex { name: "\"a\"".into() }),
            ("REINDEX INDEX CONCURRENTLY a", Again::Harmless),
            ("ALTER TABLE t VALIDATE CONSTRAINT c", Again::Harmless),
            ("ALTER TABLE t ADD c int, VALIDATE CONSTRAINT c", Again::Never),
            ("INSERT INTO t VALUES (1)", Again::Never),
            ("CREATE INDEX a ON t (x)", Again::Never),
        ] {
            assert_eq!(again(&split(sql)[0]), expected, "{sql}");
        }
    }
}
