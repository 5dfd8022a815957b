//! The real Flyway, fetched from Maven Central once for every checkout, to hold our migrator against.
use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    sync::LazyLock,
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use crate::{installed, server::Server};

const POM: &str = include_str!("flyway/pom.xml");
/// Compiled by `java` itself whenever it runs: a JRE of Debian's is enough.
const TURN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/database/flyway/Turn.java");
/// Flyway waits for locks without end.
const DEADLINE: Duration = Duration::from_secs(120);

/// Once a process: the tests of one process run side by side.
static JARS: LazyLock<PathBuf> = LazyLock::new(jars);

/// Runs `migrate`, which says how many files ran, or `validate`, which lists every file with its state. An error is Flyway's refusal.
pub async fn flyway(command: &str, server: &Server, folder: &Path) -> Result<Vec<String>, String> {
    let mut java = Command::new("java");
    java.arg("-cp").arg(JARS.join("*")).args([OsStr::new(TURN), OsStr::new(command), OsStr::new(&server.url())]).arg(folder);
    java.stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(DEADLINE, java.output()).await.expect("Flyway ends within two minutes");
    let ended = ended.expect("`java` runs; `deployctl-sandbox install` brings it");
    if ended.status.success() {
        Ok(String::from_utf8_lossy(&ended.stdout).lines().map(str::to_owned).collect())
    } else {
        Err(String::from_utf8_lossy(&ended.stderr).into_owned())
    }
}

/// The folder with the jars, named by what they were asked for with; whole or not there.
fn jars() -> PathBuf {
    let parent = installed::cache().join("flyway");
    fs::create_dir_all(&parent).expect("a folder in the cache");
    let lock = File::create(parent.join(".lock")).expect("a lock file");
    lock.lock().expect("the lock");
    let target = parent.join(hex::encode(&Sha256::digest(POM)[..8]));
    if !target.exists() {
        let (source, made) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir_in(&parent).expect("a folder"));
        fs::write(source.path().join("pom.xml"), POM).expect("pom.xml");
        let mut maven = std::process::Command::new("mvn");
        maven.current_dir(source.path()).args(["--batch-mode", "--quiet", "dependency:copy-dependencies", "-DincludeScope=runtime"]);
        maven.arg(format!("-DoutputDirectory={}", made.path().display()));
        let ended = maven.output().expect("`mvn` runs; `deployctl-sandbox install` brings it");
        assert!(ended.status.success(), "fetching Flyway:\n{}", String::from_utf8_lossy(&ended.stdout));
        fs::rename(made.keep(), &target).expect("moving the jars into place");
    }
    target
}
