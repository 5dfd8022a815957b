//! From a Rust package to an image in a registry, without Docker: a minimal root, reproducible layers, only missing blobs uploaded.
mod build;
mod elf;
mod layer;
mod layout;
mod registry;
mod source;
mod stage;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use build::{Builder, Order, Package, Profile, Source, assemble, build};
pub use registry::{Pushed, Registry};
pub use source::source_hash;

use crate::{
    failure::{Failure, FailureKind},
    ids::ImageDigest,
};

/// The user that every container runs as; the same number as distroless' `nonroot`.
pub const USER: u32 = 65532;

/// A piece of an image, by its digest.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Of the bytes as they are sent.
    pub digest: ImageDigest,
    /// The bytes.
    pub bytes: Bytes,
}

impl Blob {
    /// Takes bytes and names them.
    pub fn new(bytes: Vec<u8>) -> Result<Self, Failure> {
        Ok(Self { digest: digest_of(&bytes)?, bytes: Bytes::from(bytes) })
    }
}

/// An image that is ready to be pushed.
#[derive(Clone, Debug)]
pub struct Image {
    /// Layers and configuration.
    pub blobs: Vec<Blob>,
    /// The manifest; its digest is the image's.
    pub manifest: Blob,
    /// The manifest's media type.
    pub media_type: String,
}

/// How much of an image had to be uploaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uploaded {
    /// Blobs that were missing.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// `sha256:` and the hash.
pub fn digest_of(bytes: &[u8]) -> Result<ImageDigest, Failure> {
    let text = format!("sha256:{}", hex::encode(Sha256::digest(bytes)));
    ImageDigest::parse(text).map_err(|e| Failure::new(FailureKind::Internal, "a digest").because(e))
}
