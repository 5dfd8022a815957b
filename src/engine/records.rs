//! The state bucket as the engine sees it: small objects, read and written under a condition. The lease and the runs' journals are there.
use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};

use crate::{
    aws::{
        Aws,
        s3::{Condition, ObjectSummary, StoredObject, Written},
    },
    failure::Failure,
    ids::BucketName,
};

/// Below this prefix everything is ours; terraform's states are beside it.
pub const PREFIX: &str = "deployctl/";
/// For one object of a few kilobytes. A lease's heartbeat must not wait as long as a client's own deadline.
const ANSWER: Duration = Duration::from_secs(10);
/// For a listing of any length.
const LISTED: Duration = Duration::from_secs(60);

/// Where records are kept.
pub trait Records: Send + Sync {
    /// As in `s3://BUCKET`.
    fn place(&self) -> String;
    /// Whether it is there.
    fn exists(&self) -> BoxFuture<'_, Result<bool, Failure>>;
    /// An object; none if there is none.
    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<StoredObject>, Failure>>;
    /// Writes an object if the condition holds.
    fn write<'a>(&'a self, key: &'a str, body: Vec<u8>, condition: Condition) -> BoxFuture<'a, Result<Written, Failure>>;
    /// Keys and sizes below a prefix, in order.
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ObjectSummary>, Failure>>;
}

/// Records in a bucket.
pub struct BucketRecords {
    aws: Arc<Aws>,
    bucket: BucketName,
}

impl BucketRecords {
    /// In this bucket, as this identity.
    pub fn new(aws: Arc<Aws>, bucket: BucketName) -> Self {
        Self { aws, bucket }
    }
    async fn in_time<T>(&self, what: String, time: Duration, call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        match tokio::time::timeout(time, call).await {
            Ok(answer) => answer,
            Err(_late) => Err(Failure::timeout(format!("{what} in {}", self.place()), time)),
        }
    }
}

impl Records for BucketRecords {
    fn place(&self) -> String {
        format!("s3://{}", self.bucket)
    }
    fn exists(&self) -> BoxFuture<'_, Result<bool, Failure>> {
        self.in_time("looking for the bucket".to_owned(), LISTED, self.aws.bucket_exists(&self.bucket)).boxed()
    }
    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<StoredObject>, Failure>> {
        self.in_time(format!("reading {key}"), ANSWER, self.aws.get_object(&self.bucket, key)).boxed()
    }
    fn write<'a>(&'a self, key: &'a str, body: Vec<u8>, condition: Condition) -> BoxFuture<'a, Result<Written, Failure>> {
        self.in_time(format!("writing {key}"), ANSWER, self.aws.put_object(&self.bucket, key, body, condition)).boxed()
    }
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ObjectSummary>, Failure>> {
        self.in_time(format!("listing {prefix}"), LISTED, self.aws.list_objects(&self.bucket, prefix)).boxed()
    }
}

#[cfg(test)]
#[path = "records_memory.rs"]
pub mod memory;
