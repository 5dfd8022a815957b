//! A marked file through the load balancer and a pre-signed URL: the first hop of the smoke test, and all of it where no parser is needed.
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use clap::Args;
use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    REMOVED,
    address::{AddressArgs, client},
    hop,
};
use crate::{
    agent::{database::DatabaseArgs, say},
    aws::Aws,
    failure::{Failure, LeftBehind},
    ids::BucketName,
    retry,
};

/// Rows of the marked file.
pub(super) const ROWS: i64 = 3;
/// What the hop says of itself.
pub(super) const PATH: &str = "through the load balancer and the pre-signed URL";
/// Where pre-signed URLs are asked for.
const UPLOADS: &str = "/v1/uploads";
/// How a load balancer answers for a pod that is not there, or not there yet.
const NO_TARGET: [StatusCode; 3] = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
/// Between two looks at a new load balancer.
const LOOK: Duration = Duration::from_secs(1);
/// A parser that had begun to read so small a file when it was removed has committed or given up by then.
const SETTLED: Duration = Duration::from_millis(500);

/// `deployctl agent upload`; `--credentials-secret` is the tables' owner's.
#[derive(Args, Clone, Debug)]
pub struct UploadArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    address: AddressArgs,
    /// The secret with the bearer token of the caller `smoke`
    #[arg(long)]
    token_secret: String,
    /// The bucket for uploads
    #[arg(long)]
    bucket: String,
    /// Longest time until the load balancer passes requests on
    #[arg(long, default_value_t = 240)]
    deadline_seconds: u64,
}

/// What the uploader answers.
#[derive(Deserialize)]
struct Begun {
    key: String,
    put: Signed,
}

/// A pre-signed request.
#[derive(Deserialize)]
struct Signed {
    method: String,
    url: String,
    headers: BTreeMap<String, String>,
}

/// What has been uploaded, so that it can be found and removed.
pub(super) struct Marked {
    /// As the parser derives it, so that a file that is announced twice is one file.
    pub id: Uuid,
    /// Its key.
    pub key: String,
    /// Its version, in a bucket that keeps them.
    pub version: Option<String>,
    body: String,
}

/// Uploads a marked file, reads it back from the bucket and removes it, whether a parser is there already or not.
pub async fn run(args: &UploadArgs) -> Result<Value, Failure> {
    let started = Instant::now();
    let aws = args.database.account.connect().await?;
    let bucket = BucketName::parse(&args.bucket).map_err(|e| Failure::usage("--bucket").because(e))?;
    let token = token(&aws, &args.token_secret).await?;
    let end = started + Duration::from_secs(args.deadline_seconds);
    hop("load balancer", "it passes requests on", end, until_answered(&args.address, end)).await?;
    if let Some(missing) = args.address.unpointed().await {
        say(&json!({ "warning": missing }))?;
    }
    hop("stranger", "a caller without a token is refused", end, a_stranger_is_refused(&args.address, end)).await?;
    let marked = hop("upload", PATH, end, send(&args.address, &args.bucket, &token, end)).await?;
    let stored = hop("s3", "the object is in the bucket", Instant::now() + REMOVED, stored(&aws, &bucket, &marked)).await;
    let removed =
        hop("removed", "object and, if a parser was faster, its rows", Instant::now() + REMOVED, remove(args, &aws, &bucket, &marked))
            .await;
    stored?;
    removed.map_err(|failure| failure.left(LeftBehind::Partial(vec![format!("s3://{bucket}/{}, or its rows", marked.key)])))?;
    Ok(json!({ "key": marked.key, "millis": u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX) }))
}

/// The bearer token of the caller `smoke`.
pub(super) async fn token(aws: &Aws, secret: &str) -> Result<SecretString, Failure> {
    aws.secret_value(secret).await?.ok_or_else(|| {
        Failure::step(format!("the secret {secret} has no value"))
            .next("deployctl secret set smoke-token, and its SHA-256 as caller `smoke` in uploader-tokens")
    })
}

