//! A PostgreSQL of the test's own, on loopback with TLS and passwords, as RDS asks for them.
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use deployctl::database::connect::Target;

/// Debian's server programs; not on PATH.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
pub const PASSWORD: &str = "a password of the test";

pub struct Postgres {
    server: Option<Child>,
    folder: tempfile::TempDir,
    pub port: u16,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.signal(rustix::process::Signal::INT);
        self.wait();
    }
}

/// As the `postgres` user where the test runs as root: PostgreSQL refuses root.
fn as_postgres(program: impl Into<PathBuf>, folder: &Path) -> Command {
    let mut command = Command::new(program.into());
    if rustix::process::geteuid().is_root() {
        let id = |flag: &str| {
            let out = Command::new("id").args([flag, "postgres"]).output().unwrap();
            String::from_utf8_lossy(&out.stdout).trim().parse().unwrap()
        };
        command.uid(id("-u")).gid(id("-g"));
    }
    command.current_dir(folder).env_clear().env("LC_ALL", "C.UTF-8").env("PATH", "/usr/bin:/bin").stdout(Stdio::null());
    command
}

impl Postgres {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
        let openssl =
            |args: &str| assert!(as_postgres("openssl", path).args(args.split(' ')).stderr(Stdio::null()).status().unwrap().success());
        openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=test-ca");
        openssl("req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=postgres");
        std::fs::write(path.join("ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
        openssl("x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.crt");
        openssl("req -x509 -newkey rsa:2048 -nodes -keyout stranger.key -out stranger.crt -days 2 -subj /CN=stranger");
        std::fs::write(path.join("password"), PASSWORD).unwrap();
        let initdb = Path::new(PROGRAMS).join("initdb");
        let mut initdb = as_postgres(initdb, path);
        initdb.args(["--no-sync", "--auth=scram-sha-256", "--username=postgres", "--pwfile=password", "-D", "data"]);
        assert!(initdb.status().unwrap().success());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut postgres = Self { server: None, folder, port };
        postgres.run().await;
        postgres
    }

    /// Starts the server again after [`Postgres::wait`].
    pub async fn run(&mut self) {
        let path = self.folder.path();
        let mut server = as_postgres(Path::new(PROGRAMS).join("postgres"), path);
        server.args(["-D", "data", "-k", ".", "-p", &self.port.to_string(), "-c", "fsync=off", "-c", "listen_addresses=127.0.0.1"]);
        server.args(["-c", "ssl=on", "-c", "ssl_cert_file=../server.crt", "-c", "ssl_key_file=../server.key"]);
        self.server = Some(server.stderr(std::fs::File::create(path.join("log")).unwrap()).spawn().unwrap());
        let began = std::time::Instant::now();
        while self.client("postgres").await.is_err() {
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(60), "PostgreSQL does not start: {}", log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
    pub fn authorities(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }
    /// Somebody who vouches for other servers.
    pub fn stranger(&self) -> PathBuf {
        self.folder.path().join("stranger.crt")
    }
    /// As this role, through whatever listens there.
    pub fn target(&self, user: &str, port: u16) -> Target {
        let (host, database) = ("127.0.0.1".to_owned(), "postgres".to_owned());
        Target { host, port, database, user: user.to_owned(), password: PASSWORD.to_owned().into() }
    }
    /// Past every proxy.
    pub async fn client(&self, user: &str) -> Result<tokio_postgres::Client, deployctl::database::connect::ConnectError> {
        deployctl::database::connect::connect(&self.target(user, self.port), &self.authorities(), Duration::from_secs(5)).await
    }
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = self.server.as_ref().and_then(|server| rustix::process::Pid::from_raw(server.id().cast_signed()));
        if let Some(pid) = pid {
            rustix::process::kill_process(pid, signal).unwrap();
        }
    }
    /// Until it has ended.
    pub fn wait(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.wait().unwrap();
        }
    }
}
