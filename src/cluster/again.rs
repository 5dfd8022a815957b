//! Stands in every client: what the API server could not take, or what got no answer, is sent again where that is safe. kube itself repeats no
//! request whose connection broke, and waits up to 1000 s between two attempts.
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use http::{Method, Request, Response, StatusCode, header};
use kube::client::Body;
use tokio::time::Sleep;
use tower::{BoxError, retry::Policy};

use crate::{permit::Refused, retry};

/// Pauses between attempts: all of them together are shorter than a call's deadline, which ends them in any case.
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(200))
    .with_max_delay(Duration::from_secs(5))
    .with_max_times(6)
    .with_jitter();

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Again {
    sent: usize,
}

/// Whether the same request twice does what it does once. A POST makes something each time.
fn repeatable(request: &Request<Body>) -> bool {
    match *request.method() {
        Method::GET | Method::HEAD | Method::DELETE => true,
        // Server-side apply says how the object shall be; other patches say what to do with it.
        Method::PATCH => request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/apply-patch+yaml"),
        _ => false,
    }
}

/// A permit that was refused stays refused, and a certificate that is not trusted stays so.
fn hopeless(error: &BoxError) -> bool {
    let error: &(dyn std::error::Error + 'static) = &**error;
    retry::untrusted(error) || Refused::within(error).is_some()
}

/// Whether a request that failed like this may have been done all the same: its connection broke, and it is not known when.
pub(super) fn may_have_arrived(error: &kube::Error) -> bool {
    match error {
        kube::Error::Service(error) => !hopeless(error),
        kube::Error::HyperError(_) => true,
        _ => false,
    }
}

fn asked_for<B>(response: &Response<B>) -> Option<Duration> {
    retry::asked_for(response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()))
}

impl<B> Policy<Request<Body>, Response<B>, BoxError> for Again {
    type Future = Sleep;

    fn retry(&mut self, request: &mut Request<Body>, result: &mut Result<Response<B>, BoxError>) -> Option<Sleep> {
        let wish = match result {
            // Turned away before anything was done.
            Ok(response) if response.status() == StatusCode::TOO_MANY_REQUESTS => asked_for(response),
            Ok(response) if response.status().is_server_error() && repeatable(request) => asked_for(response),
            Err(error) if repeatable(request) && !hopeless(error) => None,
            _ => return None,
        };
        let pause = PAUSES.build().nth(self.sent)?;
        self.sent += 1;
        Some(tokio::time::sleep(wish.map_or(pause, |wish| wish.max(pause))))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        let body = request.body().try_clone()?;
        let mut same = Request::builder().method(request.method()).uri(request.uri()).version(request.version()).body(body).ok()?;
        same.headers_mut().clone_from(request.headers());
        same.extensions_mut().clone_from(request.extensions());
        Some(same)
    }
}
