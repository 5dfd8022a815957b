//! `apply`: what it refuses before anything is asked of AWS.
use crate::project::Project;

const SAVED: &str = r#"{"format":"deployctl-plan","version":2,"made_by":"0.1.0","made_at":"2026-11-22T12:00:00Z",
"digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000",
"plan":{"environment":"sandbox","account":"111122223333","region":"us-east-1","definition":"sha256:x","selection":{},"steps":[]}}"#;

#[test]
fn a_plan_file_that_is_none() {
    let project = Project::new();
    project.write("plan.json", "not a plan");
    insta::assert_snapshot!(project.run(&["apply", "plan.json"]));
    insta::assert_snapshot!(project.run(&["apply", "gone.json"]));
}

#[test]
fn a_plan_that_was_changed_or_made_by_another_release() {
    let project = Project::new();
    project.write("plan.json", SAVED);
    insta::assert_snapshot!(project.run(&["apply", "plan.json"]));
    project.write("plan.json", &SAVED.replace("\"made_by\":\"0.1.0\"", "\"made_by\":\"9.9.9\""));
    insta::assert_snapshot!(project.run(&["apply", "plan.json"]));
    project.write("plan.json", &SAVED.replace("\"version\":2", "\"version\":1"));
    insta::assert_snapshot!(project.run(&["apply", "plan.json"]));
}

#[test]
fn a_saved_plan_is_not_applied_in_part() {
    let project = Project::new();
    let output = project.command(&["apply", "plan.json", "--only", "backend"]).output().unwrap();
    assert_eq!(output.status.code(), Some(10));
}

#[test]
fn a_damaged_journal_stops_it() {
    let project = Project::new();
    project.write(crate::status::JOURNAL, "damaged\n");
    insta::assert_snapshot!(project.run(&["apply", "--yes"]));
}

#[test]
fn without_aws_nothing_is_recorded_as_begun() {
    let project = Project::new();
    let output = project.command(&["apply", "--yes"]).output().unwrap();
    assert!(matches!(output.status.code(), Some(1 | 11 | 12 | 17)), "{}", project.shown(&output));
    let history = project.command(&["history", "--offline"]).output().unwrap();
    assert!(history.stdout.is_empty());
}
