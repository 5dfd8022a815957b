//! EKS' answers: who asks, the error shapes of the REST-JSON protocol, paging.
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

/// An AWS-shaped error.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, code: "ResourceNotFoundException", message: message.into() }
    }
    pub fn in_use(message: impl Into<String>) -> Self {
        Self { status: StatusCode::CONFLICT, code: "ResourceInUseException", message: message.into() }
    }
    pub fn parameter(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "InvalidParameterException", message: message.into() }
    }
    pub fn request(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "InvalidRequestException", message: message.into() }
    }
    pub fn limit(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "ResourceLimitExceededException", message: message.into() }
    }
    pub fn denied(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "AccessDeniedException", message: message.into() }
    }
    pub fn invalid_token(what: impl std::fmt::Display) -> Self {
        let message = format!("The token included in the request is invalid: {what}");
        Self { status: StatusCode::BAD_REQUEST, code: "InvalidTokenException", message }
    }
    pub fn expired_token() -> Self {
        let message = "The token included in the request is expired".to_owned();
        Self { status: StatusCode::BAD_REQUEST, code: "ExpiredTokenException", message }
    }
    pub fn server(message: impl std::fmt::Display) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, code: "ServerException", message: message.to_string() }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self::server(format!("the sandbox cannot save EKS' state: {error}"))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, [("x-amzn-errortype", self.code)], axum::Json(json!({ "message": self.message }))).into_response()
    }
}

pub type Answer = Result<axum::Json<Value>, Refusal>;

/// Who asks; the emulator has authenticated and authorized him.
pub struct Caller {
    pub region: String,
    pub account: String,
    pub principal: String,
}

impl<S: Sync> axum::extract::FromRequestParts<S> for Caller {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut http::request::Parts, _: &S) -> Result<Self, Refusal> {
        let header = |headers: &HeaderMap, name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        match (
            header(&parts.headers, "x-sandbox-region"),
            header(&parts.headers, "x-sandbox-account"),
            header(&parts.headers, "x-sandbox-principal"),
        ) {
            (Some(region), Some(account), Some(principal)) => Ok(Self { region, account, principal }),
            _ => Err(Refusal::server("the request did not come through the emulator")),
        }
    }
}

/// A JSON body whatever its content type; an empty one is an empty object.
pub struct Body(pub Value);

impl<S: Send + Sync> axum::extract::FromRequest<S> for Body {
    type Rejection = Refusal;
    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Refusal> {
        let bytes = bytes::Bytes::from_request(request, state).await.map_err(|error| Refusal::request(error.to_string()))?;
        if bytes.is_empty() {
            return Ok(Self(json!({})));
        }
        serde_json::from_slice(&bytes).map(Self).map_err(|error| Refusal::request(format!("the body is not JSON: {error}")))
    }
}

/// Paging as AWS does it, by an opaque token.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    next_token: Option<String>,
    max_results: Option<usize>,
}

impl Page {
    pub fn of(&self, name: &str, items: Vec<Value>) -> Answer {
        let start = match &self.next_token {
            None => 0,
            Some(token) => token.parse::<usize>().map_err(|_| Refusal::parameter("Invalid token"))?,
        };
        let count = self.max_results.unwrap_or(100).clamp(1, 100);
        let more = (start + count < items.len()).then(|| (start + count).to_string());
        let page: Vec<Value> = items.into_iter().skip(start).take(count).collect();
        Ok(axum::Json(json!({ (name): page, "nextToken": more })))
    }
}

/// Seconds since 1970, as the protocol wants times.
pub fn now() -> Value {
    let now = jiff::Timestamp::now();
    json!((now.as_millisecond() as f64) / 1000.0)
}

/// A required string of a body.
pub fn text<'a>(body: &'a Value, name: &str) -> Result<&'a str, Refusal> {
    body[name].as_str().filter(|text| !text.is_empty()).ok_or_else(|| Refusal::parameter(format!("{name} is required")))
}

/// An operation that the sandbox's EKS does not have.
pub async fn unknown(method: http::Method, uri: http::Uri) -> Response {
    let message = format!("the sandbox's EKS has no operation {method} {}", uri.path());
    (StatusCode::NOT_FOUND, [("x-amzn-errortype", "UnknownOperationException")], axum::Json(json!({ "message": message }))).into_response()
}
