//! Copies of an environment's images in its DR region: what is brought up there must not need the region that is lost. A deployment does not depend on
//! them: where they cannot be made it says so and goes on, `dr status` names what is missing, and the next apply makes up for it.
use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    aws::Aws,
    engine::event::EventKind,
    failure::Failure,
    ids::{ImageDigest, RepositoryName},
    image::Registry,
    plan::environment::Standby,
    steps::{
        StepContext,
        live::{live_images, live_tag},
    },
};

/// A plan waits no longer for the other region.
const LOOK: Duration = Duration::from_secs(10);

/// Whether an image is in the DR region too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyState {
    /// With both its tags.
    There,
    /// Not yet.
    Missing,
    /// The other region does not answer; nothing is planned for it.
    Unknown,
    /// Nothing but backups is kept there (`recovery.standby`).
    NotWanted,
}

/// An image that shall be there, too.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where, in both registries.
    pub repository: RepositoryName,
    /// Which.
    pub digest: ImageDigest,
    /// The permanent tag that says from which sources it was built.
    pub build_tag: String,
}

fn there(cx: &StepContext) -> Aws {
    cx.aws.in_region(&cx.environment.aws.dr_region)
}

/// Looks, briefly. An image that is not built yet is missing there as well.
pub async fn look(cx: &StepContext, repository: &RepositoryName, build_tag: &str, digest: Option<&ImageDigest>) -> CopyState {
    if cx.environment.recovery.standby == Standby::Backups {
        return CopyState::NotWanted;
    }
    let Some(digest) = digest else { return CopyState::Missing };
    let aws = there(cx);
    let look = async {
        if aws.find_repository(repository).await?.is_none() {
            return Ok::<_, Failure>(false);
        }
        let found = aws.image_by_tag(repository, build_tag).await?;
        Ok(found.is_some_and(|image| image.digest == *digest && image.tags.contains(&live_tag(&cx.environment.name, digest))))
    };
    match tokio::time::timeout(LOOK, look).await {
        Ok(Ok(true)) => CopyState::There,
        Ok(Ok(false)) => CopyState::Missing,
        Ok(Err(_)) | Err(_) => CopyState::Unknown,
    }
}

/// Copies what is missing; how many images that were. What fails is told, and is no failure of the deployment.
pub async fn make(cx: &StepContext, home: &Registry, lifecycle: &serde_json::Value, wanted: &[Wanted]) -> usize {
    if wanted.is_empty() {
        return 0;
    }
    let aws = there(cx);
    let region = aws.region().clone();
    let mut made = 0;
    let copying = async {
        let registry = Registry::connect(&aws).await?;
        for image in wanted {
            copy(cx, &aws, (home, &registry), lifecycle, image).await?;
            made += 1;
        }
        Ok::<_, Failure>(())
    };
    if let Err(failure) = copying.await {
        let why = failure.chain().join(": ");
        let message = format!("not every image is in {region}: {why}; deployctl dr status names them, and the next apply copies them");
        cx.events.emit(EventKind::Warning { message });
    }
    made
}

async fn copy(
    cx: &StepContext,
    aws: &Aws,
    (home, there): (&Registry, &Registry),
    lifecycle: &serde_json::Value,
    image: &Wanted,
) -> Result<(), Failure> {
    let Wanted { repository, digest, build_tag } = image;
    aws.ensure_repository(repository, &cx.environment.tags).await?;
    aws.ensure_lifecycle_policy(repository, lifecycle).await?;
    let tags = [build_tag.clone(), live_tag(&cx.environment.name, digest)];
    let sent = there.copy(home, repository, digest, &tags).await?;
    cx.progress(format!("{repository}: copied {} blobs to {}, {}", sent.blobs, aws.region(), bytesize::ByteSize(sent.bytes)));
    // What is live nowhere any more is not kept there either; this one's tag is not among those that go.
    let at_home: BTreeSet<String> = live_images(&cx.aws, &cx.environment.name, repository).await?.into_iter().map(|(tag, _)| tag).collect();
    for (tag, image) in live_images(aws, &cx.environment.name, repository).await? {
        if !at_home.contains(&tag) && image.digest != *digest {
            aws.remove_tag(repository, &tag).await?;
        }
    }
    Ok(())
}
