//! What a secret may not reach even when nobody thinks of it: a child's environment, and the message of a panic.
#![allow(clippy::print_stdout, reason = "a process that is asked what it sees")]
use std::{
    process::{Command, Output},
    time::Duration,
};

use deployctl::{redact, tools::process::Program, ui};

/// With characters that each encoding writes in its own way.
const CANARY: &str = "c4n4ry+/=\"ü\\'%&-0123456789";

/// Runs one of the ignored tests below as a process of its own.
fn alone(test: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]).env("RUST_BACKTRACE", "full").env("RUST_LOG", "trace");
    command.envs(variables.iter().copied()).output().unwrap()
}

#[test]
#[ignore = "run by the next test"]
fn a_parent_of_env() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let given = [("AWS_SESSION_TOKEN".into(), "given on purpose".into())];
    let env = Program::new("env", "coreutils", Duration::from_secs(10)).env(given);
    let (_, out) = runtime.block_on(env.output()).unwrap();
    print!("{}", String::from_utf8(out).unwrap());
}

#[test]
fn a_child_inherits_no_credentials() {
    let set: Vec<(&str, &str)> = redact::SECRET_VARIABLES.iter().map(|name| (*name, CANARY)).chain([("AWS_REGION", "us-east-1")]).collect();
    let out = String::from_utf8(alone("secrets_kept::a_parent_of_env", &set).stdout).unwrap();
    assert!(!out.contains("c4n4ry"), "{out}");
    assert!(out.contains("AWS_SESSION_TOKEN=given on purpose") && out.contains("AWS_REGION=us-east-1"), "{out}");
}

#[test]
#[ignore = "run by the next test"]
fn a_panic_with_a_secret_in_its_message() {
    ui::install_panic_hook();
    redact::register(CANARY);
    let json = serde_json::json!({ "password": CANARY }).to_string();
    panic!("cannot log in with {CANARY}: {CANARY:?} {json} {json:?}");
}

#[test]
fn a_panic_shows_no_secret() {
    let output = alone("secrets_kept::a_panic_with_a_secret_in_its_message", &[]);
    let all = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(all.contains("deployctl itself is broken: cannot log in with [secret]"), "{all}");
    assert!(!all.contains("c4n4ry"), "{all}");
}
