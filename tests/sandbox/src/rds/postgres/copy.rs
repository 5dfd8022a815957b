//! Copies data folders: of running servers in backup mode, of stopped ones, of snapshots; and waits for archived WAL.
use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tokio::time::sleep;
use tokio_postgres::Client;

use super::place::Place;

/// Contents that belong to the running server only; the folders themselves are needed.
const EMPTIED: [&str; 8] = ["pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"];
/// Files that are made anew for every server.
const LEFT_OUT: [&str; 6] = ["postmaster.pid", "postmaster.opts", "server.key", "server.crt", "recovery.signal", "backup_label"];

/// Which parts of a data folder are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Of a running server: without WAL, which is taken from the archive.
    Running,
    /// Of a server that was shut down, or of a copy: all of it.
    AtRest,
}

/// Copies a data folder and says, in percent, how far it is. Returns the bytes copied.
pub async fn copy_data(
    place: &Place,
    from: PathBuf,
    to: PathBuf,
    scope: Scope,
    progress: impl Fn(u8) -> Result<()> + Send + 'static,
) -> Result<u64> {
    let place = place.clone();
    tokio::task::spawn_blocking(move || {
        if to.exists() {
            fs::remove_dir_all(&to).with_context(|| format!("removing the rest of an earlier copy in {}", to.display()))?;
        }
        let mut files = Vec::new();
        let mut folders = Vec::new();
        collect(&from, Path::new(""), scope, &mut folders, &mut files)?;
        place.own_folder(&to)?;
        for folder in &folders {
            let path = to.join(folder);
            fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
            place.give(&path)?;
        }
        let total: u64 = files.iter().map(|(_, size)| size).sum();
        let (mut done, mut told) = (0, 0);
        for (file, size) in &files {
            copy_file(&place, &from.join(file), &to.join(file))?;
            done += size;
            let percent = u8::try_from(done * 100 / total.max(1)).unwrap_or(100);
            if percent >= told + 10 {
                told = percent;
                progress(percent)?;
            }
        }
        Ok(done)
    })
    .await?
}

