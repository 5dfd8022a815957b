//! `secret set`: a value that is given as an argument is refused, and nothing of it is shown.
use crate::project::Project;

#[test]
fn takes_no_value_as_an_argument() {
    let project = Project::new();
    let output = project.command(&["secret", "set", "kafka", "hunter2hunter2"]).output().unwrap();
    assert_eq!(output.status.code(), Some(10));
}

#[test]
fn a_file_that_is_not_there() {
    let project = Project::new();
    let output = project.command(&["secret", "set", "kafka", "--from-file", "gone"]).output().unwrap();
    assert_ne!(output.status.code(), Some(0));
}
