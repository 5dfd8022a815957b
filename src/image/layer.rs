//! Layers that come out the same, byte for byte, from the same files: sorted, without times, owners or names of users.
use std::{collections::BTreeMap, io::Write, path::PathBuf};

use flate2::{Compression, GzBuilder};
use sha2::{Digest, Sha256};

use super::Blob;
use crate::failure::Failure;

/// One entry of a layer.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A folder with its mode.
    Folder(u32),
    /// A file with its mode.
    File(u32, Vec<u8>),
}

/// A layer that is being put together; paths without a leading slash.
#[derive(Clone, Debug, Default)]
pub struct Layer(BTreeMap<PathBuf, Entry>);

/// A packed layer: what is sent, and the digest of what is inside, which the configuration lists.
pub struct Packed {
    /// Compressed.
    pub blob: Blob,
    /// Of the tar before compression.
    pub diff_id: String,
}

impl Layer {
    /// Adds a folder.
    pub fn folder(&mut self, path: &str, mode: u32) {
        self.insert(path.trim_start_matches('/'), Entry::Folder(mode));
    }
    /// Adds a file, and the folders above it.
    pub fn file(&mut self, path: &str, mode: u32, bytes: Vec<u8>) {
        self.insert(path.trim_start_matches('/'), Entry::File(mode, bytes));
    }
    fn insert(&mut self, path: &str, entry: Entry) {
        let path = PathBuf::from(path);
        for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            self.0.entry(above.to_owned()).or_insert(Entry::Folder(0o755));
        }
        self.0.insert(path, entry);
    }

    /// Packs it.
    pub fn pack(&self) -> Result<Packed, Failure> {
        let broken = |e: std::io::Error| Failure::step("a layer cannot be packed").because(e);
        let mut archive = tar::Builder::new(Vec::new());
        for (path, entry) in &self.0 {
            let mut header = tar::Header::new_ustar();
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            let (kind, mode, bytes): (_, _, &[u8]) = match entry {
                Entry::Folder(mode) => (tar::EntryType::Directory, *mode, &[]),
                Entry::File(mode, bytes) => (tar::EntryType::Regular, *mode, bytes),
            };
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, path, bytes).map_err(broken)?;
        }
        let tar = archive.into_inner().map_err(broken)?;
        let diff_id = format!("sha256:{}", hex::encode(Sha256::digest(&tar)));
        // The header of gzip holds a time and a name unless told otherwise.
        let mut gzip = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::new(6));
        gzip.write_all(&tar).map_err(broken)?;
        Ok(Packed { blob: Blob::new(gzip.finish().map_err(broken)?)?, diff_id })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn order_and_time_do_not_matter() {
        let mut one = Layer::default();
        one.file("/usr/bin/a", 0o755, b"a".to_vec());
        one.folder("/tmp", 0o1777);
        let mut two = Layer::default();
        two.folder("/tmp", 0o1777);
        two.file("usr/bin/a", 0o755, b"a".to_vec());
        assert_eq!(one.pack().unwrap().blob.digest, two.pack().unwrap().blob.digest);
        two.file("usr/bin/a", 0o755, b"b".to_vec());
        assert_ne!(one.pack().unwrap().blob.digest, two.pack().unwrap().blob.digest);
    }

    #[test]
    fn entries_carry_no_owner_and_no_time() {
        let mut layer = Layer::default();
        layer.file("/etc/passwd", 0o644, b"x".to_vec());
        let packed = layer.pack().unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed.blob.bytes.as_ref()));
        let headers: Vec<_> = archive.entries().unwrap().map(|e| e.unwrap().header().clone()).collect();
        assert_eq!(headers.len(), 2, "the folder above the file is there too");
        assert!(headers.iter().all(|h| h.mtime().unwrap() == 0 && h.uid().unwrap() == 0 && h.gid().unwrap() == 0));
    }
}
