//! An environment is taken away, killed in the middle, gone on with; then nothing is found; then its data goes too, by name.
use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    asked,
    commands::block_on,
    copy::Copy,
    target::{Ended, Target},
};

const BUCKET: &str = "deployctl-sandbox-uploads-111122223333";
const PATIENCE: Duration = Duration::from_secs(180);

/// Everything, on a target where everything was applied.
pub fn leaves_what_was_not_named(target: &Target) {
    refuses(target);
    by_hand(target);
    let project = unguarded();
    put(target, "uploads/kept.csv");
    let begun = target.requests().len();
    let shown = killed_in_the_middle(target, &project);
    for line in [
        "~ aws_db_instance aws_db_instance.database  deletion_protection: true -> false",
        "- Ingress default/by-hand",
        "- PersistentVolumeClaim default/by-hand",
        "- aws_eks_cluster ",
        "- aws_vpc ",
        "This stays:",
    ] {
        assert!(shown.contains(line), "not shown: {line}\n{shown}");
    }
    assert!(!shown.contains("- aws_s3_bucket ") && !shown.contains("- aws_kms_key aws_kms_key.data"), "{shown}");
    let done = destroy(target, &project, &[]).expect(0);
    eprintln!("{}{}", done.err, done.out);
    in_the_right_order(target, begun);
    data_is_there(target, &done);
    let again = destroy(target, &project, &[]).expect(0);
    assert!(again.out.contains("Nothing had to be taken away.") && again.out.contains(BUCKET), "{}", again.out);
    nothing_else_is_there(target);
    it_can_be_made_again(target);
    goes_with_its_data(target, &project);
}

fn destroy(target: &Target, project: &Copy, more: &[&str]) -> Ended {
    target.deployctl(&[&["destroy", "--confirm", "sandbox", "--project", project.folder()], more].concat())
}

/// What has to be typed, and what guards say.
fn refuses(target: &Target) {
    let guarded = target.deployctl(&["destroy", "--confirm", "sandbox"]).expect(18);
    assert!(guarded.err.contains("aws_db_instance"), "{}", guarded.err);
    let project = unguarded();
    let destroy = |more: &[&str]| target.deployctl(&[&["destroy", "--project", project.folder()], more].concat()).expect(10).err;
    assert!(destroy(&[]).contains("--confirm sandbox"));
    assert!(destroy(&["--confirm", "production"]).contains("--confirm sandbox"));
    assert!(destroy(&["--confirm", "sandbox", "--include-data"]).contains(&format!("--confirm-data {BUCKET}")));
    assert!(
        destroy(&["--confirm", "sandbox", "--include-data", "--confirm-data", "sandbox"]).contains(&format!("--confirm-data {BUCKET}"))
    );
    assert!(destroy(&["--confirm", "sandbox", "--confirm-data", BUCKET]).contains("--include-data"));
    let pods = target.kubectl(&["-n", "apps", "get", "pods", "-o", "jsonpath={.items[*].status.phase}"]);
    assert!(!pods.is_empty() && pods.split(' ').all(|phase| phase == "Running"), "nothing was taken away: {pods}");
}

fn unguarded() -> Copy {
    let project = Copy::new();
    project.replace("plans/environments/sandbox.yaml", "tags: {", "guards: { max_deletions: 400, protected: [] }\ntags: {");
    project
}

