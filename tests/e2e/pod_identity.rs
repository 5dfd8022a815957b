//! Pod Identity instead of IRSA: the same stacks and templates, one key of the plan file, there and back again.
use std::collections::BTreeSet;

use serde_json::Value;

use super::{canary::Canaries, commands::block_on, copy::Copy, permissions, target::Target};
use crate::replay::{Policy, Seen};

const STEPS: &str = "backend,network,cluster,data,identity,images,namespace,config,uploader,parser,smoke";
const PLAN: &str = "plans/deploy.yaml";
const READER: &str = "deployctl-sandbox-external-secrets-external-secrets";
/// Whose roles External Secrets becomes.
const WITH_SECRETS: [&str; 3] = ["deployctl-sandbox-apps-parser", "deployctl-sandbox-apps-uploader", "deployctl-sandbox-deployctl-agent"];

/// From nothing to the smoke test by associations; nobody shows a token to STS.
pub fn gives_pods_their_roles(target: &Target) {
    let copy = Copy::new();
    copy.replace(PLAN, "\ncredentials: irsa\n", "\ncredentials: pod-identity\n");
    Canaries::set(target);
    let apply = ["apply", "--yes", "--project", copy.folder(), "--only", STEPS];
    let applied = target.deployctl(&apply).expect(0);
    reaches_every_hop(&applied.err);
    for checked in
        ["roles trust EKS for exactly their service accounts", "roles are given to their own service accounts and refused to others"]
    {
        assert!(applied.err.contains(checked), "{checked:?} was not checked:\n{}", applied.err);
    }
    nobody_used_a_web_identity(target);
    accounts_say_nothing_themselves(target);
    assert_eq!(
        variables(target, "uploader"),
        BTreeSet::from(["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"])
    );
    external_secrets_becomes_those_it_reads_for(target);
    what_the_deployer_did_is_in_its_policy(target);
    let again = target.deployctl(&apply).expect(0);
    assert!(format!("{}{}", again.out, again.err).contains("Nothing had to be changed"), "{}{}", again.out, again.err);
    a_lost_association_comes_back(target, &copy);
}

fn reaches_every_hop(said: &str) {
    for hop in ["upload", "parser", "postgres", "kafka", "sqs", "removed"] {
        assert!(said.contains(&format!("checked {hop}: ")), "no hop {hop}:\n{said}");
    }
}

fn nobody_used_a_web_identity(target: &Target) {
    let requests = target.requests();
    let of = |wanted: &str| requests.iter().filter(|one| one["action"].as_str().is_some_and(|action| action.ends_with(wanted))).count();
    assert_eq!(of("AssumeRoleWithWebIdentity"), 0);
    // Each role once for its check, a stranger for each, and what pods asked for.
    assert!(of("AssumeRoleForPodIdentity") > 12, "{}", of("AssumeRoleForPodIdentity"));
}

