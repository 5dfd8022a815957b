//! Reads what buildah and docker leave behind: an OCI image layout, a folder with an index and blobs.
use std::path::Path;

use serde_json::Value;

use super::{Blob, Image, digest_of};
use crate::failure::Failure;

/// Reads the one image of a layout.
pub fn read(folder: &Path) -> Result<Image, Failure> {
    let index = json(&folder.join("index.json"))?;
    let mut descriptor = index["manifests"][0].clone();
    let mut manifest = blob(folder, &descriptor)?;
    // docker puts an index of its own between, for its attestations; the first entry is the image.
    if descriptor["mediaType"].as_str().is_some_and(|kind| kind.contains("index") || kind.contains("manifest.list")) {
        let inner: Value = parse(&manifest.bytes)?;
        descriptor = inner["manifests"][0].clone();
        manifest = blob(folder, &descriptor)?;
    }
    let content = parse(&manifest.bytes)?;
    let layers = content["layers"].as_array().cloned().unwrap_or_default();
    let blobs: Result<Vec<_>, _> = layers.iter().chain([&content["config"]]).map(|d| blob(folder, d)).collect();
    let media_type = descriptor["mediaType"].as_str().unwrap_or("application/vnd.oci.image.manifest.v1+json").to_owned();
    Ok(Image { blobs: blobs?, manifest, media_type })
}

fn blob(folder: &Path, descriptor: &Value) -> Result<Blob, Failure> {
    let digest = descriptor["digest"].as_str().unwrap_or_default();
    let path = folder.join("blobs").join(digest.replace(':', "/"));
    let bytes = std::fs::read(&path).map_err(|e| Failure::step(format!("{} cannot be read", path.display())).because(e))?;
    if digest_of(&bytes)?.as_str() != digest {
        return Err(Failure::step(format!("{} is not what its name says", path.display())));
    }
    Blob::new(bytes)
}

fn json(path: &Path) -> Result<Value, Failure> {
    let bytes = std::fs::read(path).map_err(|e| Failure::step(format!("{} cannot be read", path.display())).because(e))?;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(bytes).map_err(|e| Failure::step("the builder left a broken image layout").because(e))
}
