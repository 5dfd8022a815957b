//! Makes the database roles that are not the master user: one that migrates, those that services run as, one that only looks. Their
//! passwords are made here, inside the cluster, and go to their secrets and nowhere else.
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::database::{Credentials, DatabaseArgs};
use crate::{
    aws::Aws,
    database::history,
    failure::Failure,
    ids::{EnvironmentName, SecretName},
    plan::environment::SecretStore,
};

/// `deployctl agent bootstrap-database`; `--credentials-secret` is the master user's.
#[derive(Args, Clone, Debug)]
pub struct BootstrapArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The environment, part of the secrets' names (`--environment` is everybody's, and of another type)
    #[arg(long)]
    environment_name: String,
    /// Where secrets live: secrets-manager or ssm
    #[arg(long)]
    store: String,
    /// The role that migrates and owns the tables, and its secret: ROLE=SECRET
    #[arg(long)]
    migrator: String,
    /// Roles that services run as, and their secrets: ROLE=SECRET
    #[arg(long = "runner", value_delimiter = ',')]
    runners: Vec<String>,
    /// A role that reads the history of migrations and nothing else, and its secret: ROLE=SECRET
    #[arg(long)]
    reader: Option<String>,
}

/// Makes what is missing. Run again, it changes nothing.
pub async fn run(args: &BootstrapArgs) -> Result<Value, Failure> {
    let aws = args.database.account.connect().await?;
    let master: Credentials = super::database::read(&aws, &args.database.credentials_secret).await?;
    let target = args.database.target(&aws, &master).await?;
    let client = args.database.connect_as(&target).await?;
    let mut changed = Vec::new();
    let mut roles = Vec::new();
    let mut migrator = None;
    for pair in std::iter::once(&args.migrator).chain(&args.runners).chain(&args.reader) {
        let (role, secret) = pair.split_once('=').ok_or_else(|| Failure::usage(format!("{pair:?} is not ROLE=SECRET")))?;
        let credentials = credentials(args, &aws, role, secret, &mut changed).await?;
        let mut own = target.clone();
        own.user = role.to_owned();
        own.password = credentials.password.clone();
        if !exists(&client, role).await? {
            execute(&client, &format!("CREATE ROLE {} LOGIN PASSWORD '{}'", quoted(role), verifier(&credentials.password))).await?;
            changed.push(format!("role {role} made"));
        } else if args.database.connect_as(&own).await.is_err() {
            // The role exists with another password: an earlier run died between the two, or the secret was rotated.
            execute(&client, &format!("ALTER ROLE {} LOGIN PASSWORD '{}'", quoted(role), verifier(&credentials.password))).await?;
            changed.push(format!("role {role} given its secret's password"));
        }
        roles.push(role.to_owned());
        migrator.get_or_insert(own);
    }
    let runners = &roles[1..=args.runners.len()];
    grant(&client, &target.database, &roles[0], runners).await?;
    if let (Some(reader), Some(migrator)) = (roles.get(1 + args.runners.len()), &migrator) {
        let statements = reader_statements(&target.database, reader);
        execute(&client, &statements).await?;
        // What the migrator owns only the migrator can grant.
        let owner = args.database.connect_as(migrator).await?;
        history::ensure(&owner).await.map_err(failed)?;
        execute(&owner, &format!("GRANT SELECT ON {} TO {}", history::TABLE, quoted(reader))).await?;
    }
    Ok(json!({ "roles": roles, "changed": changed }))
}

async fn credentials(args: &BootstrapArgs, aws: &Aws, role: &str, secret: &str, changed: &mut Vec<String>) -> Result<Credentials, Failure> {
    let invalid = |error| Failure::usage("the agent's arguments").because(error);
    let environment = EnvironmentName::parse(&args.environment_name).map_err(invalid)?;
    let name = SecretName::parse(secret).map_err(invalid)?;
    let store = match args.store.as_str() {
        "secrets-manager" => SecretStore::SecretsManager,
        "ssm" => SecretStore::Ssm,
        other => return Err(Failure::usage(format!("{other:?} is neither secrets-manager nor ssm"))),
    };
    let full = store.full_name(&environment, &name);
    if let Some(value) = aws.secret_value(&full).await?
        && let Ok(credentials) = serde_json::from_str::<Credentials>(value.expose_secret())
        && credentials.username == role
    {
        return Ok(credentials);
    }
    // Two UUIDs of version 4: 244 random bits from the operating system.
    let password = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    let value = SecretString::from(json!({ "username": role, "password": password }).to_string());
    // Stored before it is used: a crash in between leaves a secret that the next run gives to the role.
    aws.put_secret(store, &environment, &name, &value).await?;
    changed.push(format!("secret {full} given a value"));
    Ok(Credentials { username: role.to_owned(), password: crate::redact::secret(password) })
}

async fn exists(client: &Client, role: &str) -> Result<bool, Failure> {
    Ok(client.query_opt("SELECT FROM pg_roles WHERE rolname = $1", &[&role]).await.map_err(failed)?.is_some())
}

/// The migrator may make tables, everybody else may use what it grants; staging tables need TEMPORARY.
async fn grant(client: &Client, database: &str, migrator: &str, runners: &[String]) -> Result<(), Failure> {
    let database = quoted(database);
    let mut statements = format!(
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC; REVOKE ALL ON DATABASE {database} FROM PUBLIC; \
         GRANT CONNECT ON DATABASE {database} TO {migrator}; GRANT USAGE, CREATE ON SCHEMA public TO {migrator};",
        migrator = quoted(migrator)
    );
    for runner in runners {
        let runner = quoted(runner);
        statements
            .push_str(&format!("GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {runner}; GRANT USAGE ON SCHEMA public TO {runner};"));
    }
    execute(client, &statements).await
}

/// The reader may connect and see what is in the schema; its transactions are read-only unless it asks otherwise, and then it has nothing that
/// it may write to.
fn reader_statements(database: &str, reader: &str) -> String {
    let (database, reader) = (quoted(database), quoted(reader));
    format!(
        "GRANT CONNECT ON DATABASE {database} TO {reader}; GRANT USAGE ON SCHEMA public TO {reader}; \
         ALTER ROLE {reader} SET default_transaction_read_only = on;"
    )
}

/// The password's SCRAM verifier: the plain text never reaches the server, whose log may hold DDL statements.
fn verifier(password: &SecretString) -> String {
    postgres_protocol::password::scram_sha_256(password.expose_secret().as_bytes())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

async fn execute(client: &Client, statements: &str) -> Result<(), Failure> {
    client.batch_execute(statements).await.map_err(failed)
}

fn failed(error: tokio_postgres::Error) -> Failure {
    Failure::step("the database refused to make or grant a role").because(error)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    #[test]
    fn its_arguments_do_not_collide_with_those_of_every_command() {
        let args = "deployctl agent bootstrap-database --account 111122223333 --region eu-west-1 --endpoint-secret e --credentials-secret c --authorities a \
                    --environment-name sandbox --store ssm --migrator m=s --runner r=s";
        // clap finds a collision only when the value is read.
        crate::cli::Cli::try_parse_from(args.split_whitespace()).unwrap();
    }
}