fn accounts_say_nothing_themselves(target: &Target) {
    let listed =
        target.kubectl(&["get", "serviceaccounts", "--all-namespaces", "-l", "app.kubernetes.io/managed-by=deployctl", "-o", "json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let accounts = listed["items"].as_array().unwrap();
    assert!(
        accounts.len() >= 6 && accounts.iter().all(|one| one["metadata"]["annotations"]["eks.amazonaws.com/role-arn"].is_null()),
        "{listed}"
    );
    assert_eq!(associations(target).len(), accounts.len(), "one association for each");
    let left = target.kubectl(&["get", "pods", "--all-namespaces", "-l", "app.kubernetes.io/managed-by=deployctl", "-o", "name"]);
    assert!(!left.contains("deployctl-asks-"), "pods that never started are still there: {left}");
}

/// Ids of associations, by namespace and account.
fn associations(target: &Target) -> Vec<(String, String)> {
    let client = aws_sdk_eks::Client::new(&target.sdk("us-east-1"));
    let found = block_on(client.list_pod_identity_associations().cluster_name("deployctl-sandbox").send()).unwrap();
    let one = |found: &aws_sdk_eks::types::PodIdentityAssociationSummary| {
        let account = format!("{}/{}", found.namespace().unwrap(), found.service_account().unwrap());
        (account, found.association_id().unwrap().to_owned())
    };
    found.associations().iter().map(one).collect()
}

/// Those by which an SDK finds a role, of the pods that stay.
fn variables(target: &Target, service: &str) -> BTreeSet<&'static str> {
    let label = format!("app.kubernetes.io/name={service}");
    let pods = target.kubectl(&["-n", "apps", "get", "pods", "-l", &label, "--field-selector", "status.phase=Running", "-o", "json"]);
    let pods: serde_json::Value = serde_json::from_str(&pods).unwrap();
    let stays = |pod: &&serde_json::Value| pod["metadata"]["deletionTimestamp"].is_null();
    let kept: String = pods["items"].as_array().unwrap().iter().filter(stays).map(|pod| pod["spec"]["containers"].to_string()).collect();
    let known =
        ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"];
    known.into_iter().filter(|name| kept.contains(&format!("\"{name}\""))).collect()
}

fn external_secrets_becomes_those_it_reads_for(target: &Target) {
    let seen = Seen::of(&target.requests(), &format!("assumed-role/{READER}"));
    for action in ["sts:AssumeRole", "sts:TagSession"] {
        let roles: BTreeSet<&str> =
            seen.uses.iter().filter(|used| used.action == action).filter_map(|used| used.resource.rsplit('/').next()).collect();
        assert_eq!(roles, BTreeSet::from(WITH_SECRETS), "{action}");
    }
    for role in WITH_SECRETS {
        let as_them = Seen::of(&target.requests(), &format!("assumed-role/{role}"));
        assert!(as_them.uses.iter().any(|used| used.action == "secretsmanager:GetSecretValue"), "{role} has read no secret");
        assert!(as_them.refused.is_empty(), "{role} was refused {:?}", as_them.refused);
    }
    let others: Vec<_> = seen.uses.iter().filter(|used| !used.action.starts_with("sts:")).collect();
    assert!(others.is_empty(), "External Secrets did something as itself: {others:?}");
}

/// And what is for Pod Identity alone was needed.
fn what_the_deployer_did_is_in_its_policy(target: &Target) {
    let seen = Seen::of(&target.requests(), permissions::DEPLOYER_SESSION);
    let policy = Policy::of([&permissions::own()]);
    assert!(policy.beyond(&seen.uses).is_empty(), "{:?}", policy.beyond(&seen.uses));
    let unused: Vec<String> =
        policy.unused_actions(&seen.uses).into_iter().filter(|(sid, _)| sid == "Step5PodIdentity").map(|(_, action)| action).collect();
    assert_eq!(unused, ["eks:DeletePodIdentityAssociation", "eks:UpdatePodIdentityAssociation"], "these are for changes");
}

/// Somebody takes one away: terraform sees it, and the account is checked again.
fn a_lost_association_comes_back(target: &Target, copy: &Copy) {
    let client = aws_sdk_eks::Client::new(&target.sdk("us-east-1"));
    let (_, id) = associations(target).into_iter().find(|(account, _)| account == "apps/uploader").unwrap();
    block_on(client.delete_pod_identity_association().cluster_name("deployctl-sandbox").association_id(id).send()).unwrap();
    let plan = target.deployctl(&["plan", "--project", copy.folder(), "--only", "identity", "--detailed-exitcode"]).expect(2);
    assert!(plan.out.contains("aws_eks_pod_identity_association.service_account[\"apps/uploader\"]"), "{}", plan.out);
    copy.apply(target, "identity").expect(0);
    assert!(associations(target).iter().any(|(account, _)| account == "apps/uploader"));
}

/// And back to IRSA: pods that were started with associations are made anew.
pub fn gives_way_to_irsa(target: &Target) {
    let copy = Copy::new();
    // Associations, the reader's policy and the agent's add-on go.
    copy.replace("plans/environments/sandbox.yaml", "tags: {", "guards: { max_deletions: 20, protected: [] }\ntags: {");
    let applied = target.deployctl(&["apply", "--yes", "--project", copy.folder(), "--only", STEPS]).expect(0);
    reaches_every_hop(&applied.err);
    assert_eq!(associations(target).len(), 0);
    for service in ["uploader", "parser"] {
        assert_eq!(variables(target, service), BTreeSet::from(["AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"]), "{service}");
    }
}
