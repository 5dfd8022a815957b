//! A connection to PostgreSQL with TLS, the server's name checked. Used inside the cluster only: RDS is private.
use std::{path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Client;
use tokio_postgres_rustls::MakeRustlsConnect;

/// Where and as whom.
#[derive(Clone, Debug)]
pub struct Target {
    /// Host name; the server's certificate must carry it.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// Role.
    pub user: String,
    /// Its password.
    pub password: SecretString,
}

/// No connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The authorities' file can't be used.
    #[error("{0} holds no certificate that can be used")]
    Authorities(String),
    /// PostgreSQL or the network refused.
    #[error("no connection to {user} at {host}")]
    Refused {
        /// Host and port.
        host: String,
        /// Role.
        user: String,
        /// The driver's error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// It did not answer.
    #[error("{host} did not answer within {} s", .waited.as_secs())]
    Silent {
        /// Host and port.
        host: String,
        /// How long was waited.
        waited: Duration,
    },
}

/// Connects; `authorities` is a PEM file, on AWS the RDS bundle of the region.
pub async fn connect(target: &Target, authorities: &Path, patience: Duration) -> Result<Client, ConnectError> {
    let host = format!("{}:{}", target.host, target.port);
    let mut config = tokio_postgres::Config::new();
    config.host(&target.host).port(target.port).dbname(&target.database).application_name("deployctl");
    config.user(&target.user).password(target.password.expose_secret()).connect_timeout(patience);
    config.ssl_mode(tokio_postgres::config::SslMode::Require);
    let tls = MakeRustlsConnect::new(tls(authorities)?);
    let connected = tokio::time::timeout(patience, config.connect(tls))
        .await
        .map_err(|_late| ConnectError::Silent { host: host.clone(), waited: patience })?;
    let (client, connection) = connected.map_err(|source| ConnectError::Refused { host, user: target.user.clone(), source })?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::warn!(%error, "the database connection broke");
        }
    });
    Ok(client)
}

fn tls(authorities: &Path) -> Result<ClientConfig, ConnectError> {
    let wrong = || ConnectError::Authorities(authorities.display().to_string());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authorities).map_err(|_unreadable| wrong())? {
        certificate.ok().and_then(|certificate| roots.add(certificate).ok()).ok_or_else(wrong)?;
    }
    if roots.is_empty() {
        return Err(wrong());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(|_none| wrong())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
