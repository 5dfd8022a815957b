//! What a machine knows of the runs that has never applied anything, also while the region is lost.
use std::path::Path;

use super::target::{Ended, Target};

/// As somebody else's machine: without a journal of its own.
fn elsewhere(target: &Target, args: &[&str]) -> Ended {
    let state = tempfile::tempdir().unwrap();
    target.deployctl_set(args, &[("XDG_STATE_HOME", state.path())])
}

/// The last apply has ended well.
pub fn everywhere(target: &Target) {
    let here = target.deployctl(&["history"]).expect(0).out;
    let there = elsewhere(target, &["history"]).expect(0).out;
    let newest = here.lines().next().unwrap();
    assert_eq!(there.lines().next(), Some(newest), "{here}\n{there}");
    assert_eq!(elsewhere(target, &["history", "--offline"]).expect(0).out, "");
    let oldest = there.lines().last().unwrap().split(' ').next().unwrap();
    assert!(elsewhere(target, &["status", "--run", oldest]).expect(0).out.contains(oldest));
    let lost = Path::new(target.variable("KUBECONFIG")).with_file_name("regions-down").join("us-east-1");
    std::fs::create_dir_all(lost.parent().unwrap()).unwrap();
    std::fs::write(&lost, "").unwrap();
    let status = elsewhere(target, &["status"]);
    std::fs::remove_file(&lost).unwrap();
    let status = status.expect(0);
    assert!(status.out.contains(newest.split(' ').next().unwrap()) && status.out.contains("succeeded"), "{}{}", status.out, status.err);
    assert!(status.err.contains("eu-west-1") && status.seconds < 12.0, "{} s: {}", status.seconds, status.err);
}
