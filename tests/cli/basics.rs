//! What every command shares: help, version, usage errors, a reader that goes away.
use std::{io::Read, process::Stdio};

use crate::project::Project;

#[test]
fn usage_errors_have_an_exit_code_of_their_own() {
    let project = Project::new();
    insta::assert_snapshot!(project.run(&["plna"]));
    insta::assert_snapshot!(project.run(&["plan", "--offlin"]));
    insta::assert_snapshot!(project.run(&["plan", "-e", "Sandbox!"]));
}

#[test]
fn without_a_command_there_is_help_and_no_success() {
    let output = Project::new().command(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(10));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Usage: deployctl"));
}

#[test]
fn version_says_one_line_fast() {
    let project = Project::new();
    insta::assert_snapshot!(project.run(&["--version"]), @"
    --- stdout
    deployctl 0.1.0
    --- exit 0
    ");
    assert_eq!(project.run(&["version"]), project.run(&["--version"]));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let project = Project::new();
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("deployctl"))
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .current_dir(project.path())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[test]
fn completions_and_manual_page_are_there() {
    let project = Project::new();
    for (args, says) in [
        (["completions", "bash"].as_slice(), "_deployctl"),
        (["completions", "zsh"].as_slice(), "#compdef deployctl"),
        (["man"].as_slice(), ".TH deployctl"),
    ] {
        let output = project.command(args).output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains(says), "{args:?}");
    }
}
