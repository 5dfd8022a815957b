//! A connection to PostgreSQL with TLS, the server's name checked. Used inside the cluster only: RDS is private.
use std::{path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;
use tokio_postgres::{Client, error::SqlState};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{retry, waiting};

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
    /// It did not answer, in as many attempts as the time allows.
    #[error("{host} did not answer within {} s", .waited.as_secs())]
    Silent {
        /// Host and port.
        host: String,
        /// How long was waited.
        waited: Duration,
    },
}

/// For one attempt.
const ATTEMPT: Duration = Duration::from_secs(10);
/// A connection whose other end is gone without a word is noticed this long after something was sent, or by probes while nothing is.
const GONE: Duration = Duration::from_secs(30);

/// Connects; `authorities` is a PEM file, on AWS the RDS bundle of the region. A server that cannot be reached or is just starting, as one that
/// fails over is, is tried again until `patience` is over; nothing was asked of it yet. One that refuses the role is not.
pub async fn connect(target: &Target, authorities: &Path, patience: Duration) -> Result<Client, ConnectError> {
    let host = format!("{}:{}", target.host, target.port);
    let _waiting = waiting::call(format!("a connection to PostgreSQL at {host}"), patience);
    let mut config = tokio_postgres::Config::new();
    config.host(&target.host).port(target.port).dbname(&target.database).application_name("deployctl");
    config.user(&target.user).password(target.password.expose_secret());
    config
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(4)
        .tcp_user_timeout(GONE);
    config.ssl_mode(tokio_postgres::config::SslMode::Require);
    let tls = MakeRustlsConnect::new(tls(authorities)?);
    let end = Instant::now() + patience;
    let mut pauses = retry::pauses();
    loop {
        let limit = ATTEMPT.min(end.saturating_duration_since(Instant::now()));
        let error = match tokio::time::timeout(limit, config.connect(tls.clone())).await {
            Ok(Ok((client, connection))) => {
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::warn!(%error, "the database connection broke");
                    }
                });
                return Ok(client);
            }
            Ok(Err(source)) => ConnectError::Refused { host: host.clone(), user: target.user.clone(), source },
            Err(_late) => ConnectError::Silent { host: host.clone(), waited: patience },
        };
        let pause = pauses.next().unwrap_or(ATTEMPT);
        if !passes(&error) || Instant::now() + pause >= end {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
    }
}

/// Whether another attempt may find it otherwise.
fn passes(error: &ConnectError) -> bool {
    let source = match error {
        ConnectError::Authorities(_) => return false,
        ConnectError::Silent { .. } => return true,
        ConnectError::Refused { source, .. } => source,
    };
    match source.code() {
        Some(code) => [SqlState::CANNOT_CONNECT_NOW, SqlState::TOO_MANY_CONNECTIONS, SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN]
            .contains(code),
        None => !retry::untrusted(source),
    }
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