/// A load balancer and a volume that no step knows of.
fn by_hand(target: &Target) {
    let objects = r#"
apiVersion: v1
kind: Service
metadata: { name: by-hand, namespace: default }
spec: { selector: { app: by-hand }, ports: [{ port: 80 }] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: by-hand, namespace: default, annotations: { alb.ingress.kubernetes.io/scheme: internal, alb.ingress.kubernetes.io/target-type: ip } }
spec: { ingressClassName: alb, defaultBackend: { service: { name: by-hand, port: { number: 80 } } } }
---
apiVersion: v1
kind: PersistentVolume
metadata: { name: by-hand }
spec: { capacity: { storage: 1Mi }, accessModes: [ReadWriteOnce], persistentVolumeReclaimPolicy: Retain, storageClassName: "", hostPath: { path: /tmp } }
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: { name: by-hand, namespace: default }
spec: { accessModes: [ReadWriteOnce], storageClassName: "", volumeName: by-hand, resources: { requests: { storage: 1Mi } } }
"#;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), objects).unwrap();
    target.kubectl(&["apply", "-f", file.path().to_str().unwrap()]);
    let end = Instant::now() + PATIENCE;
    let hostname = ["-n", "default", "get", "ingress", "by-hand", "-o", "jsonpath={.status.loadBalancer.ingress[0].hostname}"];
    while target.kubectl(&hostname).is_empty() {
        assert!(Instant::now() < end, "the Ingress gets no load balancer");
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(interfaces(target) >= 4, "two load balancers in two subnets each");
}

/// Of load balancers, as EC2 lists them.
fn interfaces(target: &Target) -> usize {
    let found = asked::query(target, "ec2", "us-east-1", "2016-11-15", &[("Action", "DescribeNetworkInterfaces")]);
    found.matches("<description>ELB app/").count()
}

fn put(target: &Target, key: &str) {
    let request = target.s3("us-east-1").put_object().bucket(BUCKET).key(key).body(b"id\n1\n".to_vec().into());
    block_on(request.send()).unwrap();
}

fn seen(target: &Target, since: usize, action: &str) -> Option<usize> {
    let requests = target.requests();
    requests[since..].iter().position(|request| request["action"].as_str() == Some(action)).map(|at| at + since)
}

/// kill -9 while the database is on its way out; gives what was shown before.
fn killed_in_the_middle(target: &Target, project: &Copy) -> String {
    let since = target.requests().len();
    let said = tempfile::NamedTempFile::new().unwrap();
    let mut running = target.deployctl_started(&["destroy", "--confirm", "sandbox", "--project", project.folder()], said.path());
    let end = Instant::now() + PATIENCE;
    let told = || std::fs::read_to_string(said.path()).unwrap();
    while seen(target, since, "rds:DeleteDBInstance").is_none() {
        assert!(Instant::now() < end && running.try_wait().unwrap().is_none(), "the database was not reached:\n{}", told());
        std::thread::sleep(Duration::from_millis(50));
    }
    running.kill().unwrap();
    running.wait().unwrap();
    told()
}

/// Load balancers, then the services' roles, the database, the cluster, the network.
fn in_the_right_order(target: &Target, since: usize) {
    let requests = target.requests();
    let last = |action: &str, what: &str| {
        let is_it = |request: &Value| request["action"].as_str() == Some(action) && request.to_string().contains(what);
        requests[since..].iter().rposition(is_it).unwrap_or_else(|| panic!("nobody asked for {action} {what}"))
    };
    let first = |action: &str| requests[since..].iter().position(|request| request["action"].as_str() == Some(action)).unwrap();
    assert!(first("ec2:DescribeNetworkInterfaces") < first("iam:DeleteRole"), "load balancers before roles");
    let order = [
        last("iam:DeleteRole", "deployctl-sandbox-apps-uploader"),
        last("rds:DeleteDBInstance", ""),
        last("eks:DeleteCluster", ""),
        last("ec2:DeleteVpc", ""),
    ];
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(interfaces(target), 0);
}

fn rds(target: &Target, region: &'static str) -> aws_sdk_rds::Client {
    aws_sdk_rds::Client::new(&target.sdk(region))
}

fn snapshots(target: &Target, region: &'static str) -> BTreeSet<String> {
    let found = block_on(rds(target, region).describe_db_snapshots().snapshot_type("manual").send()).unwrap();
    found.db_snapshots().iter().filter_map(|snapshot| snapshot.db_snapshot_identifier().map(str::to_owned)).collect()
}

fn data_is_there(target: &Target, done: &Ended) {
    for line in [
        format!("aws_s3_bucket {BUCKET} stays: data is in it"),
        "aws_kms_key ".to_owned(),
        "aws_secretsmanager_secret ".to_owned(),
        "volume by-hand stays: its reclaim policy is Retain".to_owned(),
        "bucket deployctl-sandbox-state-111122223333-us-east-1 stays".to_owned(),
    ] {
        assert!(done.out.contains(&line), "no `{line}`:\n{}", done.out);
    }
    let object = target.s3("us-east-1").head_object().bucket(BUCKET).key("uploads/kept.csv");
    block_on(object.send()).unwrap();
    let last: Vec<String> = snapshots(target, "us-east-1").into_iter().filter(|id| id.starts_with("deployctl-sandbox-final-")).collect();
    assert_eq!(last.len(), 1, "a final snapshot");
    let backups = block_on(rds(target, "eu-west-1").describe_db_instance_automated_backups().send()).unwrap();
    assert!(!backups.db_instance_automated_backups().is_empty(), "replicated backups stay");
}

fn nothing_else_is_there(target: &Target) {
    let vpcs = asked::query(target, "ec2", "us-east-1", "2016-11-15", &[("Action", "DescribeVpcs")]);
    assert!(!vpcs.contains("deployctl:environment"), "{vpcs}");
    let databases = block_on(rds(target, "us-east-1").describe_db_instances().send()).unwrap();
    assert!(databases.db_instances().is_empty(), "{databases:?}");
    let clusters = target.command(Path::new("kubectl")).args(["get", "nodes", "--request-timeout=3s"]).output().unwrap();
    assert!(!clusters.status.success(), "the cluster still answers");
}

/// What stays is in the state, so the next life of the environment has it.
fn it_can_be_made_again(target: &Target) {
    let applied = target.deployctl(&["apply", "--yes"]).expect(0);
    eprintln!("{}", applied.err);
    let object = target.s3("us-east-1").head_object().bucket(BUCKET).key("uploads/kept.csv");
    block_on(object.send()).unwrap();
}

fn goes_with_its_data(target: &Target, project: &Copy) {
    let done = destroy(target, project, &["--include-data", "--confirm-data", BUCKET]).expect(0);
    eprintln!("{}{}", done.err, done.out);
    assert!(done.err.contains("- objects s3://deployctl-sandbox-uploads-111122223333"), "{}", done.err);
    assert!(done.err.contains("- aws_s3_bucket ") && done.err.contains("- db_snapshot "), "{}", done.err);
    let gone = block_on(target.s3("us-east-1").head_bucket().bucket(BUCKET).send());
    assert!(gone.is_err(), "the bucket is still there");
    let replica = block_on(target.s3("eu-west-1").head_bucket().bucket(format!("{BUCKET}-eu-west-1")).send());
    assert!(replica.is_err(), "the replica is still there");
    for region in ["us-east-1", "eu-west-1"] {
        assert!(snapshots(target, region).is_empty(), "{region}: {:?}", snapshots(target, region));
        let backups = block_on(rds(target, region).describe_db_instance_automated_backups().send()).unwrap();
        assert!(backups.db_instance_automated_backups().is_empty(), "{region}: {backups:?}");
    }
    nothing_else_is_there(target);
    let again = destroy(target, project, &["--include-data", "--confirm-data", BUCKET]).expect(0);
    assert!(again.out.contains("Nothing had to be taken away."), "{}", again.out);
}
