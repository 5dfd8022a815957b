//! Planning, by who may only read: what it asks of AWS and of the cluster, what it shows where it may not look, and what a saved plan says
//! when the world has moved.
use std::{path::Path, time::Duration};

use serde_json::Value;

use super::{
    READS,
    commands::block_on,
    permissions,
    target::{Target, text},
};

const ROLE: &str = "arn:aws:iam::111122223333:role/deployctl-deployer";

/// Everything is applied and nothing is to be done.
pub fn by_who_may_only_read(target: &Target) {
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("plan.json");
    let saved = saved.to_str().unwrap();
    permissions::grant(target, permissions::committed("planner.json"), |_| true);
    let (asked, changed) = (target.requests().len(), audited(target).len());
    let plan = target.deployctl(&["plan", "--detailed-exitcode", "--out", saved]).expect(0);
    let requests = target.requests();
    let changes = audited(target);
    where_it_may_not_look_it_says_so(target);
    permissions::grant(target, permissions::own(), |_| true);
    assert!(!plan.out.contains("unknown"), "{}", plan.out);
    // Services go on with their work meanwhile, each under its own role.
    let own = |request: &&Value| request["principal"].as_str().unwrap_or_default().contains("deployctl-deployer");
    let requests: Vec<&Value> = requests[asked..].iter().filter(own).collect();
    assert!(requests.len() > 20, "{}", requests.len());
    for request in requests {
        let action = request["action"].as_str().unwrap();
        let verb = action.split(':').next_back().unwrap();
        assert!(action.starts_with("HEAD ") || action.starts_with("GET ") || READS.iter().any(|read| verb.starts_with(read)), "{action}");
        assert!(request["status"] != 403, "{action} was refused");
    }
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
    let containers = kubectl(target, &["-n", "deployctl", "get", "job", job, "-o", "jsonpath={.spec.template.spec.containers[*].args[1]}"]);
    assert_eq!(containers, "topics schema", "both questions in one Job");
}

/// In the cluster too it may only read: no dry run, no Job.
fn where_it_may_not_look_it_says_so(target: &Target) {
    access(target, "AmazonEKSViewPolicy", "AmazonEKSClusterAdminPolicy");
    let plan = target.deployctl(&["plan", "--detailed-exitcode"]).expect(2);
    access(target, "AmazonEKSClusterAdminPolicy", "AmazonEKSViewPolicy");
    let of = |step: &str| -> String {
        let lines = plan.out.lines().skip_while(|line| !line.trim_start().starts_with(step));
        lines.take_while(|line| line.contains(step) || line.starts_with("    ")).collect::<Vec<_>>().join("\n")
    };
    for step in ["backend", "network", "cluster", "data", "identity", "images"] {
        assert!(of(step).contains("no changes"), "{step} is known:\n{}", plan.out);
    }
    assert!(of("parser").contains("unknown: a dry run is forbidden"), "{}", plan.out);
    assert!(of("parser").contains("migration (unknown)"), "{}", plan.out);
    assert!(of("config").contains("job topics\n        unknown: "), "{}", plan.out);
}

fn access(target: &Target, given: &str, taken: &str) {
    let client = aws_sdk_eks::Client::new(&target.sdk("us-east-1"));
    let arn = |policy: &str| format!("arn:aws:eks::aws:cluster-access-policy/{policy}");
    let scope = aws_sdk_eks::types::AccessScope::builder().r#type(aws_sdk_eks::types::AccessScopeType::Cluster).build();
    block_on(async {
        let entry = || client.associate_access_policy().cluster_name("deployctl-sandbox").principal_arn(ROLE);
        entry().policy_arn(arn(given)).access_scope(scope).send().await.unwrap();
        let entry = client.disassociate_access_policy().cluster_name("deployctl-sandbox").principal_arn(ROLE);
        entry.policy_arn(arn(taken)).send().await.unwrap();
    });
    // The API server keeps what it was told about a token for this long.
    std::thread::sleep(Duration::from_secs(6));
}

/// Somebody changes an object by hand between plan and apply.
fn what_has_moved_is_named(target: &Target, saved: &str) {
    let patch = r#"{"data":{"deployctl.json":"{}"}}"#;
    kubectl(target, &["-n", "observability", "patch", "configmap", "grafana-dashboards", "--type", "merge", "-p", patch]);
    let stale = target.deployctl(&["apply", saved]).expect(13);
    assert!(stale.err.contains("dashboards: ConfigMap observability/grafana-dashboards data[deployctl.json]: "), "{}", stale.err);
    target.deployctl(&["apply", "--yes", "--only", "dashboards"]).expect(0);
}

fn kubectl(target: &Target, args: &[&str]) -> String {
    let output = target.command(Path::new("kubectl")).args(args).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// What the API server has recorded of deployctl's requests that may change something.
fn audited(target: &Target) -> Vec<Value> {
    let record = Path::new(target.variable("KUBECONFIG")).with_file_name("log").join("kube-audit.ndjson");
    let lines = std::fs::read_to_string(record).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["user"]["username"].as_str().unwrap_or_default().contains("deployctl-deployer")).collect()
}
