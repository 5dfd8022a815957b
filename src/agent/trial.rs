//! Reads and writes in a database as a service does: as its service account, with its own credentials, by the address that it would be told. All of it
//! is rolled back.
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::{
    account::AccountArgs,
    database::{Credentials, Endpoint, PATIENCE, read},
};
use crate::{
    aws::Aws,
    database::{
        connect::{Target, connect},
        trial,
    },
    failure::Failure,
};

/// `deployctl agent trial`.
#[derive(Args, Clone, Debug)]
pub struct TrialArgs {
    #[command(flatten)]
    account: AccountArgs,
    /// The secret with host, port and dbname, as the service reads it
    #[arg(long, required_unless_present = "host", conflicts_with_all = ["host", "port", "dbname"])]
    endpoint_secret: Option<String>,
    /// The database's host, where no secret says it
    #[arg(long, requires_all = ["port", "dbname"])]
    host: Option<String>,
    /// Its port
    #[arg(long)]
    port: Option<u16>,
    /// The database in it
    #[arg(long)]
    dbname: Option<String>,
    /// The secret with the service's username and password
    #[arg(long)]
    credentials_secret: String,
    /// PEM file of the authorities that sign the server's certificate
    #[arg(long)]
    authorities: PathBuf,
    /// What the service does, as SQL
    #[arg(long)]
    statements: String,
}

impl TrialArgs {
    async fn endpoint(&self, aws: &Aws) -> Result<Endpoint, Failure> {
        match (&self.endpoint_secret, &self.host, self.port, &self.dbname) {
            (Some(secret), ..) => read(aws, secret).await,
            (None, Some(host), Some(port), Some(dbname)) => Ok(Endpoint { host: host.clone(), port, dbname: dbname.clone() }),
            _ => Err(Failure::usage("the agent's arguments: neither a secret nor an address")),
        }
    }
}

/// Says as whom, where, and how much was done and taken back.
pub async fn run(args: &TrialArgs) -> Result<Value, Failure> {
    let aws = args.account.connect().await?;
    let endpoint = args.endpoint(&aws).await?;
    let Credentials { username, password } = read(&aws, &args.credentials_secret).await?;
    let target = Target { host: endpoint.host.clone(), port: endpoint.port, database: endpoint.dbname, user: username.clone(), password };
    let mut client = connect(&target, &args.authorities, PATIENCE).await.map_err(|error| {
        Failure::step(format!("{username} cannot connect to {}", endpoint.host))
            .because(error)
            .next("its password in the database is of another time than its secret, or the security group keeps this cluster's nodes out")
    })?;
    let tried = trial::run(&mut client, &args.statements)
        .await
        .map_err(|error| Failure::step(format!("{username} cannot do in the database what the service does")).because(error))?;
    Ok(json!({ "role": username, "host": endpoint.host, "tried": tried }))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    #[test]
    fn it_is_told_a_secret_or_an_address_and_never_both() {
        let parsed = |more: &[&str]| {
            let args = [
                "deployctl",
                "agent",
                "trial",
                "--account=111122223333",
                "--region=eu-west-1",
                "--credentials-secret=c",
                "--authorities=a",
            ];
            let statements = ["--statements=-- a comment\nSELECT 1"];
            crate::cli::Cli::try_parse_from(args.iter().chain(&statements).chain(more)).is_ok()
        };
        assert!(parsed(&["--endpoint-secret=e"]) && parsed(&["--host=h", "--port=1", "--dbname=d"]));
        assert!(!parsed(&[]) && !parsed(&["--host=h"]) && !parsed(&["--endpoint-secret=e", "--host=h", "--port=1", "--dbname=d"]));
    }
}
