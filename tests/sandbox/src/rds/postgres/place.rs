//! Where a cluster's files are, and how a program is run beside them as the user `postgres`.
//!
//! The state folder may lie where `postgres` cannot go (below /root). So every program gets a mount namespace of its own, in which the
//! RDS folder appears at `/var/lib/postgresql`; nothing is mounted for anybody else, and nothing is left when the program ends.
use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

use super::super::ids::{Region, ResourceId};

/// PostgreSQL's programs, as Debian installs them.
pub const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// What /etc/passwd calls the user that servers run as.
const USER: &str = "postgres";
/// Where the RDS folder appears to the servers.
const INSIDE: &str = "/var/lib/postgresql";
/// Extensions that RDS lets `rds_superuser` create though PostgreSQL itself asks for a superuser.
pub const RDS_EXTENSIONS: [&str; 6] = ["amcheck", "dblink", "pg_buffercache", "pg_stat_statements", "pgstattuple", "postgres_fdw"];
const EXTENSIONS: &str = "/usr/share/postgresql/15/extension";

/// The RDS folder of a sandbox.
#[derive(Clone, Debug)]
pub struct Place {
    root: PathBuf,
    user: (u32, u32),
}

impl Place {
    /// Prepares the folder: the extensions' control files, and modes that let `postgres` through.
    pub fn open(root: &Path) -> Result<Self> {
        let place = Self { root: root.to_owned(), user: find_user(&fs::read_to_string("/etc/passwd")?)? };
        place.passable(root)?;
        let extensions = root.join("extension");
        place.passable(&extensions)?;
        for name in RDS_EXTENSIONS {
            let control = format!("{name}.control");
            let original = Path::new(EXTENSIONS).join(&control);
            let text = fs::read_to_string(&original).with_context(|| format!("reading {}", original.display()))?;
            // `trusted` lets a role without superuser create it; an event trigger then asks for rds_superuser, as RDS does.
            let path = extensions.join(&control);
            fs::write(&path, format!("{text}\ntrusted = true\n"))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        }
        Ok(place)
    }

    /// The data folder of an instance.
    pub fn data(&self, region: &Region, resource: &ResourceId) -> PathBuf {
        self.root.join(region.as_str()).join("clusters").join(resource.as_str()).join("data")
    }
    /// The folder of an automated backup: base backups and `wal`.
    pub fn backup(&self, region: &Region, resource: &ResourceId) -> PathBuf {
        self.root.join(region.as_str()).join("backup-data").join(resource.as_str())
    }
    /// The archived WAL of an automated backup.
    pub fn wal(&self, region: &Region, resource: &ResourceId) -> PathBuf {
        self.backup(region, resource).join("wal")
    }
    /// The data of a snapshot.
    pub fn snapshot(&self, region: &Region, name: &str) -> PathBuf {
        self.root.join(region.as_str()).join("snapshot-data").join(name)
    }
    /// The same path as the servers see it.
    pub fn inside(&self, path: &Path) -> Result<PathBuf> {
        Ok(Path::new(INSIDE).join(path.strip_prefix(&self.root).context("the path is outside of the RDS folder")?))
    }

    /// Makes a folder that `postgres` may pass through.
    fn passable(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// Makes a folder that belongs to `postgres`, and the ones above it passable.
    pub fn own_folder(&self, folder: &Path) -> Result<()> {
        let relative = folder.strip_prefix(&self.root).context("the folder is outside of the RDS folder")?;
        let mut path = self.root.clone();
        for part in relative {
            path.push(part);
            self.passable(&path)?;
        }
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        self.give(folder)
    }

    /// Gives a file or folder to `postgres`.
    pub fn give(&self, path: &Path) -> Result<()> {
        chown(path, Some(self.user.0), Some(self.user.1)).with_context(|| format!("giving {} to {USER}", path.display()))
    }

    /// The command line that runs one of PostgreSQL's programs as `postgres` beside the RDS folder.
    /// Every stage replaces itself by the next, so the process id is the program's own.
    pub fn command_line(&self, program: &str, args: impl IntoIterator<Item = OsString>) -> (PathBuf, Vec<OsString>) {
        const SCRIPT: &str = "root=$1; shift; \
             for control in \"$root\"/extension/*.control; do mount --bind \"$control\" \"$1/${control##*/}\"; done; shift; \
             mount --bind \"$root\" \"$1\"; cd \"$1\"; shift; umask 077; exec setpriv --reuid postgres --regid postgres --init-groups \"$@\"";
        let mut line: Vec<OsString> =
            ["--mount", "--propagation", "private", "--", "/bin/sh", "-ec", SCRIPT, "rds"].map(OsString::from).into();
        line.extend([self.root.clone().into_os_string(), EXTENSIONS.into(), INSIDE.into()]);
        line.push(Path::new(PROGRAMS).join(program).into());
        line.extend(args);
        (PathBuf::from("/usr/bin/unshare"), line)
    }

    /// Runs one of PostgreSQL's programs to its end.
    pub async fn run(&self, program: &str, args: &[&OsStr]) -> Result<()> {
        let (path, line) = self.command_line(program, args.iter().map(|arg| (*arg).to_owned()));
        let output = Command::new(path).args(line).kill_on_drop(true).output().await.with_context(|| format!("running {program}"))?;
        if output.status.success() {
            return Ok(());
        }
        bail!("{program} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
}

fn find_user(passwd: &str) -> Result<(u32, u32)> {
    let line =
        passwd.lines().find(|line| line.split(':').next() == Some(USER)).with_context(|| format!("no user {USER} on this machine"))?;
    let mut fields = line.split(':').skip(2).map(str::parse);
    match (fields.next(), fields.next()) {
        (Some(Ok(user)), Some(Ok(group))) => Ok((user, group)),
        _ => bail!("/etc/passwd has another form at {USER}"),
    }
}
