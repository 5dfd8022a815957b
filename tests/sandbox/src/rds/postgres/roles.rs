//! The roles that RDS makes in a new server: `rds_superuser` and the master user, who is no superuser.
use anyhow::{Context as _, Result};
use tokio_postgres::Client;

use super::{
    super::{model::Instance, platform::Credentials},
    place::RDS_EXTENSIONS,
    session,
};

/// `"name"`.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `'text'`; standard_conforming_strings is on in every session.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Makes the roles, the rule for extensions and the first database in a fresh server.
pub async fn found(client: &Client, instance: &Instance, credentials: &Credentials) -> Result<()> {
    let master = identifier(&credentials.username);
    client
        .batch_execute(
            "CREATE ROLE rds_superuser NOLOGIN; CREATE ROLE rds_replication NOLOGIN; CREATE ROLE rds_iam NOLOGIN; \
             CREATE ROLE rds_password NOLOGIN; \
             GRANT pg_monitor, pg_signal_backend, pg_checkpoint TO rds_superuser WITH ADMIN OPTION; \
             GRANT rds_replication, rds_password TO rds_superuser WITH ADMIN OPTION;",
        )
        .await
        .context("making RDS' roles")?;
    client
        .batch_execute(&format!(
            "CREATE ROLE {master} LOGIN NOSUPERUSER CREATEROLE CREATEDB VALID UNTIL 'infinity' IN ROLE rds_superuser; \
             ALTER DATABASE postgres OWNER TO {master};"
        ))
        .await
        .context("making the master user")?;
    set_password(client, credentials).await?;
    for database in ["template1", "postgres"] {
        let session = session::connect(instance, database).await?;
        session.batch_execute(&extension_rule()).await.with_context(|| format!("adding the rule for extensions to {database}"))?;
    }
    if let Some(name) = instance.db_name.as_deref().filter(|name| *name != "postgres") {
        client.batch_execute(&format!("CREATE DATABASE {} OWNER {master}", identifier(name))).await.context("making the first database")?;
    }
    Ok(())
}

/// Gives the master user a password; the statement is kept out of the log and of pg_stat_statements.
pub async fn set_password(client: &Client, credentials: &Credentials) -> Result<()> {
    client
        .batch_execute("SET log_min_error_statement = panic; SET log_statement = 'none'; SET log_min_duration_statement = -1; SET pg_stat_statements.track_utility = off")
        .await?;
    let statement = format!("ALTER ROLE {} PASSWORD {}", identifier(&credentials.username), literal(&credentials.password));
    // The error is dropped with its statement; only its code is told.
    client.batch_execute(&statement).await.map_err(|error| {
        let code = error.code().map(|code| code.code().to_owned()).unwrap_or_default();
        anyhow::anyhow!("PostgreSQL refused the master user's new password (SQLSTATE {code})")
    })
}

/// RDS lets members of `rds_superuser` create certain extensions, run their functions, and nobody else.
fn extension_rule() -> String {
    let names: Vec<String> = RDS_EXTENSIONS.iter().map(|name| literal(name)).collect();
    let names = names.join(", ");
    format!(
        "CREATE SCHEMA IF NOT EXISTS rdsadmin_rules; REVOKE ALL ON SCHEMA rdsadmin_rules FROM PUBLIC; \
         CREATE OR REPLACE FUNCTION rdsadmin_rules.check_extension() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER \
         SET search_path = pg_catalog AS $rule$ \
         DECLARE made record; routine regprocedure; BEGIN \
           FOR made IN SELECT objid, object_identity FROM pg_event_trigger_ddl_commands() \
             WHERE object_type = 'extension' AND object_identity IN ({names}) LOOP \
             IF NOT pg_has_role(session_user, 'rds_superuser', 'member') THEN \
               RAISE EXCEPTION 'permission denied to create extension \"%\"', made.object_identity \
                 USING ERRCODE = 'insufficient_privilege', HINT = 'Must be a member of rds_superuser to create this extension.'; \
             END IF; \
             FOR routine IN SELECT d.objid::regprocedure FROM pg_depend d WHERE d.refclassid = 'pg_extension'::regclass \
               AND d.refobjid = made.objid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e' LOOP \
               EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO rds_superuser', routine); \
             END LOOP; \
           END LOOP; END $rule$; \
         DROP EVENT TRIGGER IF EXISTS rds_extensions; \
         CREATE EVENT TRIGGER rds_extensions ON ddl_command_end WHEN TAG IN ('CREATE EXTENSION') \
           EXECUTE FUNCTION rdsadmin_rules.check_extension();"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_cannot_break_out() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("a'b"), "'a''b'");
    }
}
