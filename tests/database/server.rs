//! A PostgreSQL of the test's own: a throw-away folder, a Unix socket, no network. Gone when dropped.
use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tokio_postgres::{Client, NoTls};

/// Debian's server programs; not on PATH.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// A running server.
pub struct Server {
    child: Child,
    folder: tempfile::TempDir,
}

impl Server {
    /// Starts one, as the `postgres` user where the test runs as root: PostgreSQL refuses root.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).expect("permissions");
        let data = folder.path().join("data");
        let made =
            program("initdb").args(["--no-sync", "--auth=trust", "--username=postgres", "-D"]).arg(&data).stdout(Stdio::null()).status();
        assert!(made.expect("initdb").success());
        let mut server = program("postgres");
        server.arg("-D").arg(&data).arg("-k").arg(folder.path()).args(["-c", "listen_addresses=", "-c", "fsync=off"]).stderr(Stdio::null());
        Self { child: server.spawn().expect("postgres"), folder }
    }

    /// A connection as the superuser.
    pub async fn connect(&self) -> Client {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.folder.path()).user("postgres").dbname("postgres");
        for _ in 0..100 {
            if let Ok((client, connection)) = config.connect(NoTls).await {
                tokio::spawn(connection);
                return client;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("the server did not start within 10 s");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
}

fn program(name: &str) -> Command {
    let mut command = Command::new(PathBuf::from(PROGRAMS).join(name));
    if rustix::process::geteuid().is_root() {
        let id = |flag: &str| {
            let out = Command::new("id").args([flag, "postgres"]).output().expect("id");
            String::from_utf8_lossy(&out.stdout).trim().parse().expect("the postgres user")
        };
        command.uid(id("-u")).gid(id("-g"));
    }
    command.current_dir("/").env_clear().env("LC_ALL", "C.UTF-8").env("PATH", "/usr/bin:/bin");
    command
}

/// A folder of migrations.
pub fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), files);
    folder
}

/// Adds files to it.
pub fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        std::fs::write(folder.join(name), content).expect("a migration");
    }
}
