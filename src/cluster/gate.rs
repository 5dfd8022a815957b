//! The HTTP client of a cluster: once the lease is lost, no request that could change anything is sent, not even for the second time.
use std::sync::Arc;

use http::{Method, Request};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use tower::{BoxError, buffer::BufferLayer, filter::FilterLayer, retry::RetryLayer};

use super::{PARALLEL, again::Again};
use crate::permit::Permit;

/// A client whose changing requests are sent with this permit's leave. Dry runs ask too: a process that lost its lease has no use for them.
pub(super) fn client(mut config: Config, permit: &Arc<Permit>) -> kube::Result<Client> {
    // `Again` is ours.
    config.default_retry = false;
    let permit = permit.clone();
    let gate = FilterLayer::new(move |request: Request<Body>| -> Result<Request<Body>, BoxError> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            permit.held()?;
        }
        Ok(request)
    });
    let client = ClientBuilder::try_from(config)?.with_layer(&gate);
    // A request can be sent twice only through something that can be cloned.
    let client = client.with_layer(&BufferLayer::<Request<Body>>::new(PARALLEL));
    Ok(client.with_layer(&RetryLayer::new(Again::default())).build())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::permit::Refused;

    #[tokio::test]
    async fn who_lost_the_lease_sends_nothing_that_changes() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let permit = Permit::unleased();
        permit.lease(Arc::new(crate::engine::lease::Lost));
        super::super::install_crypto();
        let config = || Config::new(format!("http://{}", server.local_addr().unwrap()).parse().unwrap());
        let gated = client(config(), &permit).unwrap();
        let request = |method: Method| Request::builder().method(method).uri("/api/v1/namespaces/a/pods/b").body(Vec::new()).unwrap();
        let refused = gated.request_text(request(Method::DELETE)).await.unwrap_err();
        assert!(Refused::within(&refused).is_some(), "{refused:?}");
        let reading = tokio::spawn(async move { gated.request_text(request(Method::GET)).await });
        let (_connection, _) = server.accept().await.unwrap();
        reading.abort();
    }
}
