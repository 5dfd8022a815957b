//! Files that appear whole or not at all, for their owner only, and are there after a power cut: written beside their place, synced, named,
//! and the folder synced too, because a name is the folder's content.
use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
};

use tempfile::NamedTempFile;

/// A file that has its content and no name yet; made 0600. What fails from here on leaves nothing behind.
pub fn beside(path: &Path, content: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().append(true).tempfile_in(folder(path))?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Writes a file in the place of whatever has its name.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    beside(path, content)?.persist(path).map_err(|error| error.error)?;
    sync_name(path)
}

/// Writes a file only if none has its name: otherwise the error is [`io::ErrorKind::AlreadyExists`], and that one stays as it is. It can be
/// appended to.
pub fn create(path: &Path, content: &[u8]) -> io::Result<File> {
    let file = beside(path, content)?.persist_noclobber(path).map_err(|error| error.error)?;
    sync_name(path)?;
    Ok(file)
}

fn sync_name(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_name_leads_to_one_whole_content_that_others_cannot_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        create(&path, b"one").unwrap().write_all(b", two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one, two");
        assert_eq!(create(&path, b"other").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"one, two");
        write(&path, b"three").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"three");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }
}
