//! The committed environments: each can be planned anywhere, and staging and production differ as they should.
use std::path::Path;

use serde_json::Value;

use super::project::Project;

fn committed(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("plans/environments/{name}.yaml"));
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn each_can_be_planned_anywhere() {
    // The charts that are a choice are left out, and in the sandbox those that stand-ins stand for too.
    for (name, deferred) in [("sandbox", 13), ("staging", 15), ("production", 15)] {
        // Without credentials, and with an AWS that nobody answers for.
        let planned = Project::new().run(&["plan", "--offline", "-e", name, "--project", env!("CARGO_MANIFEST_DIR")]);
        assert!(planned.contains(&format!("Plan: {deferred} steps deferred.")) && planned.contains("--- exit 0"), "{planned}");
        assert!(planned.contains("A month in us-east-1"), "{planned}");
    }
}

/// Every value by its path.
fn flat(prefix: &str, value: &Value, into: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| flat(&format!("{prefix}.{key}"), value, into)),
        other => into.push((prefix.trim_start_matches('.').to_owned(), other.to_string())),
    }
}

#[test]
fn staging_and_production_differ_as_they_should() {
    let [mut staging, mut production] = [Vec::new(), Vec::new()];
    flat("", &committed("staging"), &mut staging);
    flat("", &committed("production"), &mut production);
    let keys = |of: &[(String, String)]| of.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&staging), keys(&production), "what one of them says, the other says too");
    let differ = staging.iter().zip(&production).filter(|(a, b)| a != b);
    let list: String = differ.map(|((key, a), (_, b))| format!("{key}: {a} -> {b}\n")).collect();
    // A change of this list is a decision: the snapshot is where it is read.
    insta::assert_snapshot!(list);
}

#[test]
fn production_is_never_the_weaker_one() {
    let (staging, production) = (committed("staging"), committed("production"));
    let number = |of: &Value, at: &str| of.pointer(at).and_then(Value::as_u64).unwrap();
    let at_least = [
        "/network/availability_zones",
        "/network/flow_log_days",
        "/cluster/nodes/min",
        "/cluster/nodes/max",
        "/cluster/disk_gib",
        "/database/backup_days",
        "/database/storage_gib/initial",
        "/kafka/replication_factor",
        "/kafka/retention_hours",
        "/services/uploader/replicas/min",
        "/services/parser/replicas/min",
        "/observability/retention_days",
    ];
    for at in at_least {
        assert!(number(&production, at) >= number(&staging, at), "{at}");
    }
    for at in ["/database/multi_az", "/database/replicate_backups", "/database/deletion_protection", "/storage/replicate"] {
        assert_eq!(production.pointer(at), Some(&Value::Bool(true)), "{at}");
    }
    assert_eq!(production["network"]["nat_gateways"], "per-zone");
    assert_ne!(production["aws"]["account_id"], staging["aws"]["account_id"], "an account of its own is the only wall that holds");
    assert_ne!(production["network"]["cidr"], staging["network"]["cidr"], "two networks that overlap can never be joined");
    assert_ne!(production["aws"]["region"], production["aws"]["dr_region"]);
    assert!(number(&production, "/services/uploader/replicas/min") >= 3, "one in each zone");
}

/// The line of the field, and which is missing; nothing else of the plan is shown.
#[test]
fn what_would_face_the_internet_is_refused_by_policy() {
    let project = Project::new();
    let text = std::fs::read_to_string(project.path().join("plans/environments/sandbox.yaml")).unwrap();
    let facing = |more: &str| {
        let ingress = format!("  uploader:\n    ingress: {{ scheme: internet-facing, host: files.example.com{more} }}\n");
        project.write("plans/environments/sandbox.yaml", &text.replacen("  uploader:\n", &ingress, 1));
        project.run(&["plan", "--offline"])
    };
    let certificate = ", certificate_arn: \"arn:aws:acm:us-east-1:111122223333:certificate/0\"";
    let refused = facing(certificate);
    assert!(refused.contains("--- exit 18") && refused.contains("plans/environments/sandbox.yaml:"), "{refused}");
    assert!(
        refused.contains("services.uploader.ingress.tls_policy is missing") && refused.contains("ingress.authentication is missing"),
        "{refused}"
    );
    assert!(!refused.contains("certificate_arn is missing") && !refused.contains("Plan for"), "{refused}");
    let whole = facing(&format!("{certificate}, tls_policy: ELBSecurityPolicy-TLS13-1-2-2021-06, authentication: {{ by: service }}"));
    assert!(whole.contains("--- exit 0"), "{whole}");
    let old = facing(&format!("{certificate}, tls_policy: ELBSecurityPolicy-2016-08, authentication: {{ by: service }}"));
    assert!(old.contains("--- exit 10") && old.contains("no policy of TLS 1.2 or newer"), "{old}");
}
