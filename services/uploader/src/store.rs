//! S3: signs what a caller may do, and looks at what is there.
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use aws_config::{BehaviorVersion, retry::RetryConfig, timeout::TimeoutConfig};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_s3::{
    Client,
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
    presigning::{PresignedRequest, PresigningConfig},
    types::{CompletedMultipartUpload, CompletedPart, ServerSideEncryption},
};
use serde::Serialize;

use crate::{
    config::Config,
    refusal::Refusal,
    upload::{Upload, part_sizes},
};

/// A request that the caller can send to S3 as it stands. Every header is signed: one byte changed and S3 refuses it.
#[derive(Debug, Serialize)]
pub struct Signed {
    method: String,
    url: String,
    headers: BTreeMap<String, String>,
    expires_at: String,
}

/// One part of a file that is uploaded in parts.
#[derive(Debug, Serialize)]
pub struct SignedPart {
    number: i32,
    size_bytes: u64,
    #[serde(flatten)]
    request: Signed,
}

/// What S3 says of a finished upload.
#[derive(Debug, Serialize)]
pub struct Stored {
    size_bytes: u64,
    content_type: Option<String>,
    filename: Option<String>,
    sha256: Option<String>,
    version: Option<String>,
}

/// The bucket.
#[derive(Clone)]
pub struct Store {
    client: Client,
    credentials: SharedCredentialsProvider,
    config: Config,
}

/// The store can't be used at all.
#[derive(Debug, thiserror::Error)]
#[error("there are no AWS credentials to be found")]
pub struct NoCredentials;

impl Store {
    /// Reads region, credentials and endpoint as every AWS SDK does.
    pub async fn connect(config: &Config) -> Result<Self, NoCredentials> {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(3))
            .operation_attempt_timeout(Duration::from_secs(10))
            .operation_timeout(Duration::from_secs(25))
            .build();
        let sdk = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(RetryConfig::standard().with_max_attempts(3))
            .timeout_config(timeouts)
            .load()
            .await;
        let credentials = sdk.credentials_provider().ok_or(NoCredentials)?;
        Ok(Self { client: Client::new(&sdk), credentials, config: config.clone() })
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A PUT of exactly this file: key, type, length, checksum and encryption are signed, and it never overwrites.
    pub async fn sign_put(&self, key: &str, upload: &Upload) -> Result<Signed, Refusal> {
        let length = i64::try_from(upload.size_bytes).map_err(|_huge| Refusal::Invalid("size_bytes".to_owned()))?;
        let (sse, kms) = self.encryption();
        let request = self
            .client
            .put_object()
            .bucket(&self.config.bucket)
            .key(key)
            .content_type(&upload.content_type)
            .content_length(length)
            .checksum_sha256(&upload.sha256_base64)
            .if_none_match("*")
            .server_side_encryption(sse)
            .set_ssekms_key_id(kms)
            .metadata("filename", &upload.filename)
            .metadata("sha256", &upload.sha256_hex);
        let (presigning, expires_at) = self.presigning().await?;
        let signed = request.presigned(presigning).await.map_err(storage("PutObject (sign)"))?;
        Ok(Signed::new(&signed, &expires_at))
    }

    /// Begins an upload in parts; returns S3's upload id and the parts.
    pub async fn begin_parts(&self, key: &str, upload: &Upload) -> Result<(String, Vec<SignedPart>), Refusal> {
        let (sse, kms) = self.encryption();
        let begun = self
            .client
            .create_multipart_upload()
            .bucket(&self.config.bucket)
            .key(key)
            .content_type(&upload.content_type)
            .server_side_encryption(sse)
            .set_ssekms_key_id(kms)
            .metadata("filename", &upload.filename)
            .metadata("sha256", &upload.sha256_hex)
            .send()
            .await
            .map_err(storage("CreateMultipartUpload"))?;
        let upload_id = begun.upload_id.ok_or(Refusal::Storage)?;
        let numbers: Vec<i32> = (1..).take(part_sizes(upload.size_bytes).len()).collect();
        let parts = self.sign_parts(key, &upload_id, upload.size_bytes, &numbers).await?;
        Ok((upload_id, parts))
    }

    /// Signs parts, for the first time or again when their URLs have expired.
    pub async fn sign_parts(&self, key: &str, upload_id: &str, size_bytes: u64, numbers: &[i32]) -> Result<Vec<SignedPart>, Refusal> {
        let sizes = part_sizes(size_bytes);
        let (presigning, expires_at) = self.presigning().await?;
        let mut parts = Vec::with_capacity(numbers.len());
        for &number in numbers {
            let size = usize::try_from(number - 1).ok().and_then(|index| sizes.get(index)).copied();
            let size_bytes = size.ok_or_else(|| Refusal::Invalid(format!("part {number}: parts are numbered 1 to {}", sizes.len())))?;
            let request = self.client.upload_part().bucket(&self.config.bucket).key(key).upload_id(upload_id).part_number(number);
            let request = request.content_length(i64::try_from(size_bytes).map_err(|_huge| Refusal::Storage)?);
            let signed = request.presigned(presigning.clone()).await.map_err(storage("UploadPart (sign)"))?;
            parts.push(SignedPart { number, size_bytes, request: Signed::new(&signed, &expires_at) });
        }
        Ok(parts)
    }

