//! Ctrl-C and SIGTERM while AWS does not answer: deployctl ends at once, changes nothing, and says so.
use std::{
    net::TcpListener,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::project::Project;

fn interrupted_by(signal: &str, command: &str) {
    let project = Project::new();
    // Takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let child = Command::new(assert_cmd::cargo::cargo_bin!("deployctl"))
        .args([command, "-e", "sandbox", "--yes"])
        .current_dir(project.path())
        .env_clear()
        .env("HOME", project.path().join("home"))
        .env("AWS_ENDPOINT_URL", format!("http://{}", silent.local_addr().unwrap()))
        .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It has started to ask once somebody is connected.
    drop(silent.accept().unwrap());
    let sent = Instant::now();
    let pid = child.id().to_string();
    assert!(Command::new("/bin/kill").args([signal, pid.as_str()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let shown = project.shown(&output);
    assert_eq!(output.status.code(), Some(130), "{shown}");
    assert!(shown.contains("interrupted; nothing was changed"), "{shown}");
    assert!(sent.elapsed() < Duration::from_secs(5), "{:?}", sent.elapsed());
}

#[test]
fn ctrl_c_while_planning() {
    interrupted_by("-INT", "plan");
}

#[test]
fn sigterm_before_applying() {
    interrupted_by("-TERM", "apply");
}
