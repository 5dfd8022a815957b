//! A packed chart: a compressed tar with everything below one folder. Taken apart with nothing outside that folder and no links.
use std::{
    io::Read,
    path::{Component, Path, PathBuf},
};

use super::{emptied, write};
use crate::failure::Failure;

/// Packed charts have some hundred kibibytes; in bytes.
pub(super) const LARGEST: usize = 32 * 1024 * 1024;
/// More than any chart unpacks to; less than a machine has.
const MOST: u64 = 256 * 1024 * 1024;

/// Unpacks it; returns the chart's own folder inside `into`.
pub(super) fn unpack(packed: &[u8], into: &Path) -> Result<PathBuf, Failure> {
    emptied(into)?;
    let broken = |what: &str| Failure::step(format!("a packed chart {what}"));
    let unreadable = |e: std::io::Error| broken("cannot be read").because(e);
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed).take(MOST));
    let mut root = None;
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() || kind.is_dir() {
            continue;
        }
        let path = entry.path().map_err(unreadable)?.into_owned();
        let names: Option<Vec<_>> = path
            .components()
            .filter(|part| *part != Component::CurDir)
            .map(|part| match part {
                Component::Normal(name) => Some(name.to_owned()),
                _ => None,
            })
            .collect();
        let Some(names) = names.filter(|names| names.len() > 1 && kind.is_file()) else {
            return Err(broken(&format!("holds {}, which is no file below the chart's folder", path.display())));
        };
        if *root.get_or_insert_with(|| names[0].clone()) != names[0] {
            return Err(broken("holds two folders"));
        }
        let target = into.join(names.iter().collect::<PathBuf>());
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(unreadable)?;
        write(&target, &content)?;
    }
    root.map(|root| into.join(root)).ok_or_else(|| broken("is empty"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::io::Write;

    use super::*;

    fn packed(entries: &[(&str, tar::EntryType)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, kind) in entries {
            let mut header = tar::Header::new_ustar();
            // Written past `set_path`, which refuses the very names that are tried here.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(1);
            header.set_mode(0o644);
            header.set_cksum();
            archive.append(&header, "x".as_bytes()).unwrap();
        }
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&archive.into_inner().unwrap()).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn what_would_leave_its_folder_is_refused() {
        let into = tempfile::tempdir().unwrap();
        let at = into.path().join("chart");
        let file = tar::EntryType::Regular;
        let good = unpack(&packed(&[("a/Chart.yaml", file), ("a/templates/b.yaml", file)]), &at).unwrap();
        assert_eq!(std::fs::read_to_string(good.join("templates/b.yaml")).unwrap(), "x");
        for bad in [
            vec![("a/../../outside", file)],
            vec![("/outside", file)],
            vec![("Chart.yaml", file)],
            vec![("a/link", tar::EntryType::Symlink)],
            vec![("a/Chart.yaml", file), ("b/Chart.yaml", file)],
            vec![],
        ] {
            unpack(&packed(&bad), &at).unwrap_err();
        }
        assert_eq!(std::fs::read_dir(into.path()).unwrap().count(), 1, "nothing was written beside the folder");
    }
}
