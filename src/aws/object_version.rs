//! Single versions of objects. What the smoke test made must be gone, not hidden behind a delete marker; what somebody has deleted must come back.
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Aws, error, rds::moment};
use crate::{
    failure::Failure,
    ids::{BucketName, ObjectVersionId},
};

/// What stands as it is in the name of a copy's source; a plus would be read as a space.
const SOURCE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// One version of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectVersion {
    /// The object's key.
    pub key: String,
    /// The version's id.
    pub id: ObjectVersionId,
    /// When it was written.
    pub at: Timestamp,
    /// Whether a read without a version finds this one.
    pub current: bool,
    /// What it is.
    pub content: Content,
}

/// What a version is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Bytes, in a storage class as in `STANDARD`.
    Bytes(String),
    /// Nothing: it hides the versions before it.
    DeleteMarker,
}

/// What became of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copied {
    /// It is there, as this version where the bucket has versions.
    Done(Option<ObjectVersionId>),
    /// There is an object of that key, which stays as it is.
    KeyTaken,
}

impl Aws {
    /// Deletes one version of an object, or the object where versions are off.
    pub async fn delete_object_version(&self, bucket: &BucketName, key: &str, version: Option<&str>) -> Result<(), Failure> {
        let request = self.s3().delete_object().bucket(bucket.as_str()).key(key).set_version_id(version.map(String::from));
        request.send().await.map(drop).map_err(|e| self.failed("s3:DeleteObjectVersion", &format!("s3://{bucket}/{key}"), e))
    }

    /// Every version of every object below a prefix, delete markers among them; none if there is no bucket.
    pub async fn object_versions(&self, bucket: &BucketName, prefix: &str) -> Result<Vec<ObjectVersion>, Failure> {
        let on = format!("s3://{bucket}/{prefix}");
        let (mut found, mut key, mut version) = (Vec::new(), None, None);
        // The SDK has no paginator for this call.
        loop {
            let request = self.s3().list_object_versions().bucket(bucket.as_str()).prefix(prefix);
            let page = match request.set_key_marker(key.take()).set_version_id_marker(version.take()).send().await {
                Ok(page) => page,
                Err(e) if error::code(&e) == Some("NoSuchBucket") => return Ok(Vec::new()),
                Err(e) => return Err(self.failed("s3:ListBucketVersions", &on, e)),
            };
            found.extend(page.versions.unwrap_or_default().into_iter().filter_map(|found| {
                let class = found.storage_class.map_or_else(|| "STANDARD".to_owned(), |class| class.as_str().to_owned());
                one(found.key, found.version_id, found.last_modified, found.is_latest, Content::Bytes(class))
            }));
            found.extend(
                page.delete_markers
                    .unwrap_or_default()
                    .into_iter()
                    .filter_map(|found| one(found.key, found.version_id, found.last_modified, found.is_latest, Content::DeleteMarker)),
            );
            (key, version) = (page.next_key_marker, page.next_version_id_marker);
            if page.is_truncated != Some(true) || key.is_none() {
                return Ok(found);
            }
        }
    }

    /// Copies a version to the same key of another bucket, which may be in another region, unless there is an object of that key: S3 itself looks,
    /// in the same moment. A delete marker is none.
    pub async fn copy_version(&self, from: &BucketName, key: &str, version: &ObjectVersionId, to: &BucketName) -> Result<Copied, Failure> {
        let source = format!("{from}/{}?versionId={}", utf8_percent_encode(key, SOURCE), utf8_percent_encode(version.as_str(), SOURCE));
        let on = format!("s3://{to}/{key}");
        match self.s3().copy_object().copy_source(source).bucket(to.as_str()).key(key).if_none_match("*").send().await {
            Ok(done) => Ok(Copied::Done(done.version_id.and_then(|id| ObjectVersionId::parse(id).ok()))),
            Err(e) if matches!(error::status(&e), Some(409 | 412)) => Ok(Copied::KeyTaken),
            Err(e) if error::code(&e) == Some("InvalidObjectState") => {
                let thaw = format!(
                    "aws s3api restore-object --bucket {from} --key {key} --version-id {version} --restore-request Days=2, \
                     wait until it can be read, then the same command"
                );
                Err(self.failed("s3:GetObjectVersion", &on, e).next(thaw))
            }
            Err(e) => Err(self.failed("s3:PutObject", &on, e)),
        }
    }
}

fn one(
    key: Option<String>,
    id: Option<String>,
    at: Option<aws_sdk_s3::primitives::DateTime>,
    latest: Option<bool>,
    content: Content,
) -> Option<ObjectVersion> {
    let id = ObjectVersionId::parse(id?).ok()?;
    Some(ObjectVersion { key: key?, id, at: at.and_then(moment)?, current: latest == Some(true), content })
}
