//! Why a request was refused, as the caller sees it: a status, a stable code and a sentence.
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

/// Every way to say no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No bearer token.
    #[error("an Authorization header with a bearer token is needed")]
    NoToken,
    /// Not a known token.
    #[error("the bearer token is not known")]
    WrongToken,
    /// The caller's limit.
    #[error("too many requests; try again in a minute")]
    TooManyRequests,
    /// The request's own fault.
    #[error("{0}")]
    Invalid(String),
    /// Larger than this uploader takes.
    #[error("{asked} bytes are more than the {largest} that are taken")]
    TooLarge {
        /// Declared by the caller.
        asked: u64,
        /// Configured.
        largest: u64,
    },
    /// No such upload of this caller.
    #[error("there is no such upload")]
    NotFound,
    /// The upload already exists, or its parts do not fit what was declared.
    #[error("{0}")]
    Conflict(String),
    /// S3 did not do its part; details are in the log only.
    #[error("the storage did not answer as expected; try again")]
    Storage,
}

impl Refusal {
    fn parts(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NoToken => (StatusCode::UNAUTHORIZED, "no-token"),
            Self::WrongToken => (StatusCode::UNAUTHORIZED, "wrong-token"),
            Self::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "too-many-requests"),
            Self::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
            Self::Storage => (StatusCode::BAD_GATEWAY, "storage"),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code) = self.parts();
        metrics::counter!("uploader_refusals_total", "code" => code).increment(1);
        let body = Json(serde_json::json!({ "error": code, "message": self.to_string() }));
        let mut response = (status, body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
        }
        response
    }
}
