//! `sandbox`: hands over to deployctl-sandbox, arguments and exit code included.
use std::os::unix::fs::PermissionsExt;

use crate::project::Project;

/// A copy of deployctl without its neighbours.
fn alone(project: &Project) -> std::path::PathBuf {
    let copy = project.path().join("bin/deployctl");
    std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
    // A link would lead back to the neighbours; a hard link does not, and costs no copy.
    std::fs::hard_link(assert_cmd::cargo::cargo_bin!("deployctl"), &copy)
        .or_else(|_| std::fs::copy(assert_cmd::cargo::cargo_bin!("deployctl"), &copy).map(|_| ()))
        .unwrap();
    copy
}

#[test]
fn says_how_to_get_it_if_it_is_not_there() {
    let project = Project::new();
    let output = std::process::Command::new(alone(&project)).args(["sandbox", "up"]).env_clear().output().unwrap();
    insta::assert_snapshot!(project.shown(&output));
}

#[test]
fn passes_arguments_and_exit_code_on() {
    let project = Project::new();
    let program = alone(&project).with_file_name("deployctl-sandbox");
    std::fs::write(&program, "#!/bin/sh\necho \"$@\"\nexit 42\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = std::process::Command::new(alone_again(&project)).args(["sandbox", "exec", "--help", "-x"]).env_clear().output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).trim()), (Some(42), "exec --help -x"));
}

fn alone_again(project: &Project) -> std::path::PathBuf {
    project.path().join("bin/deployctl")
}
