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
    plan::environment::Environment,
    steps::state_backend::Names,
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
    /// Where journals that are kept here are copied to, for when this place is lost; nowhere from a place that is such a copy itself.
    fn copies(&self) -> Option<Arc<dyn Records>> {
        None
    }
}

/// Records in a bucket.
pub struct BucketRecords {
    aws: Arc<Aws>,
    bucket: BucketName,
    copies: Option<Arc<dyn Records>>,
}

impl BucketRecords {
    /// An environment's own: the one truth about who holds it and how far each run is. Copied to [`BucketRecords::in_dr_region`].
    pub fn of(aws: &Arc<Aws>, environment: &Environment) -> Result<Self, Failure> {
        let copies: Arc<dyn Records> = Arc::new(Self::in_dr_region(aws, environment)?);
        Ok(Self { aws: aws.clone(), bucket: Names::of(environment)?.bucket, copies: Some(copies) })
    }
    /// In this bucket and nowhere else: so is a restore's, of which nothing may go to the lost region.
    pub fn alone(aws: Arc<Aws>, bucket: BucketName) -> Self {
        Self { aws, bucket, copies: None }
    }
    /// What of them must survive the region: copies of the journals, the newest of which names the last holder, its lease's number and the
    /// time. The lease here is another one, of whoever restores while the region is lost; so are that one's journals.
    pub fn in_dr_region(aws: &Arc<Aws>, environment: &Environment) -> Result<Self, Failure> {
        let aws = aws.shared_in_region(&environment.aws.dr_region);
        Ok(Self::alone(aws, Names::of(environment)?.dr_bucket))
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
    fn copies(&self) -> Option<Arc<dyn Records>> {
        self.copies.clone()
    }
}

#[cfg(test)]
#[path = "records_memory.rs"]
pub mod memory;
