//! Both services while everything around them breaks: parsers killed at random, their database, broker and queue gone for a while, files made
//! to hurt, and attacks on the uploader's signed URLs. Real programs in a sandbox of the test's own; needs root. `make soak` does all of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test may panic and says what it saw")]
mod attacks;
mod bad_files;
mod endings;
mod files;
#[path = "../installed/mod.rs"]
mod installed;
mod kills;
mod ledger;
mod outages;
mod place;
mod postgres;
mod processes;
mod replays;
mod secrets;
mod wire;

use std::{
    path::PathBuf,
    process::{Command, Output},
    time::Instant,
};

use place::Place;

/// The checkout.
pub fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Everything, or a sample that fits into `make test`.
pub fn soak() -> bool {
    std::env::var_os("DEPLOYCTL_SOAK").is_some()
}

/// `deployctl-sandbox --name … ARGS`.
fn sandbox(name: &str, args: &[&str]) -> Output {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_deployctl")).with_file_name("deployctl-sandbox");
    let output = Command::new(program).args(["--name", name]).args(args).output().unwrap();
    assert!(output.status.success() || args == ["down"], "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

struct Down(String);

impl Drop for Down {
    fn drop(&mut self) {
        let down = sandbox(&self.0, &["down"]);
        // A second panic would hide the first.
        assert!(down.status.success() || std::thread::panicking(), "{}", String::from_utf8_lossy(&down.stderr));
    }
}

/// Brings a sandbox up and runs `inside` in its network, with mounts and processes of its own: whatever that leaves behind ends with it.
#[test]
fn nothing_is_lost() {
    let name = format!("services-{}", std::process::id());
    let started = Instant::now();
    let _down = Down(name.clone());
    sandbox(&name, &["up"]);
    eprintln!("sandbox up: {:.1} s", started.elapsed().as_secs_f32());
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let key: serde_json::Value = serde_json::from_slice(&sandbox(&name, &["kafka-credentials"]).stdout).unwrap();
    std::fs::create_dir(folder.join("kafka")).unwrap();
    for name in ["api_key", "api_secret"] {
        std::fs::write(folder.join("kafka").join(name), key[name].as_str().unwrap()).unwrap();
    }
    std::fs::write(folder.join("hosts"), format!("127.0.0.1 localhost\n{} kafka.deployctl.internal\n", place::KAFKA.ip())).unwrap();
    let mut inside = Command::new("nsenter");
    inside.arg(format!("--net=/run/netns/deployctl-{name}")).args(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    inside.args(["sh", "-c", "mount --bind \"$0/hosts\" /etc/hosts && exec \"$@\""]).arg(folder).arg(std::env::current_exe().unwrap());
    inside.args(["--exact", "inside", "--ignored", "--nocapture"]).env("DEPLOYCTL_SERVICES_HOME", folder);
    let exports = String::from_utf8(sandbox(&name, &["env"]).stdout).unwrap();
    for line in exports.lines() {
        let (name, value) = line.trim_start_matches("export ").split_once('=').unwrap();
        if name.starts_with("AWS_") {
            inside.env(name, value.trim_matches('\''));
        }
    }
    assert!(inside.status().unwrap().success(), "see above");
}

/// Parts may be named in DEPLOYCTL_SERVICES_PARTS, for whoever works on one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other test runs it inside its sandbox"]
async fn inside() {
    let only = std::env::var("DEPLOYCTL_SERVICES_PARTS").unwrap_or_default();
    let wanted = |part: &str| only.is_empty() || only.split(',').any(|wanted| wanted == part);
    let mut timed = Instant::now();
    let mut place = Place::prepare().await;
    let mut done = |part: &str| {
        eprintln!("== {part}: {:.1} s", timed.elapsed().as_secs_f32());
        timed = Instant::now();
    };
    done("prepared");
    if wanted("attacks") {
        attacks::are_refused(&place).await;
        done("attacks");
    }
    if wanted("endings") {
        endings::lose_nothing(&mut place).await;
        done("endings");
    }
    if wanted("secrets") {
        secrets::are_read_again(&mut place).await;
        done("secrets");
    }
    if wanted("bad-files") {
        bad_files::hurt_nobody(&mut place).await;
        done("bad files");
    }
    if wanted("replays") {
        replays::bring_back(&mut place).await;
        done("replays");
    }
    if wanted("outages") {
        outages::are_outlived(&mut place).await;
        done("outages");
    }
    if wanted("kills") {
        kills::lose_nothing(&mut place).await;
        done("kills");
    }
}
