//! The rules: what each looks for, why it is dangerous, and the safe way to write it.
use std::collections::BTreeSet;

use crate::database::statement::{Token, starts};

/// One rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// As in `deployctl:allow NAME`.
    pub name: &'static str,
    /// What the statement would do.
    pub why: &'static str,
    /// How to write it instead.
    pub safe: &'static str,
}

macro_rules! rules {
    ($($id:ident $name:literal: $why:literal => $safe:literal;)*) => {
        $(static $id: Rule = Rule { name: $name, why: $why, safe: $safe };)*
        /// Every rule.
        pub static ALL: &[&Rule] = &[$(&$id),*];
    };
}

rules! {
    INDEX "require-concurrent-index-creation":
        "nobody can write to the table for as long as the index is built" =>
        "CREATE INDEX CONCURRENTLY, in a file of its own";
    DROP_INDEX "require-concurrent-index-deletion":
        "it waits for every query on the table, and everybody else waits behind it" =>
        "DROP INDEX CONCURRENTLY, in a file of its own";
    REINDEX "require-concurrent-reindex":
        "nobody can write to the table, or use the index, for as long as it is built" =>
        "REINDEX … CONCURRENTLY, in a file of its own";
    TYPE "changing-column-type":
        "the table is rewritten, and nobody can read it meanwhile; what still expects the old type breaks" =>
        "add a column of the new type, write to both, fill it in batches, then switch; allow it where the change only widens a varchar or numeric";
    NOT_NULL "adding-not-nullable-field":
        "the whole table is read while nobody can use it" =>
        "ADD CONSTRAINT c CHECK (col IS NOT NULL) NOT VALID; in the next file VALIDATE CONSTRAINT c; then SET NOT NULL, which is quick with it";
    RENAME_COLUMN "renaming-column":
        "the version of the service that is running asks for the old name until the last pod is replaced" =>
        "add a column under the new name, write to both, switch, drop the old one in a later release";
    RENAME_TABLE "renaming-table":
        "the version of the service that is running asks for the old name until the last pod is replaced" =>
        "make the new table or a view under the new name, switch, drop the old name in a later release";
    NOT_VALID "constraint-missing-not-valid":
        "every row is checked while nobody can write to the table, nor to the one that it references" =>
        "ADD CONSTRAINT … NOT VALID; in a later file VALIDATE CONSTRAINT, which stops nobody";
    UNIQUE "disallowed-unique-constraint":
        "its index is built while nobody can use the table" =>
        "CREATE UNIQUE INDEX CONCURRENTLY i; in a later file ADD CONSTRAINT … UNIQUE (or PRIMARY KEY) USING INDEX i";
    DEFAULT "adding-field-with-default":
        "the value differs by row, so the whole table is rewritten while nobody can use it" =>
        "add the column without it, ALTER COLUMN … SET DEFAULT for new rows, fill old rows in batches";
    REQUIRED "adding-required-field":
        "it fails as soon as the table has a row, and the running service writes rows without it" =>
        "give it a constant DEFAULT, or add it without NOT NULL first";
    DROP_TABLE "ban-drop-table":
        "what it holds is gone, and the running service still asks for it" =>
        "in a release after the last one that uses it, with a snapshot, and an allow comment that says so";
    DROP_COLUMN "ban-drop-column":
        "what it holds is gone, and the running service still asks for it" =>
        "in a release after the last one that uses it, with a snapshot, and an allow comment that says so";
    DROP_SCHEMA "ban-drop-schema":
        "everything in it is gone" =>
        "drop what is in it, one by one, in a release after the last one that uses it";
    DROP_DATABASE "ban-drop-database":
        "everything in it is gone" =>
        "deployctl destroy, which takes a final snapshot";
    TRUNCATE "ban-truncate":
        "every row is gone, and every query on the table waits for it" =>
        "DELETE in batches, or an allow comment that says why no row is missed";
    WHOLE_TABLE "whole-table-write":
        "every row is locked until the migration ends, the table doubles in size, and an error undoes all of it" =>
        "write in batches with a WHERE, outside the migration or in a job of the service";
    REWRITE "table-rewrite":
        "the table is copied while nobody can use it" =>
        "VACUUM without FULL; pg_repack; for another tablespace or logging a new table and a switch";
    LOCK "ban-lock-table":
        "everybody waits for it, for as long as the migration takes" =>
        "let the statements take the locks that they need";
    PARTITION "require-concurrent-partition-detach":
        "it waits for every query on the whole table, and everybody else waits behind it" =>
        "DETACH PARTITION … CONCURRENTLY, in a file of its own";
    REFRESH "require-concurrent-refresh":
        "nobody can read the view meanwhile" =>
        "REFRESH MATERIALIZED VIEW CONCURRENTLY, which needs a unique index on it";
    SCHEMA "ban-set-schema":
        "the version of the service that is running asks for it where it was" =>
        "make a view where it was, in the same migration";
}

