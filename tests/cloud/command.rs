//! The program itself in front of an AWS that says nothing: it says what it waits for, and Ctrl-C ends it.
use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

#[test]
fn a_silent_aws_is_named_and_left_at_once() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_deployctl"));
    command.args(["plan", "-e", "sandbox", "--project", env!("CARGO_MANIFEST_DIR")]);
    command.env("AWS_ENDPOINT_URL", format!("http://{}", silent.local_addr().unwrap()));
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test").env_remove("AWS_SESSION_TOKEN").env_remove("AWS_PROFILE");
    command.env("XDG_STATE_HOME", folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let began = Instant::now();
    let mut child = command.spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let waits = said.find(|line| line.starts_with("waiting for "));
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let (rest, status, took) = (said.collect::<Vec<_>>(), child.wait().unwrap(), began.elapsed());
    eprintln!("{waits:?}, then {rest:?}, {status}, {took:?}");
    assert!(waits.is_some_and(|line| line.starts_with("waiting for sts:GetCallerIdentity (10 s of at most 150 s")), "{rest:?}");
    assert!(status.code() == Some(130) && took < Duration::from_secs(20), "{status}, {took:?}: {rest:?}");
}
