//! S3: everything that is in a bucket, taken away for good: every version of every object, and every delete marker.
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use tokio_util::sync::CancellationToken;

use super::{Aws, error};
use crate::{
    failure::{Failure, FailureKind, LeftBehind},
    ids::BucketName,
};

impl Aws {
    /// Empties a bucket, a thousand versions a call; one that is not there is empty. `progress` hears how many have gone.
    pub async fn empty_bucket(&self, bucket: &BucketName, cancel: &CancellationToken, progress: impl Fn(u64)) -> Result<(), Failure> {
        let on = format!("s3://{bucket}");
        let mut done = 0;
        // Always the first page: what it listed is gone afterwards.
        loop {
            if cancel.is_cancelled() {
                let left = LeftBehind::Partial(vec![format!("{on}, of which {done} versions have been deleted")]);
                return Err(Failure::new(FailureKind::Interrupted, format!("interrupted while {on} was being emptied")).left(left));
            }
            let page = match self.s3().list_object_versions().bucket(bucket.as_str()).send().await {
                Ok(page) => page,
                Err(e) if error::code(&e) == Some("NoSuchBucket") => return Ok(()),
                Err(e) => return Err(self.failed("s3:ListBucketVersions", &on, e)),
            };
            let versions = page.versions.unwrap_or_default().into_iter().map(|found| (found.key, found.version_id));
            let markers = page.delete_markers.unwrap_or_default().into_iter().map(|found| (found.key, found.version_id));
            let identifiers = versions
                .chain(markers)
                .filter_map(|(key, version)| ObjectIdentifier::builder().key(key?).set_version_id(version).build().ok());
            let identifiers: Vec<ObjectIdentifier> = identifiers.collect();
            if identifiers.is_empty() {
                return Ok(());
            }
            let count = identifiers.len() as u64;
            let delete = Delete::builder().set_objects(Some(identifiers)).quiet(true).build();
            let delete = delete.map_err(|e| Failure::step(format!("emptying {on}")).because(e))?;
            let answer = self.s3().delete_objects().bucket(bucket.as_str()).delete(delete).send().await;
            let answer = answer.map_err(|e| self.failed("s3:DeleteObjectVersion", &format!("{on}/*"), e))?;
            if let Some(refused) = answer.errors.unwrap_or_default().into_iter().next() {
                let what = format!(
                    "{on}/{}: {} {}",
                    refused.key.unwrap_or_default(),
                    refused.code.unwrap_or_default(),
                    refused.message.unwrap_or_default()
                );
                return Err(Failure::step(format!("S3 deletes not everything: {what}"))
                    .next("give the deployer role s3:DeleteObjectVersion on the bucket"));
            }
            done += count;
            progress(done);
        }
    }
}
