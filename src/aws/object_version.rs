//! Single versions of objects: what the smoke test made must be gone, not hidden behind a delete marker.
use super::Aws;
use crate::{failure::Failure, ids::BucketName};

impl Aws {
    /// Deletes one version of an object, or the object where versions are off.
    pub async fn delete_object_version(&self, bucket: &BucketName, key: &str, version: Option<&str>) -> Result<(), Failure> {
        let request = self.s3().delete_object().bucket(bucket.as_str()).key(key).set_version_id(version.map(String::from));
        request.send().await.map(drop).map_err(|e| self.failed("s3:DeleteObjectVersion", &format!("s3://{bucket}/{key}"), e))
    }
}
