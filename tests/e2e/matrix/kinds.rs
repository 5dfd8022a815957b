//! How each kind of step is given something to do: a part of what it made is taken away, as somebody's hand or an accident would. A new
//! step of a known kind gets its cells for free; a kind without a row fails the test.
use std::path::Path;

use deployctl::{
    cluster::ApplySet,
    plan::file::StepDeclaration,
    steps::{registry::Registry, state_backend::Names},
};
use serde_json::{Value, json};

use super::World;
use crate::{asked, commands::block_on, target::Target};

/// What was taken away.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Objects of the cluster: the kind as kubectl takes it, the name as kubectl prints it.
    pub objects: Vec<(String, String)>,
    /// Whether the step runs Jobs.
    pub jobs: bool,
    /// Last names of the stacks whose terraform it runs.
    pub stacks: Vec<String>,
}

type TakeAway = fn(&mut World, &StepDeclaration) -> Taken;

/// A row a kind.
const TABLE: [(&str, TakeAway); 13] = [
    ("chart", release),
    ("copied-images", elsewhere),
    ("endpoint-secret", elsewhere),
    ("image", image),
    ("manifests", release),
    ("readers", elsewhere),
    ("restore", elsewhere),
    ("service", service),
    // It is a check: it always has something to do.
    ("smoke", |_, _| Taken { jobs: true, ..Taken::default() }),
    ("state-backend", state_backend),
    ("terraform", terraform),
    ("trial", elsewhere),
    ("verification", elsewhere),
];

/// Of the plan files of `dr`, which are no part of an apply: `dr.rs`, `verification.rs` and `warm.rs` kill and repeat those.
fn elsewhere(_world: &mut World, step: &StepDeclaration) -> Taken {
    panic!("step {} of kind {} is not one of an apply", step.id, step.kind)
}

/// The row of a kind, if there is one.
fn row(kind: &str) -> Option<TakeAway> {
    TABLE.iter().find(|(name, _)| *name == kind).map(|(_, take)| *take)
}

/// Takes a part of the step's work away.
pub fn take_away(world: &mut World, step: &StepDeclaration) -> Taken {
    let take = row(&step.kind).unwrap_or_else(|| panic!("kind {} of step {} has no row in the failure matrix", step.kind, step.id));
    take(world, step)
}

#[test]
fn every_kind_has_a_row() {
    // Of other plan files (dr, destroy), whose own tests kill them.
    let elsewhere = ["endpoint-secret", "external-resources", "restore"];
    for kind in Registry::standard().names().into_iter().filter(|kind| !elsewhere.contains(kind)) {
        assert!(row(kind).is_some(), "kind {kind} has no row in the failure matrix");
    }
}

fn state_backend(world: &mut World, _step: &StepDeclaration) -> Taken {
    let names = Names::of(&world.definition.environment).unwrap();
    block_on(async {
        for (region, bucket) in [("us-east-1", names.bucket.as_str()), ("eu-west-1", names.dr_bucket.as_str())] {
            let s3 = world.target.s3(region);
            s3.delete_bucket_lifecycle().bucket(bucket).send().await.unwrap();
            s3.delete_public_access_block().bucket(bucket).send().await.unwrap();
        }
    });
    Taken::default()
}

/// The smallest image loses all its tags, and with them, as in ECR, itself.
fn image(world: &mut World, _step: &StepDeclaration) -> Taken {
    use aws_sdk_ecr::types::ImageIdentifier;
    let ecr = aws_sdk_ecr::Client::new(&world.target.sdk("us-east-1"));
    block_on(async {
        let mut images = Vec::new();
        for repository in ecr.describe_repositories().send().await.unwrap().repositories() {
            let name = repository.repository_name().unwrap().to_owned();
            let found = ecr.describe_images().repository_name(&name).send().await.unwrap();
            images
                .extend(found.image_details().iter().map(|image| (image.image_size_in_bytes(), name.clone(), image.image_tags().to_vec())));
        }
        let (_, repository, tags) = images.into_iter().filter(|(.., tags)| !tags.is_empty()).min().unwrap();
        let ids = tags.into_iter().map(|tag| ImageIdentifier::builder().image_tag(tag).build()).collect();
        ecr.batch_delete_image().repository_name(repository).set_image_ids(Some(ids)).send().await.unwrap();
    });
    Taken::default()
}