    /// Puts the parts together, unless they are more than may be taken or the object exists already.
    pub async fn complete_parts(&self, key: &str, upload_id: &str, parts: Vec<(i32, String)>) -> Result<(), Refusal> {
        let mut total = 0;
        let mut pages = self.client.list_parts().bucket(&self.config.bucket).key(key).upload_id(upload_id).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page =
                page.map_err(|error| if code(&error) == Some("NoSuchUpload") { Refusal::NotFound } else { storage("ListParts")(error) })?;
            total += page.parts().iter().filter_map(|part| u64::try_from(part.size()?).ok()).sum::<u64>();
        }
        if total > self.config.largest {
            let abort = self.client.abort_multipart_upload().bucket(&self.config.bucket).key(key).upload_id(upload_id).send().await;
            abort.map_err(storage("AbortMultipartUpload"))?;
            return Err(Refusal::TooLarge { asked: total, largest: self.config.largest });
        }
        let parts = parts.into_iter().map(|(number, etag)| CompletedPart::builder().part_number(number).e_tag(etag).build()).collect();
        let completed = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self.client.complete_multipart_upload().bucket(&self.config.bucket).key(key).upload_id(upload_id);
        request.multipart_upload(completed).if_none_match("*").send().await.map_err(|error| match code(&error) {
            Some("NoSuchUpload") => Refusal::NotFound,
            Some("PreconditionFailed" | "ConditionalRequestConflict") => Refusal::Conflict("this upload is already complete".to_owned()),
            Some("InvalidPart" | "InvalidPartOrder" | "EntityTooSmall") => {
                Refusal::Conflict("the parts do not fit: send each part's number and ETag, in order".to_owned())
            }
            _ => storage("CompleteMultipartUpload")(error),
        })?;
        Ok(())
    }

    /// What is there.
    pub async fn look(&self, key: &str) -> Result<Stored, Refusal> {
        let head = self.client.head_object().bucket(&self.config.bucket).key(key).send().await.map_err(|error| {
            let absent = error.raw_response().is_some_and(|response| response.status().as_u16() == 404);
            if absent { Refusal::NotFound } else { storage("HeadObject")(error) }
        })?;
        let metadata = |name: &str| head.metadata().and_then(|all| all.get(name)).cloned();
        Ok(Stored {
            size_bytes: head.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or_default(),
            content_type: head.content_type().map(ToOwned::to_owned),
            filename: metadata("filename"),
            sha256: metadata("sha256"),
            version: head.version_id().map(ToOwned::to_owned),
        })
    }

    fn encryption(&self) -> (ServerSideEncryption, Option<String>) {
        match &self.config.kms_key_id {
            Some(key) => (ServerSideEncryption::AwsKms, Some(key.clone())),
            None => (ServerSideEncryption::Aes256, None),
        }
    }

    /// A URL dies with the credentials that signed it, so it is never promised to live longer.
    async fn presigning(&self) -> Result<(PresigningConfig, String), Refusal> {
        let credentials = self.credentials.provide_credentials().await.map_err(|error| {
            tracing::error!(error = %DisplayErrorContext(&error), "no credentials");
            Refusal::Storage
        })?;
        let left = credentials.expiry().map(|expiry| expiry.duration_since(SystemTime::now()).unwrap_or_default());
        let lifetime = left.map_or(self.config.url_lifetime, |left| left.min(self.config.url_lifetime));
        let presigning = PresigningConfig::expires_in(lifetime).map_err(|error| {
            tracing::error!(%error, "a lifetime that can't be signed");
            Refusal::Storage
        })?;
        let expires_at = jiff::Timestamp::try_from(SystemTime::now() + lifetime).map_err(|_beyond_time| Refusal::Storage)?;
        Ok((presigning, expires_at.to_string()))
    }
}

impl Signed {
    fn new(request: &PresignedRequest, expires_at: &str) -> Self {
        Self {
            method: request.method().to_owned(),
            url: request.uri().to_owned(),
            headers: request.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            expires_at: expires_at.to_owned(),
        }
    }
}

fn code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}

fn storage<E>(call: &'static str) -> impl Fn(SdkError<E>) -> Refusal
where
    E: std::error::Error + Send + Sync + 'static,
{
    move |error| {
        tracing::error!(call, error = %DisplayErrorContext(&error), "S3 refused");
        metrics::counter!("uploader_storage_errors_total", "call" => call).increment(1);
        Refusal::Storage
    }
}
