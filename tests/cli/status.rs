//! `status`: reads a journal as a crash or a failure has left it.
use crate::project::Project;

/// A journal of a run whose second step failed.
pub const FAILED: &str = r#"{"format":"deployctl-journal","version":2,"run":"0192a000-0000-7000-8000-000000000001","environment":"sandbox","definition":"sha256:x"}
{"at":"2026-11-22T11:00:00Z","type":"attempt","holder":{"owner":"ann@laptop","pid":7,"start_ticks":1,"boot_id":"b","host":"laptop","pid_namespace":"n","since":"2026-11-22T11:00:00Z","what":"apply"},"plan":"sha256:p","selection":{"only":[],"from":null,"skip":[],"reason":null},"lease":1}
{"at":"2026-11-22T11:00:01Z","type":"step","step":"backend","event":"started","plan":"sha256:q"}
{"at":"2026-11-22T11:00:04Z","type":"step","step":"backend","event":"applied","outcome":"changed","outputs":{}}
{"at":"2026-11-22T11:00:05Z","type":"step","step":"backend","event":"succeeded"}
{"at":"2026-11-22T11:00:05Z","type":"step","step":"images","event":"started","plan":null}
{"at":"2026-11-22T11:01:05Z","type":"step","step":"images","event":"failed","kind":"step","chain":["the build failed","no space left on device"],"left":"nothing"}
{"at":"2026-11-22T11:01:05Z","type":"finished","succeeded":false}
"#;

/// Where it belongs.
pub const JOURNAL: &str = "state/deployctl/runs/sandbox/0192a000-0000-7000-8000-000000000001/journal.ndjson";

#[test]
fn nothing_was_applied_yet() {
    insta::assert_snapshot!(Project::new().run(&["status", "--offline"]));
}

#[test]
fn a_failed_run() {
    let project = Project::new();
    project.write(JOURNAL, FAILED);
    insta::assert_snapshot!(project.run(&["status", "--offline"]));
}

#[test]
fn a_run_that_was_killed() {
    let project = Project::new();
    let killed: Vec<&str> = FAILED.lines().take(6).collect();
    project.write(JOURNAL, &(killed.join("\n") + "\n{\"at\":\"2026-11-22T11:0"));
    insta::assert_snapshot!(project.run(&["status", "--offline", "--run", "0192a000-0000-7000-8000-000000000001"]));
}

#[test]
fn as_json() {
    let project = Project::new();
    project.write(JOURNAL, FAILED);
    let output = project.command(&["status", "--offline", "--output", "json"]).output().unwrap();
    let run: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(run["steps"]["images"]["status"], "failed");
}

#[test]
fn an_unknown_run() {
    insta::assert_snapshot!(Project::new().run(&["status", "--offline", "--run", "0192a000-0000-7000-8000-000000000009"]));
}

/// Nobody answers at the tests' endpoint: what is known is shown all the same, soon, and it is said that this is not all.
#[test]
fn a_state_bucket_that_does_not_answer_is_said_and_not_waited_for() {
    let project = Project::new();
    project.write(JOURNAL, FAILED);
    let began = std::time::Instant::now();
    let output = project.command(&["status"]).output().unwrap();
    assert!(began.elapsed() < std::time::Duration::from_secs(15), "{:?}", began.elapsed());
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("the build failed"), "{out}{err}");
    assert!(err.contains("what other machines have done is not known") && err.contains("--offline"), "{err}");
}
