//! A PostgreSQL of the test's own: a throw-away folder, a Unix socket, no network unless asked for. Gone when dropped.
use std::{
    net::TcpListener,
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
    folder: std::sync::Arc<tempfile::TempDir>,
    port: u16,
}

impl Server {
    /// Starts one that is reached through its Unix socket only.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with settings.
    pub fn start_with(settings: &[&str]) -> Self {
        Self::listening("", 5432, settings)
    }

    /// Ends it in good order, lets somebody at its files, and starts it on them again.
    pub fn restarted(mut self, meanwhile: impl FnOnce(&Path)) -> Self {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a running server");
        self.child.wait().expect("wait");
        meanwhile(&self.folder.path().join("data"));
        Self {
            child: serve(self.folder.path(), "", self.port, &[]).spawn().expect("postgres"),
            folder: self.folder.clone(),
            port: self.port,
        }
    }

    /// Starts one on loopback too: Java's driver knows no Unix sockets.
    pub fn start_on_loopback() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        Self::listening("127.0.0.1", free.port(), &[])
    }

    /// As the `postgres` user where the test runs as root: PostgreSQL refuses root.
    fn listening(addresses: &str, port: u16, settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).expect("permissions");
        let data = folder.path().join("data");
        let made =
            program("initdb").args(["--no-sync", "--auth=trust", "--username=postgres", "-D"]).arg(&data).stdout(Stdio::null()).status();
        assert!(made.expect("initdb").success());
        let mut server = serve(folder.path(), addresses, port, settings);
        Self { child: server.spawn().expect("postgres"), folder: std::sync::Arc::new(folder), port }
    }

    /// Its address for Java, where it listens on loopback.
    pub fn url(&self) -> String {
        format!("jdbc:postgresql://127.0.0.1:{}/postgres", self.port)
    }

    /// The folder with its socket, and its port.
    pub fn place(&self) -> (&Path, u16) {
        (self.folder.path(), self.port)
    }

    /// A connection as the superuser.
    pub async fn connect(&self) -> Client {
        self.connect_as("postgres", "postgres").await
    }

    /// A connection as this role to this database.
    pub async fn connect_as(&self, user: &str, database: &str) -> Client {
        connect(self.folder.path(), self.port, user, database).await
    }
}

/// A connection to a server that may just be starting.
pub async fn connect(folder: &Path, port: u16, user: &str, database: &str) -> Client {
    let mut config = tokio_postgres::Config::new();
    config.host_path(folder).port(port).user(user).dbname(database);
    for _ in 0..100 {
        if let Ok((client, connection)) = config.connect(NoTls).await {
            tokio::spawn(connection);
            return client;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("no connection as {user} to {database} within 10 s");
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that was restarted has ended already.
        if self.child.try_wait().expect("wait").is_none() {
            self.child.kill().expect("kill");
            self.child.wait().expect("wait");
        }
    }
}

fn serve(folder: &Path, addresses: &str, port: u16, settings: &[&str]) -> Command {
    let mut server = program("postgres");
    server.arg("-D").arg(folder.join("data")).arg("-k").arg(folder).args(["-c", "fsync=off"]).stderr(Stdio::null());
    server.args(["-c", &format!("listen_addresses={addresses}"), "-p", &port.to_string()]);
    for setting in settings {
        server.args(["-c", setting]);
    }
    server
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
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, content).expect("a migration");
    }
}
