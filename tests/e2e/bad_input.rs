//! What goes wrong on a bad day, each on a copy of the project: the message says step, cause, what was left behind and what to type next.
use std::{path::Path, process::Command};

use rustix::process::{Signal, kill_process};

use super::{
    copy::Copy,
    target::{Ended, Target, text},
};

/// Each in turn; the next good apply puts everything right.
pub fn is_told(target: &Target) {
    a_build_that_fails(target);
    a_full_disk(target);
    a_service_that_crashes_at_start(target);
    a_migration_that_fails(target);
    an_unreachable_cluster(target);
    a_missing_tool(target);
}

/// Step, words of the cause, and a next command.
fn says(ended: &Ended, step: &str, words: &[&str]) {
    let failed = format!("error: step {step}");
    assert!(ended.err.contains(&failed) || ended.err.contains(&format!("{step}: ")), "{}", ended.err);
    for word in words.iter().chain(&["next: "]) {
        assert!(ended.err.contains(word), "no `{word}` in\n{}", ended.err);
    }
}

fn a_build_that_fails(target: &Target) {
    let copy = Copy::new();
    copy.replace("services/uploader/src/main.rs", "fn main()", "fn broken( {}\nfn main()");
    says(&copy.apply(target, "images").expect(15), "images", &["compiling", "services/uploader/src/main.rs"]);
}

fn a_full_disk(target: &Target) {
    let copy = Copy::new();
    copy.replace("services/uploader/src/main.rs", "//!", "//! Another one.\n//!");
    let small = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(small.path()).status().unwrap();
    assert!(mounted.success());
    let set = [("DEPLOYCTL_IMAGE_TARGET_DIR", small.path())];
    let ended = target.deployctl_set(&["apply", "--yes", "--project", copy.folder(), "--only", "images"], &set);
    let unmounted = Command::new("umount").arg(small.path()).status().unwrap();
    assert!(unmounted.success());
    says(&ended.expect(15), "images", &["the disk is full", "make room in"]);
}

fn a_service_that_crashes_at_start(target: &Target) {
    let copy = Copy::new();
    copy.replace("templates/uploader/20-workload.yaml.hbs", "name: UPLOADER_BUCKET", "name: UPLOADER_BUCKETT");
    let ended = copy.apply(target, "uploader").expect(15);
    says(&ended, "uploader", &["UPLOADER_BUCKET"]);
    // The old pods serve on.
    let ready = ["-n", "apps", "get", "deployment", "uploader", "-o", "jsonpath={.status.readyReplicas}"];
    let ready = text(&target.command(Path::new("kubectl")).args(ready).output().unwrap());
    assert_eq!(ready, "1");
}

fn a_migration_that_fails(target: &Target) {
    let copy = Copy::new();
    std::fs::write(copy.path("services/parser/migrations/V99__broken.sql"), "CREATE TABLE half (id int);\nSELECT 1 / 0;\n").unwrap();
    let ended = copy.apply(target, "parser").expect(15);
    says(&ended, "parser", &["V99__broken.sql", "division by zero", "snapshot"]);
    let query = "SELECT count(*) FROM pg_tables WHERE tablename = 'half'";
    assert_eq!(text(&target.sandbox(&["exec", "psql", "-Atc", query])).trim(), "0", "it was rolled back");
}

fn an_unreachable_cluster(target: &Target) {
    let server = target.process("kube-apiserver");
    kill_process(server, Signal::STOP).unwrap();
    let ended = target.deployctl(&["apply", "--yes", "--only", "namespace"]);
    kill_process(server, Signal::CONT).unwrap();
    // It takes connections and never answers: a time-out, as README has it.
    says(&ended.expect(17), "namespace", &["the API server", "deployctl-sandbox"]);
}

fn a_missing_tool(target: &Target) {
    let nothing = tempfile::tempdir().unwrap();
    let ended = target.deployctl_set(&["plan", "--only", "network"], &[("PATH", nothing.path())]);
    says(&ended.expect(12), "network", &["terraform"]);
}