/// Copies one file for `postgres`; one that vanished meanwhile (a dropped table) is skipped: WAL replay knows that it is gone.
fn copy_file(place: &Place, from: &Path, to: &Path) -> Result<()> {
    match fs::copy(from, to) {
        Ok(_) => {
            fs::set_permissions(to, fs::Permissions::from_mode(0o600))?;
            place.give(to)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && !from.exists() => Ok(()),
        Err(error) => Err(error).with_context(|| format!("copying {} to {}", from.display(), to.display())),
    }
}

fn collect(root: &Path, below: &Path, scope: Scope, folders: &mut Vec<PathBuf>, files: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    let entries = match fs::read_dir(root.join(below)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound && below != Path::new("") => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", root.join(below).display())),
    };
    for entry in entries {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let name = entry.file_name().to_string_lossy().into_owned();
        let about = match entry.metadata() {
            Ok(about) => about,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        if about.is_dir() {
            folders.push(path.clone());
            if scope == Scope::Running && below == Path::new("") && EMPTIED.contains(&name.as_str()) {
                if name == "pg_wal" {
                    folders.push(path.join("archive_status"));
                }
                continue;
            }
            collect(root, &path, scope, folders, files)?;
        } else if !skipped(below, &name, scope) {
            files.push((path, about.len()));
        }
    }
    Ok(())
}

fn skipped(below: &Path, name: &str, scope: Scope) -> bool {
    let temporary = name.starts_with("pgsql_tmp") || name == "pg_internal.init";
    let own = below == Path::new("") && LEFT_OUT.contains(&name) && (scope == Scope::Running || name != "backup_label");
    temporary || own
}

/// Copies the folder of a running server as a base backup. Returns the bytes copied and the first and last WAL segment it needs.
pub async fn copy_running(
    place: &Place,
    client: &Client,
    data: PathBuf,
    to: PathBuf,
    progress: impl Fn(u8) -> Result<()> + Send + 'static,
) -> Result<(u64, String)> {
    // Backup mode lasts as long as this session; a failure in between ends it with the session's next start.
    client.execute("SELECT pg_backup_start('rds', true)", &[]).await.context("entering backup mode")?;
    let bytes = copy_data(place, data, to.clone(), Scope::Running, progress).await;
    // Waiting for the archiver is done here, with a deadline, not inside the server without one.
    let row = client.query_one("SELECT labelfile, spcmapfile, pg_walfile_name(lsn) FROM pg_backup_stop(false)", &[]).await?;
    let bytes = bytes?;
    let label: String = row.get(0);
    for (name, text) in [("backup_label", label.as_str()), ("tablespace_map", row.get(1))] {
        if !text.is_empty() {
            let path = to.join(name);
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            place.give(&path)?;
        }
    }
    client.execute("SELECT pg_switch_wal()", &[]).await?;
    Ok((bytes, row.get(2)))
}

/// Waits until a WAL segment is in the archive.
pub async fn wait_until_archived(wal: &Path, segment: &str, deadline: Duration) -> Result<()> {
    let end = Instant::now() + deadline;
    let path = wal.join(segment);
    while !path.exists() {
        if Instant::now() >= end {
            bail!("the WAL segment {segment} was not archived within {deadline:?}");
        }
        sleep(Duration::from_millis(25)).await;
    }
    Ok(())
}

/// Puts the WAL that a base backup needs beside it, so that it stands on its own.
pub async fn add_wal(place: &Place, wal: PathBuf, to: PathBuf, last: String) -> Result<()> {
    let place = place.clone();
    tokio::task::spawn_blocking(move || {
        let label = fs::read_to_string(to.join("backup_label")).context("reading backup_label")?;
        let first = first_segment(&label).context("backup_label names no first segment")?;
        for entry in fs::read_dir(&wal)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let needed = name.len() == 24 && name.as_str() >= first && name <= last || name.ends_with(".history");
            if needed {
                copy_file(&place, &wal.join(&name), &to.join("pg_wal").join(&name))?;
            }
        }
        Ok(())
    })
    .await?
}

/// `START WAL LOCATION: 0/2000028 (file 000000010000000000000002)`.
fn first_segment(label: &str) -> Option<&str> {
    label.lines().next()?.split_once("(file ")?.1.strip_suffix(')')
}

/// Copies what an archive has and its copy has not, whole segments only. Returns how many.
pub async fn ship_wal(place: &Place, from: PathBuf, to: PathBuf) -> Result<usize> {
    let place = place.clone();
    tokio::task::spawn_blocking(move || {
        place.own_folder(&to)?;
        let mut shipped = 0;
        for entry in fs::read_dir(&from).with_context(|| format!("reading {}", from.display()))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let target = to.join(&name);
            if name.ends_with(".part") || target.exists() {
                continue;
            }
            let part = to.join(format!("{name}.part"));
            copy_file(&place, &from.join(&name), &part)?;
            fs::rename(&part, &target)?;
            shipped += 1;
        }
        Ok(shipped)
    })
    .await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_segment_is_read_from_the_label() {
        let label = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000060\n";
        assert_eq!(first_segment(label), Some("000000010000000000000002"));
    }

    #[test]
    fn what_belongs_to_one_running_server_is_not_copied() {
        assert!(skipped(Path::new(""), "postmaster.pid", Scope::AtRest));
        assert!(skipped(Path::new(""), "backup_label", Scope::Running));
        assert!(!skipped(Path::new(""), "backup_label", Scope::AtRest));
        assert!(skipped(Path::new("base/pgsql_tmp"), "pgsql_tmp1.0", Scope::Running));
        assert!(!skipped(Path::new("base/1"), "postmaster.pid", Scope::Running));
    }
}
