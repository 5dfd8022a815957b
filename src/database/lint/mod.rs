//! Statements that stop a busy database or lose what it holds, found in pending migrations before they run.
//!
//! The rules are squawk's, by its names where it has them (squawkhq.com/docs/rules). Its library is a parser of all of PostgreSQL's grammar
//! and costs a cold build more than the whole of this module is worth in time; these rules need words, not a grammar.
mod rules;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    migration::Migration,
    statement::{self, Statement, Token},
};

pub use rules::Rule;

/// A dangerous statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The file's path in its folder.
    pub script: String,
    /// The statement's line.
    pub line: usize,
    /// The rule's name.
    pub rule: String,
    /// The statement's beginning.
    pub statement: String,
    /// What it would do.
    pub why: String,
    /// How to write it instead.
    pub safe: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { script, line, rule, statement, why, safe } = self;
        write!(f, "{script}:{line}: {statement}\n  {rule}: {why}\n  safe: {safe}\n  or, above it: -- deployctl:allow {rule} because …")
    }
}

/// How many statements the findings are about.
pub fn counted(findings: &[Finding]) -> String {
    let statements: BTreeSet<(&str, usize)> = findings.iter().map(|finding| (finding.script.as_str(), finding.line)).collect();
    if statements.len() == 1 { "1 statement".to_owned() } else { format!("{} statements", statements.len()) }
}

/// What is dangerous in these files, which run in this order. A table that one of them makes is nobody's yet: it may be locked and rewritten.
pub fn lint(files: &[Migration]) -> Vec<Finding> {
    let (mut findings, mut new) = (Vec::new(), BTreeSet::new());
    for file in files {
        for statement in file.statements() {
            let mut found: Vec<(usize, String, &'static Rule)> = Vec::new();
            for part in parts(&statement) {
                rules::check(&part.tokens, &new, &mut |rule| found.push((part.line, part.head(), rule)));
                new.extend(rules::makes(&part.tokens));
            }
            let allowed = allowed(&statement);
            for (line, statement, rule) in found {
                if !allowed.iter().any(|allow| allow.rule == rule.name && allow.complaint.is_none()) {
                    findings.push(finding(file, line, statement, rule));
                }
            }
            for (line, complaint) in allowed.into_iter().filter_map(|allow| Some((allow.line, allow.complaint?))) {
                findings.push(Finding {
                    script: file.script.clone(),
                    line,
                    rule: "deployctl:allow".to_owned(),
                    statement: statement.head(),
                    why: complaint,
                    safe: "-- deployctl:allow RULE because the reason, which whoever reads this at night will want to know".to_owned(),
                });
            }
        }
    }
    findings
}

fn finding(file: &Migration, line: usize, statement: String, rule: &Rule) -> Finding {
    let owned = |text: &str| text.to_owned();
    Finding { script: file.script.clone(), line, rule: owned(rule.name), statement, why: owned(rule.why), safe: owned(rule.safe) }
}

/// The statement itself, and what stands in the body of a DO block, which runs at once. What a block puts together as text and executes
/// can't be seen.
fn parts(statement: &Statement) -> Vec<Statement> {
    let mut parts = vec![statement.clone()];
    if statement.starts(&["do"])
        && let Some(Token::Text(body)) = statement.tokens.iter().find(|token| matches!(token, Token::Text(_)))
    {
        let before = statement.text.find(body.as_str()).map_or(0, |at| statement.text[..at].matches('\n').count());
        for mut inner in statement::split(body) {
            // `IF … THEN ALTER TABLE …;` is one piece for PL/pgSQL's semicolons.
            let begin = inner.tokens.iter().rposition(|token| ["begin", "then", "else", "loop"].iter().any(|word| token.is(word)));
            inner.tokens.drain(..begin.map_or(0, |at| at + 1));
            inner.line += statement.line + before - 1;
            parts.push(inner);
        }
    }
    parts
}

struct Allow {
    rule: String,
    line: usize,
    complaint: Option<String>,
}

/// The rules that comments before or in the statement allow.
fn allowed(statement: &Statement) -> Vec<Allow> {
    let comments = statement.comments.iter().filter_map(|comment| Some((comment.line, comment.text.strip_prefix("deployctl:allow")?)));
    comments
        .map(|(line, text)| {
            let (rule, reason) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
            let reason = reason.trim().strip_prefix("because").map(str::trim).unwrap_or_default();
            let complaint = if !rules::ALL.iter().any(|known| known.name == rule) {
                Some(format!("there is no rule {rule:?}"))
            } else if reason.is_empty() || reason == "…" {
                Some(format!("{rule} is allowed without a reason"))
            } else {
                None
            };
            Allow { rule: rule.to_owned(), line, complaint }
        })
        .collect()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