/// Functions whose value is the same for every row of a statement, so that PostgreSQL keeps it once and rewrites nothing.
const SAME_FOR_EVERY_ROW: [&str; 12] = [
    "now",
    "statement_timestamp",
    "transaction_timestamp",
    "to_timestamp",
    "make_date",
    "make_interval",
    "coalesce",
    "cast",
    "array",
    "lower",
    "upper",
    "jsonb_build_object",
];
/// Types, whose parentheses hold a length.
const TYPES: [&str; 14] = [
    "varchar",
    "char",
    "character",
    "varying",
    "numeric",
    "decimal",
    "bit",
    "timestamp",
    "timestamptz",
    "time",
    "interval",
    "float",
    "vector",
    "bpchar",
];

/// The tables that the statement makes and that were not there before.
pub fn makes(tokens: &[Token]) -> Option<String> {
    if !starts(tokens, &["create"]) {
        return None;
    }
    let rest = tokens[1..].iter().position(|token| token.is("table")).filter(|at| *at < 3).map(|at| &tokens[at + 2..])?;
    // With IF NOT EXISTS it may be an old one.
    if starts(rest, &["if", "not", "exists"]) { None } else { name(rest).map(|(name, _)| name) }
}

/// A name, perhaps with its schema; `public` and none are the same. And how many tokens it takes.
fn name(tokens: &[Token]) -> Option<(String, usize)> {
    let first = tokens.first()?.name()?;
    match (tokens.get(1), tokens.get(2).and_then(Token::name)) {
        (Some(Token::Symbol('.')), Some(second)) if first == "public" => Some((second.to_owned(), 3)),
        (Some(Token::Symbol('.')), Some(second)) => Some((format!("{first}.{second}"), 3)),
        _ => Some((first.to_owned(), 1)),
    }
}

/// The name after the first of these words, past IF EXISTS and ONLY.
fn after<'a>(tokens: &'a [Token], word: &str) -> Option<(String, &'a [Token])> {
    let mut rest = &tokens[tokens.iter().position(|token| token.is(word))? + 1..];
    while rest.first().is_some_and(|token| ["if", "exists", "only", "not"].iter().any(|word| token.is(word))) {
        rest = &rest[1..];
    }
    name(rest).map(|(name, length)| (name, &rest[length..]))
}

/// Whether all tables of a list after this word are nobody's yet.
fn all_new(tokens: &[Token], word: &str, new: &BTreeSet<String>) -> bool {
    let mut next = after(tokens, word);
    while let Some((table, rest)) = next {
        if !new.contains(&table) {
            return false;
        }
        match rest.split_first() {
            Some((Token::Symbol(','), more)) => next = name(more).map(|(name, length)| (name, &more[length..])),
            _ => return true,
        }
    }
    false
}

fn has(tokens: &[Token], words: &[&str]) -> bool {
    (0..tokens.len()).any(|at| starts(&tokens[at..], words))
}

