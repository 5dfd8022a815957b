//! A trial: what a service's role does, done as that role in one transaction and rolled back. What it would leave is nothing, and the file that says
//! what to do may not say otherwise.
use super::statement::{Statement, split};

/// Words by which a file would end the transaction that takes everything back, or leave it.
const NOT_HERE: [&str; 13] =
    ["begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "prepare", "call", "do", "vacuum", "set"];

/// What was done and taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tried {
    /// Statements.
    pub statements: u64,
    /// Rows that they have written, or found.
    pub rows: u64,
}

/// Why there was no good trial.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The file says something that has no place in it.
    #[error("line {line}: `{head}` has no place in a trial: everything in it is one transaction, which is rolled back")]
    NotHere {
        /// Where.
        line: usize,
        /// What.
        head: String,
    },
    /// There is nothing in it.
    #[error("it has no statement")]
    Empty,
    /// The database refuses.
    #[error("line {line}: `{head}`")]
    Refused {
        /// Where.
        line: usize,
        /// What.
        head: String,
        /// What it says.
        #[source]
        why: tokio_postgres::Error,
    },
    /// The transaction could not be begun or taken back.
    #[error("the transaction")]
    Transaction(#[from] tokio_postgres::Error),
}

/// The statements of a file, if it leaves nothing.
pub fn statements(text: &str) -> Result<Vec<Statement>, TrialError> {
    let all = split(text);
    if all.is_empty() {
        return Err(TrialError::Empty);
    }
    match all.iter().find(|statement| NOT_HERE.iter().any(|word| statement.starts(&[word]))) {
        Some(statement) => Err(TrialError::NotHere { line: statement.line, head: statement.head() }),
        None => Ok(all),
    }
}

/// Does it, and takes it back.
pub async fn run(client: &mut tokio_postgres::Client, text: &str) -> Result<Tried, TrialError> {
    let statements = statements(text)?;
    let transaction = client.transaction().await?;
    let mut tried = Tried::default();
    for statement in &statements {
        let refused = |why| TrialError::Refused { line: statement.line, head: statement.head(), why };
        tried.rows += transaction.execute(statement.text.as_str(), &[]).await.map_err(refused)?;
        tried.statements += 1;
    }
    transaction.rollback().await?;
    Ok(tried)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_file_that_would_leave_something_is_refused_at_its_line() {
        assert_eq!(statements(include_str!("../../services/parser/trial.sql")).unwrap().len(), 9);
        for word in ["COMMIT", "END", "ROLLBACK", "BEGIN", "SAVEPOINT a", "PREPARE TRANSACTION 'x'", "DO $$BEGIN COMMIT; END$$"] {
            let refused = statements(&format!("SELECT 1;\n{word};")).unwrap_err().to_string();
            assert!(refused.starts_with("line 2: "), "{word}: {refused}");
        }
        assert!(matches!(statements("-- nothing\n").unwrap_err(), TrialError::Empty));
    }
}
