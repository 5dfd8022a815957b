//! Starts ministack for one test and runs the test again as a child process that has it in its environment.
#![allow(dead_code, reason = "each test program uses one of the two")]
use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::installed;

const INSIDE: &str = "DEPLOYCTL_TEST_INSIDE";

/// The sandbox's emulator; dies with this value.
struct Emulator {
    child: Child,
    port: u16,
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn start(python: PathBuf, dir: &std::path::Path) -> Emulator {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let log = std::fs::File::create(dir.join("ministack.log")).unwrap();
    let child = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sandbox/emulator/launch.py"))
        // Its scripts are read in the checkout, where nothing may be left.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("STATE_DIR", dir.join("state"))
        .env("BIND_HOST", "127.0.0.1")
        .env("GATEWAY_PORT", port.to_string())
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let emulator = Emulator { child, port };
    let started = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(started.elapsed() < Duration::from_secs(60), "waited 60 s for ministack to listen: {}", dir.display());
        std::thread::sleep(Duration::from_millis(50));
    }
    emulator
}

/// Runs `body` in a child of its own whose environment leads to a fresh ministack; says why when it cannot.
pub fn with_aws<F: Future<Output = ()>>(test: &str, body: impl FnOnce() -> F) {
    inside(test, Way::Straight, |_| body());
}

/// As [`with_aws`], with an environment that leads to a free port, where `body` puts a proxy in front of the emulator that it is given.
pub fn with_proxied_aws<F: Future<Output = ()>>(test: &str, body: impl FnOnce(String) -> F) {
    inside(test, Way::ThroughAProxy, body);
}

/// The installed programs, and the helm that deployctl has built.
fn path() -> std::ffi::OsString {
    let helm = installed::cache().join("helm").join(deployctl::tools::helm::VERSION);
    let before = installed::path();
    std::env::join_paths(std::env::split_paths(&before).chain([helm])).unwrap()
}

enum Way {
    Straight,
    ThroughAProxy,
}

fn inside<F: Future<Output = ()>>(test: &str, way: Way, body: impl FnOnce(String) -> F) {
    if let Ok(emulator) = std::env::var(INSIDE) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(body(emulator));
        return;
    }
    let Some(python) = installed::ministack() else { return };
    let dir = tempfile::tempdir().unwrap();
    let emulator = start(python, dir.path());
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let endpoint = match way {
        Way::Straight => url(emulator.port),
        Way::ThroughAProxy => url(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()),
    };
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env(INSIDE, url(emulator.port))
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("PATH", path())
        .env("XDG_CACHE_HOME", dir.path().join("cache"))
        .env("DEPLOYCTL_TEST_CACHE", installed::cache())
        .env("XDG_STATE_HOME", dir.path().join("state-home"))
        .env("DEPLOYCTL_TEST_DIR", dir.path())
        .env_remove("AWS_PROFILE")
        .env_remove("AWS_SESSION_TOKEN")
        .status()
        .unwrap();
    if !status.success() {
        let log = std::fs::read_to_string(dir.path().join("ministack.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(25).collect();
        eprintln!("ministack's last words, newest first:\n{}", lines.join("\n"));
        for folder in std::fs::read_dir(dir.path().join("scratch")).into_iter().flatten().flatten() {
            let log = std::fs::read_to_string(folder.path().join("terraform.log")).unwrap_or_default();
            eprintln!("{}: terraform said:\n{log}", folder.path().display());
        }
    }
    assert!(status.success(), "{test} failed inside");
}
