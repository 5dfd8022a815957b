//! PostgreSQL: one connection a worker, TLS with the server's name checked, credentials read anew each time.
use std::{path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio_postgres::Client;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::Database;

/// No connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A mounted file is missing.
    #[error("can't read {0}")]
    File(String, #[source] std::io::Error),
    /// The authorities' file holds no usable certificate.
    #[error("{0} holds no certificate")]
    Authorities(String),
    /// PostgreSQL or the network refused.
    #[error("no connection to the database")]
    Refused(#[from] tokio_postgres::Error),
    /// It did not answer.
    #[error("the database did not answer within {} s", .0.as_secs())]
    Silent(Duration),
}

const PATIENCE: Duration = Duration::from_secs(10);
/// A server that has acknowledged nothing for so long is gone; without it the kernel goes on for a quarter of an hour.
const SILENCE: Duration = Duration::from_secs(30);

/// Connects as the service's role.
pub async fn connect(database: &Database) -> Result<Client, ConnectError> {
    let mut config = tokio_postgres::Config::new();
    config.host(&database.host).port(database.port).dbname(&database.name).application_name("parser").connect_timeout(PATIENCE);
    config.user(read(&database.credentials.join("username"))?).password(read(&database.credentials.join("password"))?);
    config.ssl_mode(tokio_postgres::config::SslMode::Require).tcp_user_timeout(SILENCE);
    config.keepalives_idle(SILENCE / 3).keepalives_interval(SILENCE / 6).keepalives_retries(4);
    // An hour: a file at its caps is COPYed in a quarter of that. The check lets a statement end soon after its client was killed, and with
    // it the lock on the file.
    config.options(
        "-c statement_timeout=3600000 -c idle_in_transaction_session_timeout=120000 -c lock_timeout=30000 \
         -c client_connection_check_interval=5000",
    );
    let tls = MakeRustlsConnect::new(tls(&database.ca_file)?);
    let (client, connection) =
        tokio::time::timeout(PATIENCE, config.connect(tls)).await.map_err(|_late| ConnectError::Silent(PATIENCE))??;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::warn!(error = serving::chain(&error), "the database connection broke");
        }
    });
    Ok(client)
}

fn read(path: &Path) -> Result<String, ConnectError> {
    std::fs::read_to_string(path)
        .map(|text| text.trim_end_matches('\n').to_owned())
        .map_err(|error| ConnectError::File(path.display().to_string(), error))
}

fn tls(ca_file: &Path) -> Result<ClientConfig, ConnectError> {
    let name = || ca_file.display().to_string();
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(ca_file).map_err(|_unreadable| ConnectError::Authorities(name()))?;
    for certificate in certificates {
        let added = certificate.ok().and_then(|certificate| roots.add(certificate).ok());
        added.ok_or_else(|| ConnectError::Authorities(name()))?;
    }
    if roots.is_empty() {
        return Err(ConnectError::Authorities(name()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_none| ConnectError::Authorities(name()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
