//! One request through the front door: told apart, checked where the emulator does not, passed on unchanged, recorded.
use std::{net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::{ConnectInfo, Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper_util::client::legacy::{Client, connect::HttpConnector};

use super::{
    Door,
    identify::Identity,
    node_pull,
    record::{Line, Record, Verdict},
    region_switch::RegionSwitch,
    web_identity,
};

/// Bodies that must be read to know the action; AWS' own limit for a query request is below it.
const FORM_LIMIT: usize = 2 * 1024 * 1024;

pub struct Proxy {
    pub door: Door,
    pub switch: RegionSwitch,
    pub record: Record,
    pub client: Client<HttpConnector, Body>,
}

/// Headers that tell the emulator who the caller is; from outside they are lies.
const INTERNAL: &str = "x-sandbox-";

/// Passes one request on.
pub async fn handle(State(proxy): State<Arc<Proxy>>, ConnectInfo(peer): ConnectInfo<SocketAddr>, mut request: Request) -> Response {
    let (time, begun) = (jiff::Timestamp::now(), Instant::now());
    let lies: Vec<_> = request.headers().keys().filter(|name| name.as_str().starts_with(INTERNAL)).cloned().collect();
    for name in lies {
        request.headers_mut().remove(name);
    }
    let (request, form) = match read_form(request).await {
        Ok(read) => read,
        Err(refused) => return refused,
    };
    let text = form.as_deref().and_then(|form| std::str::from_utf8(form).ok());
    let identity = Identity::of(request.method(), request.uri(), request.headers(), text);
    let away = proxy.away(&identity).await;
    // Who has asked may be killed meanwhile, and this task is dropped with its connection. AWS does what it was asked, and notes it, all the same.
    let served = tokio::spawn(async move {
        let response = match away {
            Some(away) => away,
            None => proxy.answer(&identity, peer, request, form.as_deref()).await,
        };
        proxy.recorded(&identity, time, begun, response)
    });
    served.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request was not served to its end");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    })
}

fn take(response: &mut Response, name: &str) -> Option<String> {
    let value = response.headers_mut().remove(name)?;
    value.to_str().ok().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Reads the body of a form (the action is in it) and of an STS JSON call (the token is in it); all others stream through.
async fn read_form(request: Request) -> Result<(Request, Option<bytes::Bytes>), Response> {
    if !body_names_action(request.headers()) {
        return Ok((request, None));
    }
    let (parts, body) = request.into_parts();
    match http_body_util::Limited::new(body, FORM_LIMIT).collect().await {
        Ok(read) => {
            let bytes = read.to_bytes();
            Ok((Request::from_parts(parts, Body::from(bytes.clone())), Some(bytes)))
        }
        Err(_) => Err((StatusCode::PAYLOAD_TOO_LARGE, "a query request of more than 2 MiB").into_response()),
    }
}

fn body_names_action(headers: &http::HeaderMap) -> bool {
    let starts =
        |name: &str, start: &str| headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| value.starts_with(start));
    starts("content-type", "application/x-www-form-urlencoded") || starts("x-amz-target", "AWSSecurityTokenService")
}

impl Proxy {
    /// Hangs while the region is down. None once it answers; a caller who gives up before that was never heard.
    async fn away(&self, identity: &Identity) -> Option<Response> {
        let region = identity.region.as_deref().filter(|region| self.switch.is_down(region))?;
        self.switch.hang(region).await;
        let body = format!("<Error><Code>ServiceUnavailable</Code><Message>{region} does not answer</Message></Error>");
        self.switch.is_down(region).then(|| (StatusCode::SERVICE_UNAVAILABLE, body).into_response())
    }

    /// Writes down what was answered, and takes off the answer what the emulator said for that only.
    fn recorded(&self, identity: &Identity, time: jiff::Timestamp, begun: Instant, mut response: Response) -> Response {
        let (action, resource) = (take(&mut response, "x-sandbox-action"), take(&mut response, "x-sandbox-resource"));
        let principal = take(&mut response, "x-sandbox-principal");
        let verdicts = take(&mut response, "x-sandbox-verdicts").and_then(|text| serde_json::from_str::<Vec<Verdict>>(&text).ok());
        self.record.append(&Line {
            time,
            region: identity.region.as_deref(),
            service: identity.service.as_deref(),
            action: action.as_deref().unwrap_or(&identity.action),
            resource: resource.as_deref().unwrap_or_default(),
            access_key: identity.access_key.as_deref(),
            principal: principal.as_deref(),
            verdicts: verdicts.as_deref().unwrap_or_default(),
            status: response.status().as_u16(),
            millis: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        response
    }

    async fn answer(&self, identity: &Identity, peer: SocketAddr, mut request: Request, form: Option<&[u8]>) -> Response {
        if let Some(refused) = refused_path(request.uri().path()) {
            return refused;
        }
        if identity.is_root() {
            return denial(StatusCode::FORBIDDEN, "InvalidClientTokenId", "The security token included in the request is invalid.");
        }
        let unsigned = identity.access_key.is_none() && !request.headers().contains_key(header::AUTHORIZATION);
        if web_identity::is_web_identity(&identity.action) && unsigned && request.uri().path() == "/" {
            // A compressed body would hide the token from this check and not from the emulator.
            let hidden = request.headers().contains_key(header::CONTENT_ENCODING);
            let token = web_identity::token(request.uri(), request.headers(), form.unwrap_or_default());
            let verdict = match token {
                Some(token) if !hidden => web_identity::verify(&token, &(self.door.issuer_keys)()),
                _ => Err("The request carries no readable token".to_owned()),
            };
            if let Err(message) = verdict {
                return (StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, "text/xml")], web_identity::refusal(&message)).into_response();
            }
            request.headers_mut().insert("x-sandbox-web-identity", HeaderValue::from_static("verified"));
        } else if let Some(role) = node_pull::role(request.method(), request.uri(), peer.ip(), &self.door.nodes)
            && !request.headers().contains_key(header::AUTHORIZATION)
        {
            if let Ok(value) = HeaderValue::from_str(&role) {
                request.headers_mut().insert("x-sandbox-node-role", value);
            }
        } else if identity.access_key.is_none() && !is_registry(request.uri()) {
            return denial(StatusCode::FORBIDDEN, "MissingAuthenticationToken", "Missing Authentication Token");
        }
        self.pass(request).await
    }

    async fn pass(&self, mut request: Request) -> Response {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let Ok(uri) = format!("http://{}{target}", self.door.emulator).parse::<Uri>() else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        *request.uri_mut() = uri;
        // hyper answers an expectation itself when the body is read.
        for name in [header::EXPECT, header::CONNECTION, header::UPGRADE] {
            request.headers_mut().remove(name);
        }
        match self.client.request(request).await {
            Ok(response) => response.map(Body::new).into_response(),
            Err(error) => {
                tracing::warn!(%error, "the emulator does not answer");
                denial(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "ServiceUnavailable",
                    "The sandbox's emulator does not answer; see `deployctl sandbox status`",
                )
            }
        }
    }
}

fn is_registry(uri: &Uri) -> bool {
    uri.path() == "/v2/" || uri.path() == "/v2" || uri.path().starts_with("/v2/")
}

/// The emulator's own switches (reset, configuration, principals) are for the sandbox's processes only.
fn refused_path(path: &str) -> Option<Response> {
    // The emulator compares decoded paths.
    let decoded = url::form_urlencoded::parse(path.as_bytes()).next().map(|(path, _)| path.into_owned()).unwrap_or_default();
    let internal =
        ["/_ministack", "/_localstack", "/_sandbox", "/_aws"].iter().any(|start| decoded.starts_with(start)) || decoded == "/health";
    internal.then(|| StatusCode::NOT_FOUND.into_response())
}

/// A refusal that both kinds of clients can read: the code is in the header for JSON services and in the body for XML ones.
fn denial(status: StatusCode, code: &'static str, message: &str) -> Response {
    let body = format!("<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>");
    (status, [("x-amzn-errortype", code), ("content-type", "text/xml")], body).into_response()
}