/// What can be taken out of a stack without harm to what runs: at most two of each type.
type TakeResource = fn(&Target, &Value);
const RESOURCES: [(&str, TakeResource); 6] = [
    ("aws_cloudwatch_log_group", |target, log_group| {
        let region = if arn_has(log_group, "eu-west-1") { "eu-west-1" } else { "us-east-1" };
        asked::json(target, "logs", region, "Logs_20140328.DeleteLogGroup", &json!({ "logGroupName": log_group["name"] }));
    }),
    ("aws_flow_log", |target, flow_log| ec2(target, "DeleteFlowLogs", "FlowLogId.1", &flow_log["id"])),
    ("aws_vpc_endpoint", |target, endpoint| ec2(target, "DeleteVpcEndpoints", "VpcEndpointId.1", &endpoint["id"])),
    ("aws_iam_role_policy", |target, policy| iam(target, "DeleteRolePolicy", &policy["role"], "PolicyName", &policy["name"])),
    ("aws_iam_role_policy_attachment", |target, attached| {
        iam(target, "DetachRolePolicy", &attached["role"], "PolicyArn", &attached["policy_arn"]);
    }),
    ("aws_s3_bucket_lifecycle_configuration", |target, lifecycle| {
        let region = if lifecycle["region"] == "eu-west-1" { "eu-west-1" } else { "us-east-1" };
        let bucket = lifecycle["bucket"].as_str().unwrap();
        block_on(target.s3(region).delete_bucket_lifecycle().bucket(bucket).send()).unwrap();
    }),
];
const OF_EACH_TYPE: usize = 2;

fn arn_has(resource: &Value, region: &str) -> bool {
    resource["arn"].as_str().is_some_and(|arn| arn.contains(region))
}

fn ec2(target: &Target, action: &str, parameter: &str, id: &Value) {
    asked::query(target, "ec2", "us-east-1", "2016-11-15", &[("Action", action), (parameter, id.as_str().unwrap())]);
}

fn iam(target: &Target, action: &str, role: &Value, parameter: &str, value: &Value) {
    let form = [("Action", action), ("RoleName", role.as_str().unwrap()), (parameter, value.as_str().unwrap())];
    asked::query(target, "iam", "us-east-1", "2010-05-08", &form);
}

fn terraform(world: &mut World, step: &StepDeclaration) -> Taken {
    let stack = stack(step);
    let state = world.state(&stack);
    let mut taken = 0;
    for (kind, take) in RESOURCES {
        let managed =
            state["resources"].as_array().unwrap().iter().filter(|resource| resource["mode"] == "managed" && resource["type"] == kind);
        let instances = managed.flat_map(|resource| resource["instances"].as_array().unwrap());
        for instance in instances.take(OF_EACH_TYPE) {
            take(world.target, &instance["attributes"]);
            taken += 1;
        }
    }
    assert!(taken > 1, "the table has nothing to take out of {stack}: give one of its types a row");
    Taken { stacks: vec![stack], ..Taken::default() }
}

/// The last name of a step's stack, which is also its state's folder.
pub fn stack(step: &StepDeclaration) -> String {
    Path::new(step.with["stack"].as_str().unwrap()).file_name().unwrap().to_str().unwrap().to_owned()
}

/// Kinds of objects that are taken out of a release, one of each of the first two that it has.
const OBJECTS: [&str; 6] = ["deployments", "daemonsets", "networkpolicies", "rolebindings", "clusterroles", "configmaps"];
const KINDS: usize = 2;

fn release(world: &mut World, step: &StepDeclaration) -> Taken {
    let of_set = format!("applyset.kubernetes.io/part-of={}", set(step).id());
    let mut objects = Vec::new();
    for kind in OBJECTS {
        let found = world.target.kubectl(&["get", kind, "--all-namespaces", "-l", &of_set, "-o", "json"]);
        let found: Value = serde_json::from_str(&found).unwrap();
        let Some(object) = found["items"].as_array().unwrap().first() else { continue };
        let name = object["metadata"]["name"].as_str().unwrap();
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
        world.target.kubectl(&["delete", kind, name, "-n", namespace, "--wait=true"]);
        let group = object["apiVersion"].as_str().unwrap().split_once('/').map(|(group, _)| format!(".{group}")).unwrap_or_default();
        objects.push((kind.to_owned(), format!("{}{group}/{name}", object["kind"].as_str().unwrap().to_lowercase())));
        if objects.len() == KINDS {
            break;
        }
    }
    for job in step.with["jobs"].as_array().into_iter().flatten() {
        let of_job = format!("app.kubernetes.io/managed-by=deployctl,app.kubernetes.io/name={}", job["name"].as_str().unwrap());
        world.target.kubectl(&["delete", "jobs", "-n", step.with["agent"]["namespace"].as_str().unwrap(), "-l", &of_job]);
    }
    assert!(!objects.is_empty(), "the table has nothing to take out of {}: give one of its objects' kinds a row", step.id);
    Taken { objects, jobs: step.with["jobs"].is_array(), ..Taken::default() }
}

/// A release, and a migration where it has any.
fn service(world: &mut World, step: &StepDeclaration) -> Taken {
    if !step.with["migrations"].is_null() {
        world.add_migrations();
    }
    Taken { jobs: !step.with["migrations"].is_null(), ..release(world, step) }
}

fn set(step: &StepDeclaration) -> ApplySet {
    let text = |key: &str| step.with[key].as_str();
    match step.kind.as_str() {
        "chart" => ApplySet::new(&format!("chart-{}", text("release").unwrap()), text("namespace").unwrap()),
        "service" => ApplySet::new(text("service").unwrap(), "deployctl"),
        _ => ApplySet::new(text("applyset").unwrap_or(step.id.as_str()), text("namespace").unwrap_or("deployctl")),
    }
}
