//! A PostgreSQL of the test's own, set up as RDS and `deployctl`'s bootstrap set it up: TLS only, the parser's own role and tables.
use std::{
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tokio_postgres::{Client, NoTls};

use crate::project;

/// Debian's server programs; not on PATH.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// Where it listens.
pub const ADDRESS: &str = "127.0.0.1:5432";

/// A running server, ended when dropped.
pub struct Postgres {
    child: Child,
    folder: PathBuf,
}

impl Postgres {
    /// Makes a server with an authority (`ca.pem`) in `folder`, and the parser's schema in it.
    pub async fn start(folder: &Path, password: &str) -> Self {
        std::fs::create_dir(folder).unwrap();
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        let data = folder.join("data");
        let mut initdb = program("initdb");
        initdb.args(["--no-sync", "--auth-local=trust", "--auth-host=scram-sha-256", "--username=postgres", "-D"]).arg(&data);
        assert!(initdb.stdout(Stdio::null()).status().unwrap().success());
        certificate(folder);
        std::fs::write(data.join("pg_hba.conf"), "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n").unwrap();
        let server = Self { child: launch(folder), folder: folder.to_owned() };
        let client = server.connect().await;
        let roles = format!("CREATE ROLE parser_migrate; CREATE ROLE parser_run LOGIN PASSWORD '{password}'");
        client.batch_execute(&roles).await.unwrap();
        let mut migrations: Vec<_> =
            std::fs::read_dir(project().join("services/parser/migrations")).unwrap().map(|entry| entry.unwrap().path()).collect();
        migrations.sort();
        for migration in migrations {
            client.batch_execute(&std::fs::read_to_string(migration).unwrap()).await.unwrap();
        }
        server
    }

    /// kill -9, its children too, and a new start on the same data.
    pub async fn kill_and_start_again(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // Its children end when they miss it; a new server refuses to start before that.
        self.child = launch(&self.folder);
        drop(self.connect().await);
    }

    /// A connection as the superuser.
    pub async fn connect(&self) -> Client {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.folder).user("postgres").dbname("postgres");
        for _ in 0..200 {
            if let Ok((client, connection)) = config.connect(NoTls).await {
                tokio::spawn(connection);
                return client;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("PostgreSQL did not start within 20 s:\n{}", std::fs::read_to_string(self.folder.join("log")).unwrap_or_default());
    }

    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn launch(folder: &Path) -> Child {
    // A server that was killed has left this behind, and its number may be somebody else's now.
    let left = folder.join("data/postmaster.pid");
    for _ in 0..100 {
        let mut looked = Command::new("pgrep");
        if !looked.args(["-f", "postgres: "]).stdout(Stdio::null()).status().unwrap().success() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    if left.exists() {
        std::fs::remove_file(left).unwrap();
    }
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let mut server = program("postgres");
    server.arg("-D").arg(folder.join("data")).arg("-k").arg(folder).stderr(log);
    for setting in ["listen_addresses=127.0.0.1", "fsync=off", "ssl=on", "ssl_cert_file=../server.pem", "ssl_key_file=../server.key"] {
        server.args(["-c", setting]);
    }
    server.spawn().unwrap()
}

/// An authority and a server's certificate for `localhost`, by the program that `make test` needs anyway.
fn certificate(folder: &Path) {
    let openssl = |args: &str| {
        let mut command = Command::new("openssl");
        let done = command.args(args.split(' ')).current_dir(folder).output().unwrap();
        assert!(done.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=test-authority -days 2"));
    openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"));
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    openssl("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out server.pem -days 2");
    let (user, group) = owner();
    std::os::unix::fs::chown(folder.join("server.key"), Some(user), Some(group)).unwrap();
    std::fs::set_permissions(folder.join("server.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn owner() -> (u32, u32) {
    let id = |flag: &str| {
        let out = Command::new("id").args([flag, "postgres"]).output().unwrap();
        String::from_utf8_lossy(&out.stdout).trim().parse().expect("the postgres user")
    };
    (id("-u"), id("-g"))
}

/// As the `postgres` user: PostgreSQL refuses root.
fn program(name: &str) -> Command {
    let mut command = Command::new(PathBuf::from(PROGRAMS).join(name));
    let (user, group) = owner();
    command.uid(user).gid(group);
    command.current_dir("/").env_clear().env("LC_ALL", "C.UTF-8").env("PATH", "/usr/bin:/bin");
    command
}
