//! What would run, looked at by a role that can write nothing: the history, and PostgreSQL's own parser over every pending statement.
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, error::SqlState};

use super::{
    compare::Status,
    migrate::{self, MigrateError, explain},
    migration::Migrations,
};

/// What a dry run has found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Looked {
    /// What is applied and what is pending.
    pub status: Status,
    /// Statements that PostgreSQL's parser refuses, as FILE:LINE: why.
    pub refused: Vec<String>,
    /// How many statements it took.
    pub parsed: usize,
    /// The role that looked.
    pub role: String,
}

/// Why a dry run was not begun.
#[derive(Debug, thiserror::Error)]
pub enum DryRunError {
    /// The role could write.
    #[error("the role {role} could write, so this would be no dry run: {}", .may.join(", "))]
    MayWrite {
        /// The role.
        role: String,
        /// What it could do.
        may: Vec<String>,
    },
    /// The database or the files.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
}

/// What the session's role, or one that it could become, may write; empty for a role that can only read. Ownership counts: an owner grants
/// himself what he lacks. What belongs to the first superuser (10) came with PostgreSQL, or on RDS with RDS itself.
const MAY_WRITE: &str = "
    WITH roles AS (SELECT oid, rolname, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls FROM pg_roles WHERE pg_has_role(session_user, oid, 'MEMBER'))
    SELECT format('%s is a superuser', rolname) FROM roles WHERE rolsuper
    UNION ALL SELECT format('%s makes roles', rolname) FROM roles WHERE rolcreaterole
    UNION ALL SELECT format('%s makes databases', rolname) FROM roles WHERE rolcreatedb
    UNION ALL SELECT format('%s writes files of the server', rolname) FROM roles WHERE rolname IN ('pg_write_server_files', 'pg_execute_server_program')
    UNION ALL SELECT format('%s writes to %s', rolname, c.oid::regclass) FROM roles, pg_class c
        WHERE c.relkind IN ('r', 'p', 'v', 'f', 'm') AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
        AND c.relpersistence <> 't' AND (c.relowner = roles.oid OR has_table_privilege(roles.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER')
             OR has_any_column_privilege(roles.oid, c.oid, 'INSERT, UPDATE'))
    UNION ALL SELECT format('%s advances %s', rolname, c.oid::regclass) FROM roles, pg_class c
        WHERE c.relkind = 'S' AND (c.relowner = roles.oid OR has_sequence_privilege(roles.oid, c.oid, 'USAGE, UPDATE'))
    UNION ALL SELECT format('%s makes objects in schema %s', rolname, nspname) FROM roles, pg_namespace n
        WHERE nspname !~ '^pg_(toast_)?temp' AND (n.nspowner = roles.oid OR has_schema_privilege(roles.oid, n.oid, 'CREATE'))
    UNION ALL SELECT format('%s makes schemas or temporary tables', rolname) FROM roles
        WHERE has_database_privilege(roles.oid, current_database(), 'CREATE, TEMPORARY')
    UNION ALL SELECT format('%s calls %s with its owner''s rights', rolname, p.oid::regprocedure) FROM roles, pg_proc p
        WHERE p.prosecdef AND p.proowner <> 10 AND has_function_privilege(roles.oid, p.oid, 'EXECUTE')";

/// Looks. No statement of a migration is ever executed: PostgreSQL is asked to parse each, and even if one were executed, the role has nothing
/// that it may write to, and its transactions are read-only.
pub async fn look(client: &Client, migrations: &Migrations) -> Result<Looked, DryRunError> {
    let database = |error| DryRunError::Migrate(MigrateError::Database(error));
    let role: String = client.query_one("SELECT session_user::text", &[]).await.map_err(database)?.get(0);
    let may: Vec<String> = client.query(MAY_WRITE, &[]).await.map_err(database)?.iter().map(|row| row.get(0)).collect();
    if !may.is_empty() {
        return Err(DryRunError::MayWrite { role, may });
    }
    let status = migrate::status(client, migrations).await?;
    let (mut refused, mut parsed) = (Vec::new(), 0);
    for file in &status.pending {
        for statement in file.statements() {
            match client.prepare(&statement.text).await {
                Err(error) if error.is_closed() => return Err(database(error)),
                // What an earlier pending file would make is not there yet; only what can't be parsed at all is wrong for certain.
                Err(error) if error.code() == Some(&SqlState::SYNTAX_ERROR) => {
                    refused.push(format!("{}:{}: {}", file.script, statement.line, explain(&error)));
                }
                Err(_) | Ok(_) => parsed += 1,
            }
        }
    }
    Ok(Looked { status, refused, parsed, role })
}