/// A new load balancer has its name minutes before it resolves and knows its targets.
async fn until_answered(address: &AddressArgs, end: Instant) -> Result<(), Failure> {
    let (http, url, started) = (address.client()?, address.url("/readyz"), Instant::now());
    loop {
        let late = || Failure::timeout(format!("{url} to answer"), started.elapsed());
        let missed = match http.get(&url).send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => late().evidence(answer.status().to_string()),
            // It may still have the certificate from before.
            Err(error) if retry::untrusted(&error) => address.unanswered(&url, error),
            Err(error) => late().evidence(Failure::step("no answer").because(error.without_url()).chain().join(": ")),
        };
        if Instant::now() >= end {
            return Err(missed);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whoever is let in by the network is not let in by that.
async fn a_stranger_is_refused(address: &AddressArgs, end: Instant) -> Result<(), Failure> {
    let asked =
        json!({ "filename": "smoke.csv", "content_type": "text/csv", "size_bytes": 1, "sha256": hex::encode(Sha256::digest(b"x")) });
    let response = posted(address, &address.client()?, None, &asked, end).await?;
    if response.status() == StatusCode::UNAUTHORIZED {
        return Ok(());
    }
    let (url, status) = (address.url(UPLOADS), response.status());
    Err(Failure::verification(format!("{url} answered {status} to a caller without a token; it must be 401")))
}

/// Asking makes nothing, so a load balancer that has no target at this moment is asked again until `end`.
async fn posted(
    address: &AddressArgs,
    http: &reqwest::Client,
    token: Option<&SecretString>,
    asked: &Value,
    end: Instant,
) -> Result<reqwest::Response, Failure> {
    let url = address.url(UPLOADS);
    loop {
        let request = http.post(&url).json(asked);
        let request = match token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        };
        let response = request.send().await.map_err(|e| address.unanswered(&url, e))?;
        if !NO_TARGET.contains(&response.status()) || Instant::now() >= end {
            return Ok(response);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Asks the uploader for a pre-signed URL and puts a marked file there.
pub(super) async fn send(address: &AddressArgs, bucket: &str, token: &SecretString, end: Instant) -> Result<Marked, Failure> {
    let body = format!("id,mark\n1,smoke\n2,{}\n3,smoke\n", Uuid::new_v4());
    let http = address.client()?;
    let asked = json!({
        "filename": "smoke.csv", "content_type": "text/csv", "size_bytes": body.len(), "sha256": hex::encode(Sha256::digest(&body)),
    });
    let response = posted(address, &http, Some(token), &asked, end).await?;
    let begun: Begun = json_of(response, &address.url(UPLOADS)).await?;
    let method = reqwest::Method::from_bytes(begun.put.method.as_bytes()).map_err(|e| Failure::step("the uploader's answer").because(e))?;
    // S3 is believed by the public authorities only.
    let mut request = client(reqwest::Client::builder())?.request(method, &begun.put.url).body(body.clone());
    // Its length is what reqwest sends of itself; a second one would make the request invalid.
    for (name, value) in
        begun.put.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("content-length") && !name.eq_ignore_ascii_case("host"))
    {
        request = request.header(name, value);
    }
    let response = request.send().await.map_err(|e| Failure::step("the pre-signed URL does not answer").because(e.without_url()))?;
    let status = response.status();
    let version = response.headers().get("x-amz-version-id").and_then(|v| v.to_str().ok()).map(String::from);
    if !status.is_success() {
        let text = response.text().await.unwrap_or_default();
        return Err(
            Failure::step(format!("S3 answered the pre-signed PUT with {status}")).evidence(text.chars().take(600).collect::<String>())
        );
    }
    let url = format!("s3://{bucket}/{}?versionId={}", begun.key, version.as_deref().unwrap_or("null"));
    Ok(Marked { id: Uuid::new_v5(&Uuid::NAMESPACE_URL, url.as_bytes()), key: begun.key, version, body })
}

async fn json_of<T: serde::de::DeserializeOwned>(response: reqwest::Response, url: &str) -> Result<T, Failure> {
    let status = response.status();
    let text = response.text().await.map_err(|e| Failure::step(format!("{url} broke off")).because(e.without_url()))?;
    if !status.is_success() {
        return Err(Failure::step(format!("{url} answered {status}")).evidence(text.chars().take(600).collect::<String>()));
    }
    // The answer holds a pre-signed URL: it is never part of a failure.
    serde_json::from_str(&text).map_err(|_shows_the_answer| Failure::step(format!("{url} answered something unexpected")))
}

/// A GET and no HEAD: for so small a file it costs the same, and it shows the content.
async fn stored(aws: &Aws, bucket: &BucketName, marked: &Marked) -> Result<(), Failure> {
    let found = aws.get_object(bucket, &marked.key).await?;
    let found = found.ok_or_else(|| Failure::verification(format!("s3://{bucket}/{} is not there", marked.key)))?;
    if found.body != marked.body {
        return Err(Failure::verification(format!("s3://{bucket}/{} does not hold what was sent", marked.key)));
    }
    Ok(())
}

/// The object first: whoever reads the message from now on finds it gone. Then the rows of a parser that was faster; the event stays.
async fn remove(args: &UploadArgs, aws: &Aws, bucket: &BucketName, marked: &Marked) -> Result<(), Failure> {
    aws.delete_object_version(bucket, &marked.key, marked.version.as_deref()).await?;
    let client = args.database.connect().await?;
    let tables = client.query_one("SELECT to_regclass('files') IS NOT NULL", &[]).await.map_err(unremoved)?;
    // Before the first migration nobody reads the queue.
    if !tables.get::<_, bool>(0) {
        return Ok(());
    }
    tokio::time::sleep(SETTLED).await;
    remove_rows(&client, marked).await
}

/// Takes away what the parser has written of the file; an event that is not published yet stays in the outbox.
pub(super) async fn remove_rows(client: &tokio_postgres::Client, marked: &Marked) -> Result<(), Failure> {
    client.execute("DELETE FROM files WHERE file_id = $1", &[&marked.id]).await.map_err(unremoved)?;
    client.execute("DELETE FROM outbox WHERE key = $1 AND published_at IS NOT NULL", &[&marked.key]).await.map_err(unremoved)?;
    Ok(())
}

fn unremoved(error: tokio_postgres::Error) -> Failure {
    Failure::step("the rows of the marked file cannot be removed").because(error)
}
