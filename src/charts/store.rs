//! What was fetched once, by its digest: the next plan, and the apply after it, need no network. What does not hash to its name is not there.
use crate::{
    cache,
    failure::Failure,
    ids::ImageDigest,
    image::{Blob, digest_of},
    whole_file,
};

fn path(digest: &ImageDigest) -> Result<std::path::PathBuf, Failure> {
    Ok(cache::folder()?.join("charts").join(digest.as_str().replace(':', "-")))
}

/// The bytes of this digest, if they are here.
pub(super) fn find(digest: &ImageDigest) -> Option<Vec<u8>> {
    let bytes = std::fs::read(path(digest).ok()?).ok()?;
    digest_of(&bytes).ok().filter(|found| found == digest).map(|_| bytes)
}

/// Keeps them. A cache that cannot be written is no reason to fail.
pub(super) fn keep(blob: &Blob) {
    let kept = path(&blob.digest).and_then(|path| {
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| whole_file::write(&path, &blob.bytes));
        written.map_err(|e| Failure::step(format!("{} cannot be written", path.display())).because(e))
    });
    if let Err(failure) = kept {
        tracing::info!("a chart is not kept: {}", failure.chain().join(": "));
    }
}
