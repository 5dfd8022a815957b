//! Asks a process once whether it is ready.
use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use tokio::net::{TcpStream, UnixStream};

use super::Ready;

const ATTEMPT: Duration = Duration::from_secs(2);

/// A question that can be asked again and again without building its client anew.
pub struct Probe {
    ready: Ready,
    client: Option<reqwest::Client>,
}

impl Probe {
    /// Prepares the question.
    pub fn new(ready: &Ready) -> Result<Self> {
        let client = match ready {
            Ready::Http { .. } => Some(reqwest::Client::builder().no_proxy().timeout(ATTEMPT).build()?),
            Ready::Https { ca, .. } => {
                let pem = fs::read(ca).with_context(|| format!("reading {}", ca.display()))?;
                let authority = reqwest::Certificate::from_pem(&pem)?;
                Some(reqwest::Client::builder().no_proxy().timeout(ATTEMPT).tls_certs_only([authority]).build()?)
            }
            _ => None,
        };
        Ok(Self { ready: ready.clone(), client })
    }

    /// Whether it is ready now. A refused or slow answer is a no.
    pub async fn ask(&self) -> bool {
        match &self.ready {
            Ready::Tcp(address) => within(TcpStream::connect(address)).await,
            Ready::Unix(path) => within(UnixStream::connect(path)).await,
            Ready::File(path) => path.exists(),
            Ready::Http { url } | Ready::Https { url, .. } => match &self.client {
                Some(client) => client.get(url).send().await.is_ok_and(|answer| answer.status().is_success()),
                None => false,
            },
            Ready::Immediately => true,
            Ready::Exits => false,
        }
    }
}

async fn within<T, E>(attempt: impl Future<Output = Result<T, E>>) -> bool {
    matches!(tokio::time::timeout(ATTEMPT, attempt).await, Ok(Ok(_)))
}

/// What is being waited for, for messages.
pub fn describe(ready: &Ready) -> String {
    match ready {
        Ready::Tcp(address) => format!("a connection to {address}"),
        Ready::Unix(path) => format!("a connection to {}", path.display()),
        Ready::File(path) => format!("the file {}", path.display()),
        Ready::Http { url } | Ready::Https { url, .. } => format!("an answer from {url}"),
        Ready::Immediately => "its start".into(),
        Ready::Exits => "its end".into(),
    }
}
