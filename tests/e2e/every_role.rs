//! The roles of people and of deployctl itself, over a whole life of an environment: made, changed, planned, restored elsewhere and destroyed. What
//! their policies allow is what was seen then, or stands in a table with the reason why a sandbox cannot show it.
use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ecr::types::{ImageScanningConfiguration, ImageTagMutability};
use serde_json::Value;

use super::{
    canary::Canaries,
    commands::block_on,
    copy::Copy,
    database, images, killed, least_privilege,
    permissions::{DEPLOYER_SESSION, committed, grant, own},
    services,
    target::Target,
    unseen::UNSEEN,
};
use crate::replay::{Policy, Seen};

const ENVIRONMENT: &str = "plans/environments/sandbox.yaml";
/// Of terraform, each of which may have to be shown by itself.
const STACKS: usize = 4;

/// Lives that life, and compares.
pub fn does_what_it_may(target: &Target) {
    let secrets = Canaries::set(target);
    killed::is_taken_over(target);
    target.deployctl(&["apply", "--yes"]).expect(0);
    services::are_real(target, secrets.token());
    services::meet_the_rare(target, secrets.token());
    let mut wrong = least_privilege::left_over(target, |_| true);
    eprintln!("{wrong:#?}");
    least_privilege::ends_at_its_own(target);
    target.deployctl(&["doctor"]).expect(0);
    images::retire(target);
    let planner = while_granted(target, committed("planner.json"), || {
        target.deployctl(&["plan"]).expect(0);
    });
    target.deployctl(&["dr", "prepare", "--yes"]).expect(0);
    target.deployctl(&["dr", "drill", "--yes"]).expect(0);
    let on_call = while_granted(target, committed("on-call.json"), || {
        for looks in [&["status"][..], &["history"], &["lock", "status"], &["dr", "status"]] {
            target.deployctl(looks).expect(0);
        }
        target.deployctl(&["dr", "restore", "--to", "eu-west-1", "--latest", "--yes"]).expect(0);
    });
    database::is_brought_back(target);
    is_changed(target);
    is_destroyed(target);
    let deployer = Seen::of(&target.requests(), DEPLOYER_SESSION);
    let roles =
        [("deployer", own(), deployer), ("planner", committed("planner.json"), planner), ("on-call", committed("on-call.json"), on_call)];
    wrong.extend(roles.iter().flat_map(|(name, policy, seen)| compared(name, policy, seen)));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What the role did while it had another policy.
fn while_granted(target: &Target, policy: Value, work: impl FnOnce()) -> Seen {
    grant(target, policy, |_| true);
    let from = target.requests().len();
    work();
    let seen = Seen::of(&target.requests()[from..], DEPLOYER_SESSION);
    grant(target, own(), |_| true);
    seen
}

/// Somebody has weakened what no stack owns.
fn is_weakened(target: &Target) {
    let config = target.sdk("us-east-1");
    block_on(async {
        let table = aws_sdk_dynamodb::Client::new(&config).update_table().table_name("deployctl-sandbox-state-lock");
        table.deletion_protection_enabled(false).send().await.unwrap();
        let ecr = aws_sdk_ecr::Client::new(&config);
        let mutable = ecr.put_image_tag_mutability().repository_name("deployctl-sandbox/parser");
        mutable.image_tag_mutability(ImageTagMutability::Mutable).send().await.unwrap();
        let unscanned = ecr.put_image_scanning_configuration().repository_name("deployctl-sandbox/parser");
        unscanned.image_scanning_configuration(ImageScanningConfiguration::builder().build()).send().await.unwrap();
    });
}

/// Where one step makes something, those that need it are planned again, and stop (13) at what nobody was shown: the same command shows it.
fn applied(target: &Target, project: &Copy) {
    let apply = || target.deployctl(&["apply", "--yes", "--project", project.folder()]);
    let ended = (1..STACKS).map(|_| apply()).find(|ended| ended.code != Some(13));
    ended.unwrap_or_else(apply).expect(0);
}

/// Everything that an environment file can change in place, there and back again.
fn is_changed(target: &Target) {
    is_weakened(target);
    let copy = Copy::new();
    for (from, to) in [
        ("flow_log_days: 7", "flow_log_days: 14"),
        ("nat_gateways: single", "nat_gateways: per-zone"),
        ("public_access_cidrs: [198.18.0.0/15]", "public_access_cidrs: [198.18.0.0/16, 198.19.0.0/16]"),
        ("user/person\n      policy: AmazonEKSClusterAdminPolicy", "user/person\n      policy: AmazonEKSAdminPolicy"),
        ("nodes: { min: 1, desired: 1, max: 1 }", "nodes: { min: 1, desired: 1, max: 2 }"),
        ("max: 100 }", "max: 120 }"),
        ("backup_days: 7", "backup_days: 8"),
        ("current_to_glacier_days: 90", "current_to_glacier_days: 120"),
        ("disk_gib: 50", "disk_gib: 60"),
        ("tags: { team: deployctl }", "tags: { team: deployctl, changed: \"yes\" }\nguards: { max_deletions: 50, protected: [] }"),
    ] {
        copy.replace(ENVIRONMENT, from, to);
    }
    // And what a later release of the stacks may bring.
    for (stack, from, to) in [
        ("data/keys.tf", "Sid       = \"GovernedByIam\"", "Sid       = \"ByIam\""),
        ("data/keys.tf", "\"Database and its backups of", "\"The database and its backups of"),
        ("data/database.tf", "\"log_lock_waits\"                      = \"1\"\n", ""),
        ("data/database.tf", "\"PostgreSQL from the nodes\"", "\"PostgreSQL, from the nodes\""),
        ("data/secrets.tf", "\"Value written by", "\"Written by"),
        ("data/database.tf", "retention_in_days = 30", "retention_in_days = 14"),
        ("data/queues.tf", "message_retention_seconds = 604800", "message_retention_seconds = 518400"),
        ("identity/main.tf", "description = \"Service account", "description = \"The service account"),
        (
            "identity/main.tf",
            "Effect    = \"Allow\"\n      Action    = \"sts",
            "Sid       = \"Pods\"\n      Effect    = \"Allow\"\n      Action    = \"sts",
        ),
        ("cluster/addons.tf", "enableNetworkPolicy = \"true\"", "enableNetworkPolicy = \"true\", enableWindowsIpam = \"false\""),
        (
            "network/main.tf",
            "route_table_ids   = module.vpc.private_route_table_ids",
            "route_table_ids   = concat(module.vpc.private_route_table_ids, module.vpc.public_route_table_ids)",
        ),
    ] {
        copy.replace(&format!("terraform/{stack}"), from, to);
    }
    applied(target, &copy);
    // Back again, but for what may only grow.
    let back = Copy::new();
    back.replace(ENVIRONMENT, "max: 100 }", "max: 120 }");
    back.replace(ENVIRONMENT, "tags: {", "guards: { max_deletions: 50, protected: [] }\ntags: {");
    applied(target, &back);
}

/// Everything goes, the data too.
fn is_destroyed(target: &Target) {
    let copy = Copy::new();
    for (from, to) in [
        ("deletion_protection: true", "deletion_protection: false"),
        ("max: 100 }", "max: 120 }"),
        ("tags: {", "guards: { max_deletions: 500, protected: [] }\ntags: {"),
    ] {
        copy.replace(ENVIRONMENT, from, to);
    }
    applied(target, &copy);
    let data = ["--include-data", "--confirm-data", "deployctl-sandbox-uploads-111122223333"];
    target.deployctl(&[&["destroy", "--confirm", "sandbox", "--project", copy.folder()], &data[..]].concat()).expect(0);
}

/// Where policy, record and table disagree.
fn compared(name: &str, document: &Value, seen: &Seen) -> Vec<String> {
    let policy = Policy::of([document]);
    let rows = UNSEEN.iter().filter(|row| row.policies.contains(&name));
    let known: BTreeMap<String, &str> = rows.flat_map(|row| row.actions.iter().map(|action| ((*action).to_owned(), row.why))).collect();
    let unused: BTreeSet<String> = policy.unused_actions(&seen.uses).into_iter().map(|(sid, action)| format!("{sid} {action}")).collect();
    eprintln!("{name}: {} actions, {} of them not seen here", policy.actions(), unused.len());
    let beyond = policy.beyond(&seen.uses);
    let beyond = beyond.iter().map(|used| format!("{name} did {used:?}, which is not in its policy"));
    let unexplained = unused.iter().filter(|action| !known.contains_key(*action));
    let unexplained = unexplained.map(|action| format!("{name}: {action} was not seen, and the table does not say why"));
    let stale = known.iter().filter(|(action, _)| !unused.contains(*action));
    let stale = stale.map(|(action, why)| format!("{name}: {action} was seen, or is not allowed, and the table says: {why}"));
    beyond.chain(unexplained).chain(stale).collect()
}
