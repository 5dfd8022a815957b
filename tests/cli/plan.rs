//! `plan`: what it shows without any network, and what it says about every kind of bad file.
use crate::project::{PLAN, Project};

#[test]
fn offline_shows_order_and_bounds() {
    insta::assert_snapshot!(Project::new().run(&["plan", "--offline"]));
}

#[test]
fn offline_as_json_is_one_document() {
    let output = Project::new().command(&["plan", "--offline", "--output", "json"]).output().unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(plan["environment"], "sandbox");
    assert_eq!(plan["steps"].as_array().unwrap().len(), 3);
    assert_eq!(plan["steps"][2]["because"][0], "images.uploader");
    assert!(output.stderr.is_empty());
}

#[test]
fn a_part_is_shown_with_its_reason() {
    let project = Project::new();
    insta::assert_snapshot!(project.run(&["plan", "--offline", "--skip", "again", "--reason", "ticket 7"]));
    insta::assert_snapshot!(project.run(&["plan", "--offline", "--only", "imags"]));
}

#[test]
fn detailed_exit_code() {
    let output = Project::new().command(&["plan", "--offline", "--detailed-exitcode"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn an_unknown_environment_and_no_project() {
    let project = Project::new();
    insta::assert_snapshot!(project.run(&["plan", "--offline", "-e", "sandbx"]));
    insta::assert_snapshot!(project.run(&["plan", "--offline", "--project", "/nowhere"]));
    let elsewhere = tempfile::tempdir().unwrap();
    let output = project.command(&["plan", "--offline"]).current_dir(elsewhere.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(10));
}

#[test]
fn several_environments_and_none_named() {
    let project = Project::new();
    let text = std::fs::read_to_string(project.path().join("plans/environments/sandbox.yaml")).unwrap();
    project.write("plans/environments/staging.yaml", &text.replace("name: sandbox", "name: staging"));
    insta::assert_snapshot!(project.run(&["plan", "--offline"]));
    assert_eq!(project.command(&["plan", "--offline", "-e", "staging"]).output().unwrap().status.code(), Some(0));
}

macro_rules! bad_plan_files {
    ($($name:ident: $from:expr => $to:expr;)*) => {$(
        #[test]
        fn $name() {
            let project = Project::new();
            project.change_plan($from, $to);
            insta::assert_snapshot!(project.run(&["plan", "--offline"]));
        }
    )*};
}

bad_plan_files! {
    unknown_key: "needs: [backend]" => "neds: [backend]";
    unknown_kind: "kind: state-backend" => "kind: state-backnd";
    unknown_need: "needs: [backend]" => "needs: [backnd]";
    unknown_key_in_with: "lock:" => "lok:";
    wrong_type_in_with: "lock: \"${env.aws.state_lock}\"" => "noncurrent_days: soon";
    wrong_type_of_a_reference: "lock: \"${env.aws.state_lock}\"" => "noncurrent_days: \"${env.name}\"";
    wrong_value_in_with: "\"${env.aws.state_lock}\"" => "dynamo";
    missing_key_in_with: ", repositories: \"deployctl-${env.name}\"" => "";
    duplicate_key: "version: 1" => "version: 1\nversion: 1";
    duplicate_id: "id: again" => "id: images";
    circle: "- id: backend\n" => "- id: backend\n    needs: [again]\n";
    not_needed: "needs: [images]" => "needs: [backend]";
    missing_output: "outputs.uploader}" => "outputs.uplaoder}";
    dead_environment_key: "${env.aws.state_lock}" => "${env.aws.statelock}";
    bad_reference: "${env.name}" => "${environment.name}";
    no_yaml: "steps:" => "steps: [";
    another_version: "version: 1" => "version: 7";
}

#[test]
fn bad_environment_files() {
    let project = Project::new();
    let text = std::fs::read_to_string(project.path().join("plans/environments/sandbox.yaml")).unwrap();
    project
        .write("plans/environments/sandbox.yaml", &text.replace("198.18.0.0/15", "0.0.0.0/0").replace("backup_days: 7", "backup_days: 40"));
    insta::assert_snapshot!(project.run(&["plan", "--offline"]));
}

#[test]
fn the_committed_plan_file_holds_with_every_environment() {
    let root = env!("CARGO_MANIFEST_DIR");
    for entry in std::fs::read_dir(format!("{root}/plans/environments")).unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        let shown = Project::new().run(&["plan", "--offline", "-e", &name, "--project", root]);
        assert!(shown.ends_with("--- exit 0\n"), "{shown}");
    }
}

#[test]
fn with_nobody_to_ask_it_fails_and_says_so() {
    let project = Project::new();
    let shown = project.run(&["plan"]);
    assert!(shown.contains("error:") && !shown.contains("--- exit 0"), "{shown}");
    assert!(!PLAN.is_empty());
}
