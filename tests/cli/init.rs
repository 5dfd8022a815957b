//! `init`: the file that it writes, what it asks for, and what it never does.
use super::project::Project;

const ANSWERS: [&str; 12] = [
    "--account-id",
    "444455556666",
    "--region",
    "eu-central-1",
    "--dr-region",
    "eu-west-1",
    "--kafka",
    "pkc-1.confluent.cloud:9092",
    "--engineers",
    "arn:aws:iam::444455556666:role/engineers",
    "--github",
    "example/files",
];

fn init(project: &Project, name: &str, more: &[&str]) -> String {
    project.run(&[&["init", "-e", name][..], &ANSWERS[..], more].concat())
}

#[test]
fn the_file_is_taken_by_plan_and_never_overwritten() {
    let project = Project::new();
    insta::assert_snapshot!(init(&project, "qa", &[]));
    insta::assert_snapshot!(std::fs::read_to_string(project.path().join("plans/environments/qa.yaml")).unwrap());
    let planned = project.run(&["plan", "--offline", "-e", "qa"]);
    assert!(planned.contains("Plan for qa (account 444455556666, eu-central-1)") && planned.contains("--- exit 0"), "{planned}");
    let again = init(&project, "qa", &["--size", "large"]);
    assert!(again.contains("is there already") && again.contains("--- exit 10"), "{again}");
}

#[test]
fn a_large_one_is_taken_too() {
    let project = Project::new();
    let said = init(&project, "live", &["--size", "large", "--public-access-cidr", "203.0.113.0/24"]);
    assert!(said.contains("--- exit 0"), "{said}");
    let written = std::fs::read_to_string(project.path().join("plans/environments/live.yaml")).unwrap();
    for line in ["multi_az: true", "replicate: true", "nat_gateways: per-zone", "public_access_cidrs: [203.0.113.0/24]"] {
        assert!(written.contains(line), "{written}");
    }
    let planned = project.run(&["plan", "--offline", "-e", "live"]);
    assert!(planned.contains("--- exit 0"), "{planned}");
}

#[test]
fn without_a_terminal_every_missing_flag_is_named() {
    insta::assert_snapshot!(Project::new().run(&["init", "--region", "eu-central-1"]));
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    let project = Project::new();
    let wrong = [("a-name-that-is-too-long", &[][..]), ("qa", &["--cidr", "10.50.0.0"]), ("qa", &["--public-access-cidr", "0.0.0.0/0"])];
    for (name, more) in wrong {
        let said = init(&project, name, more);
        assert!(said.contains("--- exit 10"), "{said}");
    }
    assert!(!project.path().join("plans/environments/qa.yaml").exists());
}