/// Says which rules a statement breaks, if the tables in `new` are nobody's yet.
pub fn check(tokens: &[Token], new: &BTreeSet<String>, found: &mut dyn FnMut(&'static Rule)) {
    let is_new = |table: &Option<(String, &[Token])>| table.as_ref().is_some_and(|(table, _)| new.contains(table));
    let concurrently = has(tokens, &["concurrently"]);
    let first = |words: &[&str]| starts(tokens, words);
    if first(&["create"]) && tokens.iter().take(3).any(|token| token.is("index")) && !concurrently && !is_new(&after(tokens, "on")) {
        found(&INDEX);
    } else if first(&["drop", "index"]) && !concurrently {
        found(&DROP_INDEX);
    } else if first(&["reindex"]) && !concurrently {
        found(&REINDEX);
    } else if first(&["drop", "table"]) && !all_new(tokens, "table", new) {
        found(&DROP_TABLE);
    } else if first(&["drop", "schema"]) {
        found(&DROP_SCHEMA);
    } else if first(&["drop", "database"]) {
        found(&DROP_DATABASE);
    } else if first(&["drop", "owned"]) {
        found(&DROP_TABLE);
    } else if first(&["truncate"]) && !all_new(tokens, if first(&["truncate", "table"]) { "table" } else { "truncate" }, new) {
        found(&TRUNCATE);
    } else if (first(&["update"]) && !has(tokens, &["where"]) && !is_new(&after(tokens, "update")))
        || (first(&["delete", "from"]) && !has(tokens, &["where"]) && !is_new(&after(tokens, "from")))
    {
        found(&WHOLE_TABLE);
    } else if first(&["cluster"]) || (first(&["vacuum"]) && tokens.iter().take(8).any(|token| token.is("full"))) {
        found(&REWRITE);
    } else if first(&["lock"]) {
        found(&LOCK);
    } else if first(&["refresh", "materialized", "view"]) && !concurrently && !is_new(&after(tokens, "view")) {
        found(&REFRESH);
    } else if first(&["alter", "table"]) || first(&["alter", "materialized", "view"]) {
        let table = after(tokens, if first(&["alter", "table"]) { "table" } else { "view" });
        if !is_new(&table)
            && let Some((_, actions)) = table
        {
            separate(actions).into_iter().for_each(|action| check_action(action, concurrently, found));
        }
    }
}

/// An ALTER TABLE's actions, which commas separate.
fn separate(tokens: &[Token]) -> Vec<&[Token]> {
    let mut depth = 0_usize;
    tokens
        .split(|token| {
            match token {
                Token::Symbol('(') => depth += 1,
                Token::Symbol(')') => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && *token == Token::Symbol(',')
        })
        .collect()
}

fn check_action(action: &[Token], concurrently: bool, found: &mut dyn FnMut(&'static Rule)) {
    let first = |words: &[&str]| starts(action, words);
    if first(&["add"]) && is_constraint(&action[1..]) {
        if (has(action, &["unique"]) || has(action, &["primary", "key"]) || has(action, &["exclude"])) && !has(action, &["using", "index"])
        {
            found(&UNIQUE);
        } else if (has(action, &["check"]) || has(action, &["foreign", "key"])) && !has(action, &["not", "valid"]) {
            found(&NOT_VALID);
        }
    } else if first(&["add"]) {
        check_column(action, found);
    } else if first(&["drop"]) && !action.get(1).is_some_and(|next| next.is("constraint")) {
        found(&DROP_COLUMN);
    } else if first(&["alter"]) && has(action, &["set", "not", "null"]) {
        found(&NOT_NULL);
    } else if first(&["alter"]) && action.iter().take(6).any(|token| token.is("type")) {
        found(&TYPE);
    } else if first(&["rename", "to"]) {
        found(&RENAME_TABLE);
    } else if first(&["rename"]) && !first(&["rename", "constraint"]) {
        found(&RENAME_COLUMN);
    } else if first(&["set", "schema"]) {
        found(&SCHEMA);
    } else if first(&["set", "tablespace"])
        || first(&["set", "logged"])
        || first(&["set", "unlogged"])
        || first(&["set", "access", "method"])
    {
        found(&REWRITE);
    } else if first(&["detach", "partition"]) && !concurrently {
        found(&PARTITION);
    }
}

fn is_constraint(tokens: &[Token]) -> bool {
    tokens.first().is_some_and(|next| ["constraint", "check", "foreign", "unique", "primary", "exclude"].iter().any(|word| next.is(word)))
}

/// ADD COLUMN.
fn check_column(action: &[Token], found: &mut dyn FnMut(&'static Rule)) {
    let default = action.iter().position(|token| token.is("default"));
    let generates = has(action, &["generated", "always", "as"]) || has(action, &["as", "identity"]);
    let serial = action.iter().any(|token| ["serial", "bigserial", "smallserial"].iter().any(|word| token.is(word)));
    let varies = default.is_some_and(|at| calls_what_varies(&action[at + 1..]));
    if generates || serial || varies {
        found(&DEFAULT);
    }
    if has(action, &["not", "null"]) && default.is_none() && !generates && !serial {
        found(&REQUIRED);
    }
    if has(action, &["unique"]) || has(action, &["primary", "key"]) {
        found(&UNIQUE);
    }
    if has(action, &["references"]) || has(action, &["check"]) {
        found(&NOT_VALID);
    }
}

/// Whether an expression calls a function that may give another value for each row.
fn calls_what_varies(expression: &[Token]) -> bool {
    expression.windows(2).any(|pair| match pair {
        [Token::Word(name), Token::Symbol('(')] => {
            !SAME_FOR_EVERY_ROW.contains(&name.as_str()) && !TYPES.contains(&name.as_str()) && name != "check" && name != "references"
        }
        [Token::Name(_), Token::Symbol('(')] => true,
        _ => false,
    })
}
