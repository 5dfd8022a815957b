//! Debian packages: only missing ones, without recommendations, and with no service started by them.
use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use tokio::process::Command;

use super::cached::step;
use crate::{report, tool};

/// A package, and the program by which we see that nothing needs installing.
const PACKAGES: [(&str, &str); 14] = [
    ("containerd", "/usr/bin/containerd"),
    ("runc", "/usr/sbin/runc"),
    ("containernetworking-plugins", "/usr/lib/cni/bridge"),
    ("iptables", "/usr/sbin/iptables"),
    ("conntrack", "/usr/sbin/conntrack"),
    ("iproute2", "/usr/sbin/ip"),
    ("util-linux", "/usr/bin/nsenter"),
    ("postgresql-client-15", "/usr/lib/postgresql/15/bin/psql"),
    ("postgresql-15", "/usr/lib/postgresql/15/bin/postgres"),
    ("default-jre-headless", "java"),
    ("maven", "mvn"),
    ("gcc", "cc"),
    ("libc6-dev", "/usr/include/stdio.h"),
    // For tests/faults; no part of the sandbox starts it.
    ("strace", "strace"),
];
const POLICY: &str = "/usr/sbin/policy-rc.d";
const NO_CLUSTER: &str = "/etc/postgresql-common/createcluster.conf";

/// Installs what is missing; asks no registry when nothing is.
pub async fn install() -> Result<()> {
    let missing: Vec<&str> = PACKAGES.iter().filter(|(_, program)| !present(program)).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    report::line(format_args!("installing Debian packages: {}", missing.join(" ")));
    step("apt-get update", apt(&["update"])).await?;
    let _no_services =
        Replaced::with(Path::new(POLICY), b"#!/bin/sh\n# deployctl-sandbox: no service is started while it installs.\nexit 101\n", 0o755)?;
    let _no_cluster = if missing.contains(&"postgresql-15") {
        // Its common part owns the file that says whether a database cluster is made; that is wanted before the server comes.
        step("apt-get install postgresql-common", apt_install(&["postgresql-common"])).await?;
        Some(Replaced::with(Path::new(NO_CLUSTER), b"create_main_cluster = false\n", 0o644)?)
    } else {
        None
    };
    step("apt-get install", apt_install(&missing)).await?;
    Ok(())
}

fn present(program: &str) -> bool {
    if program.starts_with('/') { Path::new(program).exists() } else { tool::find(program).is_some() }
}

fn apt_install(packages: &[&str]) -> Command {
    apt(&[&["install", "--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"][..], packages].concat())
}

fn apt(args: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// A file of the machine that has other contents for a while; the old ones come back even when the installation fails.
struct Replaced {
    path: PathBuf,
    before: Option<(Vec<u8>, fs::Permissions)>,
}

impl Replaced {
    fn with(path: &Path, content: &[u8], mode: u32) -> Result<Self> {
        let before = match fs::read(path) {
            // Our own, left by an installation that was killed.
            Ok(old) if old == content => None,
            Ok(old) => Some((old, fs::metadata(path)?.permissions())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        fs::write(path, content).with_context(|| format!("writing {}", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        Ok(Self { path: path.to_owned(), before })
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        let done = match &self.before {
            Some((content, permissions)) => {
                fs::write(&self.path, content).and_then(|()| fs::set_permissions(&self.path, permissions.clone()))
            }
            None => fs::remove_file(&self.path),
        };
        if let Err(error) = done {
            report::line(format_args!("{} could not be put back as it was: {error}", self.path.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        fs::write(&old, "before").unwrap();
        {
            let _a = Replaced::with(&old, b"x", 0o755).unwrap();
            let _b = Replaced::with(&new, b"x", 0o755).unwrap();
            assert_eq!(fs::read(&old).unwrap(), b"x");
        }
        assert_eq!(fs::read(&old).unwrap(), b"before");
        assert!(!new.exists());
    }
}
