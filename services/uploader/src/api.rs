//! The HTTP interface: three things that a caller may ask, each under its own name only.
use std::{sync::Arc, time::Instant};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, Request, State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};

use crate::{
    callers::{Caller, Callers},
    refusal::Refusal,
    store::{Signed, SignedPart, Store, Stored},
    upload::{Asked, MULTIPART_ABOVE, UploadId},
};

/// A request is a few hundred bytes; /complete with 10,000 parts is the largest.
const LARGEST_BODY: usize = 1024 * 1024;

#[derive(Clone)]
struct Api {
    store: Store,
    callers: Arc<Callers>,
}

/// `/v1/uploads` and what is below it.
pub fn routes(store: Store, callers: Arc<Callers>) -> Router {
    Router::new()
        .route("/v1/uploads", post(begin))
        .route("/v1/uploads/{id}", get(look))
        .route("/v1/uploads/{id}/parts", post(sign_parts))
        .route("/v1/uploads/{id}/complete", post(complete))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn(observe))
        .with_state(Api { store, callers })
}

#[derive(Serialize)]
struct Begun {
    id: String,
    key: String,
    #[serde(flatten)]
    how: How,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum How {
    Put(Signed),
    Multipart { upload_id: String, parts: Vec<SignedPart> },
}

async fn begin(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Result<Json<Asked>, JsonRejection>,
) -> Result<(StatusCode, Json<Begun>), Refusal> {
    let caller = api.admit(&headers)?;
    let upload = json(body)?.check(api.store.config().largest)?;
    let key = upload.id.key(&api.store.config().key_prefix, &caller);
    let how = if upload.size_bytes > MULTIPART_ABOVE {
        let (upload_id, parts) = api.store.begin_parts(&key, &upload).await?;
        How::Multipart { upload_id, parts }
    } else {
        How::Put(api.store.sign_put(&key, &upload).await?)
    };
    tracing::info!(upload = %upload.id, caller = caller.as_str(), size_bytes = upload.size_bytes, "signed");
    metrics::counter!("uploader_signed_total", "caller" => caller.as_str().to_owned()).increment(1);
    Ok((StatusCode::CREATED, Json(Begun { id: upload.id.to_string(), key, how })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PartsAsked {
    upload_id: String,
    size_bytes: u64,
    numbers: Vec<i32>,
}

async fn sign_parts(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Result<Json<PartsAsked>, JsonRejection>,
) -> Result<Json<Vec<SignedPart>>, Refusal> {
    let key = api.key(&headers, &id)?;
    let asked = json(body)?;
    if asked.size_bytes > api.store.config().largest {
        return Err(Refusal::TooLarge { asked: asked.size_bytes, largest: api.store.config().largest });
    }
    Ok(Json(api.store.sign_parts(&key, &asked.upload_id, asked.size_bytes, &asked.numbers).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Complete {
    upload_id: String,
    parts: Vec<CompletePart>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompletePart {
    number: i32,
    etag: String,
}

async fn complete(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Result<Json<Complete>, JsonRejection>,
) -> Result<Json<Stored>, Refusal> {
    let key = api.key(&headers, &id)?;
    let asked = json(body)?;
    let parts = asked.parts.into_iter().map(|part| (part.number, part.etag)).collect();
    api.store.complete_parts(&key, &asked.upload_id, parts).await?;
    Ok(Json(api.store.look(&key).await?))
}

async fn look(State(api): State<Api>, headers: HeaderMap, Path(id): Path<String>) -> Result<Json<Stored>, Refusal> {
    Ok(Json(api.store.look(&api.key(&headers, &id)?).await?))
}

impl Api {
    fn admit(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        self.callers.admit(headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()))
    }
    fn key(&self, headers: &HeaderMap, id: &str) -> Result<String, Refusal> {
        let caller = self.admit(headers)?;
        Ok(UploadId::parse(id)?.key(&self.store.config().key_prefix, &caller))
    }
}

fn json<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Refusal> {
    body.map(|Json(value)| value).map_err(|rejection| Refusal::Invalid(rejection.body_text()))
}

/// One histogram for all requests, by route and status.
async fn observe(route: axum::extract::MatchedPath, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::histogram!("uploader_request_duration_seconds", "route" => route.as_str().to_owned(), "status" => status)
        .record(started.elapsed().as_secs_f64());
    response
}
