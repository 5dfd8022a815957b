//! How the agent's Jobs find the database: endpoint and credentials from secrets, the authorities from a mounted file.
use std::{path::PathBuf, time::Duration};

use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio_postgres::Client;

use super::account::AccountArgs;
use crate::{
    aws::Aws,
    database::connect::{Target, connect},
    failure::{Failure, FailureKind},
};

/// A database that fails over is back within it, mostly; shorter than the shortest of the agent's Jobs.
pub(super) const PATIENCE: Duration = Duration::from_secs(45);

/// Arguments that every database Job has.
#[derive(Args, Clone, Debug)]
pub struct DatabaseArgs {
    /// Of database and secrets.
    #[command(flatten)]
    pub account: AccountArgs,
    /// The secret with host, port and dbname
    #[arg(long)]
    pub endpoint_secret: String,
    /// The secret with username and password
    #[arg(long)]
    pub credentials_secret: String,
    /// PEM file of the authorities that sign the server's certificate
    #[arg(long)]
    pub authorities: PathBuf,
}

/// Where the database is, as the endpoint's secret has it.
#[derive(Deserialize)]
pub(super) struct Endpoint {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database in it.
    pub dbname: String,
}

/// A database role's name and password, as they stand in a secret.
#[derive(Clone, Debug, Deserialize)]
pub struct Credentials {
    /// The role.
    pub username: String,
    /// Its password.
    pub password: SecretString,
}

impl DatabaseArgs {
    /// Where the database is, as whoever `credentials` names.
    pub async fn target(&self, aws: &Aws, credentials: &Credentials) -> Result<Target, Failure> {
        let endpoint: Endpoint = read(aws, &self.endpoint_secret).await?;
        Ok(Target {
            host: endpoint.host,
            port: endpoint.port,
            database: endpoint.dbname,
            user: credentials.username.clone(),
            password: credentials.password.clone(),
        })
    }

    /// Connects as the role that `credentials_secret` names.
    pub async fn connect(&self) -> Result<Client, Failure> {
        let aws = self.account.connect().await?;
        let credentials: Credentials = read(&aws, &self.credentials_secret).await?;
        self.connect_as(&self.target(&aws, &credentials).await?).await
    }

    /// Connects to a target.
    pub async fn connect_as(&self, target: &Target) -> Result<Client, Failure> {
        connect(target, &self.authorities, PATIENCE).await.map_err(|error| {
            Failure::new(FailureKind::Step, "can't reach the database from inside the cluster")
                .because(error)
                .next("check the database's security group and its status: aws rds describe-db-instances")
        })
    }
}

/// A secret's JSON. The value itself is never part of a failure.
pub async fn read<T: serde::de::DeserializeOwned>(aws: &Aws, name: &str) -> Result<T, Failure> {
    let value = aws.secret_value(name).await?.ok_or_else(|| Failure::step(format!("the secret {name} has no value")))?;
    serde_json::from_str(value.expose_secret())
        .map_err(|_shows_the_value| Failure::step(format!("the secret {name} is not of the form it should have")))
}
