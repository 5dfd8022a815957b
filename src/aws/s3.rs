//! S3 objects: read, written under a condition, listed, deleted.
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use aws_sdk_s3::primitives::{ByteStream, DateTime, DateTimeFormat};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{Intercept, context::BeforeDeserializationInterceptorContextRef},
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::ConfigBag;
use bytes::Bytes;

use super::{Aws, error, patience};
use crate::{
    failure::Failure,
    ids::BucketName,
    retry::{self, Missed},
};

/// An object's body and the tag that a conditional write names.
#[derive(Clone, Debug)]
pub struct StoredObject {
    /// The bytes.
    pub body: Bytes,
    /// As S3 gave it, with its quotes.
    pub etag: String,
    /// Since it was written, by the clock of S3 alone, in whole seconds; none if the answer did not say what time it is.
    pub age: Option<Duration>,
}

/// Takes the time of an answer from its header: S3's own clock, which nobody here can have set wrong.
#[derive(Debug, Default)]
struct DateOfAnswer(Arc<OnceLock<DateTime>>);

impl Intercept for DateOfAnswer {
    fn name(&self) -> &'static str {
        "DateOfAnswer"
    }
    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        if let Some(date) = date.and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok()) {
            // A second attempt's answer; the first one's date serves as well.
            self.0.get_or_init(|| date);
        }
        Ok(())
    }
}

/// When a write may happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    None,
    /// Only if no object has the key.
    Absent,
    /// Only if the object is still the one with this tag.
    Unchanged {
        /// As S3 gave it.
        etag: String,
    },
}

/// What became of a conditional write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is there, with this tag.
    Done {
        /// As S3 gave it.
        etag: String,
    },
    /// The condition did not hold; nothing was changed.
    Refused,
}

/// A line of a listing.
#[derive(Clone, Debug)]
pub struct ObjectSummary {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
}

impl Aws {
    /// Reads an object; none if there is none, or no bucket. An answer that breaks off half-way is asked for again: the SDK repeats no read whose
    /// answer it has begun to hand out.
    pub async fn get_object(&self, bucket: &BucketName, key: &str) -> Result<Option<StoredObject>, Failure> {
        let on = format!("s3://{bucket}/{key}");
        retry::within(&format!("s3:GetObject on {on}"), patience::LIMITS, || self.get_object_once(bucket, key, &on)).await
    }

    async fn get_object_once(&self, bucket: &BucketName, key: &str, on: &str) -> Result<Option<StoredObject>, Missed> {
        let date = Arc::new(OnceLock::new());
        let request = self.s3().get_object().bucket(bucket.as_str()).key(key).customize().interceptor(DateOfAnswer(date.clone()));
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(e) if matches!(error::code(&e), Some("NoSuchKey" | "NoSuchBucket")) || error::status(&e) == Some(404) => return Ok(None),
            Err(e) => return Err(self.failed("s3:GetObject", on, e).into()),
        };
        let etag = answer.e_tag.unwrap_or_default();
        let age = date.get().zip(answer.last_modified).and_then(|(now, then)| u64::try_from(now.secs() - then.secs()).ok());
        let broke_off = Failure::step(format!("s3:GetObject on {on}: the answer broke off"));
        let body = match tokio::time::timeout(patience::ATTEMPT, answer.body.collect()).await {
            Ok(Ok(body)) => body.into_bytes(),
            Ok(Err(e)) => return Err(Missed::passing(broke_off.because(e), None)),
            Err(late) => return Err(Missed::passing(broke_off.because(late), None)),
        };
        Ok(Some(StoredObject { body, etag, age: age.map(Duration::from_secs) }))
    }

    /// Writes an object if the condition holds. A write whose answer was lost is refused when the SDK repeats it: read back who wrote.
    pub async fn put_object(
        &self,
        bucket: &BucketName,
        key: &str,
        body: impl Into<Bytes>,
        condition: Condition,
    ) -> Result<Written, Failure> {
        let request = self.s3().put_object().bucket(bucket.as_str()).key(key).body(ByteStream::from(body.into()));
        let request = match condition {
            Condition::None => request,
            Condition::Absent => request.if_none_match("*"),
            Condition::Unchanged { etag } => request.if_match(etag),
        };
        match request.send().await {
            Ok(answer) => Ok(Written::Done { etag: answer.e_tag.unwrap_or_default() }),
            // 409 is S3's word for two conditional writes at the same moment, 404 for If-Match on an object that has gone.
            Err(e)
                if matches!(error::status(&e), Some(409 | 412))
                    || matches!(error::code(&e), Some("PreconditionFailed" | "ConditionalRequestConflict" | "NoSuchKey")) =>
            {
                Ok(Written::Refused)
            }
            Err(e) => Err(self.failed("s3:PutObject", &format!("s3://{bucket}/{key}"), e)),
        }
    }

    /// Deletes an object; none there is fine.
    pub async fn delete_object(&self, bucket: &BucketName, key: &str) -> Result<(), Failure> {
        let answer = self.s3().delete_object().bucket(bucket.as_str()).key(key).send().await;
        answer.map(drop).map_err(|e| self.failed("s3:DeleteObject", &format!("s3://{bucket}/{key}"), e))
    }

    /// Deletes an object if it still is the one with this tag; false if it is another one. None there is fine: an earlier attempt's answer may have
    /// been lost.
    pub async fn delete_object_of(&self, bucket: &BucketName, key: &str, etag: &str) -> Result<bool, Failure> {
        match self.s3().delete_object().bucket(bucket.as_str()).key(key).if_match(etag).send().await {
            Ok(_) => Ok(true),
            Err(e)
                if matches!(error::status(&e), Some(404 | 409 | 412))
                    || matches!(error::code(&e), Some("PreconditionFailed" | "ConditionalRequestConflict" | "NoSuchKey")) =>
            {
                Ok(self.get_object(bucket, key).await?.is_none())
            }
            Err(e) => Err(self.failed("s3:DeleteObject", &format!("s3://{bucket}/{key}"), e)),
        }
    }

    /// Every object below a prefix, in the order of their keys; none if there is no bucket.
    pub async fn list_objects(&self, bucket: &BucketName, prefix: &str) -> Result<Vec<ObjectSummary>, Failure> {
        let mut pages = self.s3().list_objects_v2().bucket(bucket.as_str()).prefix(prefix).into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                Err(e) if error::code(&e) == Some("NoSuchBucket") => return Ok(Vec::new()),
                Err(e) => return Err(self.failed("s3:ListBucket", &format!("s3://{bucket}/{prefix}"), e)),
            };
            found.extend(page.contents.unwrap_or_default().into_iter().filter_map(|object| {
                let size = object.size.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
                object.key.map(|key| ObjectSummary { key, size })
            }));
        }
        Ok(found)
    }
}
