//! Planning, by who may only read on AWS: what it asks there and of the cluster, and what a saved plan says when the world has moved.
use std::path::Path;

use serde_json::Value;

use super::{
    READS, permissions,
    replay::{Policy, Seen},
    target::Target,
};

/// Everything is applied and nothing is to be done.
pub fn by_who_may_only_read(target: &Target) {
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("plan.json");
    let saved = saved.to_str().unwrap();
    permissions::grant(target, permissions::committed("planner.json"), |_| true);
    let (asked, changed) = (target.requests().len(), audited(target).len());
    let plan = target.deployctl(&["plan", "--detailed-exitcode", "--out", saved]).expect(0);
    let during = target.requests().split_off(asked);
    let changes = audited(target);
    permissions::grant(target, permissions::own(), |_| true);
    assert!(!plan.out.contains("unknown"), "{}", plan.out);
    // Services go on with their work meanwhile, each under its own role.
    let own = |request: &&Value| request["principal"].as_str().unwrap_or_default().contains("deployctl-deployer");
    let requests: Vec<&Value> = during.iter().filter(own).collect();
    assert!(requests.len() > 20, "{}", requests.len());
    for request in requests {
        let action = request["action"].as_str().unwrap();
        let verb = action.split(':').next_back().unwrap();
        assert!(action.starts_with("HEAD ") || action.starts_with("GET ") || READS.iter().any(|read| verb.starts_with(read)), "{action}");
        assert!(request["status"] != 403, "{action} was refused");
    }
    let seen = Seen::of(&during, permissions::DEPLOYER_SESSION);
    let policy = Policy::of([&permissions::committed("planner.json")]);
    assert!(seen.refused.is_empty() && policy.beyond(&seen.uses).is_empty(), "{:?} {:?}", seen.refused, policy.beyond(&seen.uses));
    in_the_cluster_only_one_job(target, &changes[changed..]);
    what_has_moved_is_named(target, saved);
}

/// Of the requests that may change something: all are dry runs but those for one Job and what is its alone.
fn in_the_cluster_only_one_job(target: &Target, changed: &[Value]) {
    let real: Vec<&Value> = changed.iter().filter(|line| !line["requestURI"].as_str().unwrap().contains("dryRun=All")).collect();
    assert!(changed.len() > real.len() + 20, "there are dry runs: {}", changed.len());
    let of = |resource: &str| {
        let names = real.iter().filter(|line| line["objectRef"]["resource"] == resource && line["objectRef"]["namespace"] == "deployctl");
        names.map(|line| line["objectRef"]["name"].as_str().unwrap_or_default().to_owned()).collect::<std::collections::BTreeSet<_>>()
    };
    let (jobs, maps) = (of("jobs"), of("configmaps"));
    assert!(jobs.len() == 1 && maps.len() == 1, "{real:?}");
    let others = |line: &&&Value| !["jobs", "configmaps"].iter().any(|resource| line["objectRef"]["resource"] == **resource);
    assert_eq!(real.iter().filter(others).count(), 0, "{real:?}");
    let job = jobs.first().unwrap();
    let containers = target.kubectl(&["-n", "deployctl", "get", "job", job, "-o", "jsonpath={.spec.template.spec.containers[*].args[1]}"]);
    assert_eq!(containers, "topics schema", "both questions in one Job");
}

/// Somebody takes an object away between plan and apply.
fn what_has_moved_is_named(target: &Target, saved: &str) {
    target.kubectl(&["-n", "observability", "delete", "configmap", "grafana-dashboards"]);
    let stale = target.deployctl(&["apply", saved]).expect(13);
    assert!(stale.err.contains("dashboards: ConfigMap observability/grafana-dashboards"), "{}", stale.err);
    target.deployctl(&["apply", "--yes", "--only", "dashboards"]).expect(0);
}

/// What the API server has recorded of deployctl's requests that may change something.
fn audited(target: &Target) -> Vec<Value> {
    let record = Path::new(target.variable("KUBECONFIG")).with_file_name("log").join("kube-audit.ndjson");
    let lines = std::fs::read_to_string(record).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["user"]["username"].as_str().unwrap_or_default().contains("deployctl-deployer")).collect()
}
