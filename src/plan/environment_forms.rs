//! Forms of an environment file's values that AWS, Kubernetes and the stacks ask for: a mistake is found before anything runs, and at its line.
use super::{
    environment::{Environment, KafkaSecurity},
    ingress_forms,
    locate::Key,
};

/// A value that is not of the form that is asked for: where, what, and how it is right.
pub type Misformed = (Vec<Key>, String, &'static str);

/// CloudWatch Logs keeps logs for one of these numbers of days; 0 turns them off.
const RETENTIONS: [u32; 23] = [0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];
/// EKS' own access policies that the cluster stack takes.
const ACCESS_POLICIES: [&str; 5] =
    ["AmazonEKSClusterAdminPolicy", "AmazonEKSAdminPolicy", "AmazonEKSEditPolicy", "AmazonEKSViewPolicy", "AmazonEKSAdminViewPolicy"];

macro_rules! at {
    ($($key:expr),+) => { vec![$(Key::from($key)),+] };
}

/// Everything that has another form.
pub fn check(environment: &Environment) -> Vec<Misformed> {
    let mut wrong = Vec::new();
    account(environment, &mut wrong);
    network(environment, &mut wrong);
    cluster(environment, &mut wrong);
    database(environment, &mut wrong);
    services(environment, &mut wrong);
    for (key, value) in &environment.tags {
        let reserved = ["aws:", "deployctl:"].iter().any(|start| key.to_lowercase().starts_with(start));
        if reserved || key.is_empty() || key.chars().count() > 128 || value.chars().count() > 256 {
            let message = format!("the tag `{key}` is reserved or too long");
            wrong.push((
                at!["tags", key.as_str()],
                message,
                "AWS keeps aws: for itself, deployctl deployctl:; a key has 128 characters, a value 256",
            ));
        }
    }
    wrong
}

fn account(environment: &Environment, wrong: &mut Vec<Misformed>) {
    let name = environment.name.as_str();
    if name.len() > 14 {
        wrong.push((at!["name"], format!("`{name}` has {} characters", name.len()), "14 at most: roles are named after it"));
    }
    let aws = &environment.aws;
    if let Some(role) = &aws.deployer_role_arn {
        let rest = role.as_str().split_once(":role/").map_or("", |(_, rest)| rest);
        if role.as_str().split(':').nth(4) != Some(aws.account_id.as_str()) {
            wrong.push((
                at!["aws", "deployer_role_arn"],
                format!("{role} is not in account {}", aws.account_id),
                "a role of aws.account_id",
            ));
        } else if rest.is_empty() || rest.contains(['*', '?']) {
            wrong.push((at!["aws", "deployer_role_arn"], format!("`{role}` names no role"), "as terraform/bootstrap prints it"));
        }
    }
}

fn network(environment: &Environment, wrong: &mut Vec<Misformed>) {
    let cidr = &environment.network.cidr;
    let block =
        cidr.split_once('/').and_then(|(address, prefix)| Some((address.parse::<std::net::Ipv4Addr>().ok()?, prefix.parse::<u32>().ok()?)));
    if let Some((address, prefix)) = block.filter(|(_, prefix)| (16..=20).contains(prefix))
        && u32::from(address) & (u32::MAX >> prefix) != 0
    {
        let first = std::net::Ipv4Addr::from(u32::from(address) & !(u32::MAX >> prefix));
        wrong.push((at!["network", "cidr"], format!("`{cidr}` is no network: its first address is {first}"), "as in 10.40.0.0/16"));
    }
    let days = environment.network.flow_log_days;
    if !RETENTIONS.contains(&days) {
        wrong.push((
            at!["network", "flow_log_days"],
            format!("CloudWatch keeps no logs for {days} days"),
            "0, 7, 14, 30, 90, 365 and some others",
        ));
    }
}

fn cluster(environment: &Environment, wrong: &mut Vec<Misformed>) {
    let cluster = &environment.cluster;
    if !is_minor_version(&cluster.version) {
        wrong.push((at!["cluster", "version"], format!("`{}` is no minor version of Kubernetes", cluster.version), "as in \"1.34\""));
    }
    for (index, cidr) in cluster.public_access_cidrs.iter().enumerate() {
        if cidr.contains(':') {
            wrong.push((at!["cluster", "public_access_cidrs", index], format!("`{cidr}` is no IPv4 network"), "EKS takes IPv4 here"));
        }
    }
    for (index, entry) in cluster.access_entries.iter().enumerate() {
        if !is_principal(&entry.principal_arn) {
            let message = format!("`{}` is no single role or user", entry.principal_arn);
            wrong.push((
                at!["cluster", "access_entries", index, "principal_arn"],
                message,
                "EKS knows no root, no wildcard and no session",
            ));
        }
        if !ACCESS_POLICIES.contains(&entry.policy.as_str()) {
            let message = format!("EKS has no access policy `{}`", entry.policy);
            wrong.push((
                at!["cluster", "access_entries", index, "policy"],
                message,
                "as AmazonEKSClusterAdminPolicy or AmazonEKSViewPolicy",
            ));
        }
        for (number, namespace) in entry.namespaces.iter().enumerate().filter(|(_, namespace)| !is_label(namespace)) {
            let keys = at!["cluster", "access_entries", index, "namespaces", number];
            wrong.push((keys, format!("`{namespace}` is no namespace"), "lower-case letters, digits and dashes"));
        }
        let same =
            |other: &&super::environment::AccessEntry| (&other.principal_arn, &other.policy) == (&entry.principal_arn, &entry.policy);
        if cluster.access_entries[..index].iter().any(|other| same(&other)) {
            let keys = at!["cluster", "access_entries", index];
            wrong.push((keys, "the same principal has the same policy above".to_owned(), "put its namespaces into one entry"));
        }
    }
    if cluster.instance_types.is_empty() {
        wrong.push((at!["cluster", "instance_types"], "there is no instance type".to_owned(), "as in [m7i.large]"));
    }
    let first = cluster.instance_types.first().is_some_and(|kind| is_graviton(kind));
    for (index, kind) in cluster.instance_types.iter().enumerate() {
        if !is_instance_type(kind) {
            wrong.push((at!["cluster", "instance_types", index], format!("`{kind}` is no instance type"), "as in m7i.large"));
        } else if is_graviton(kind) != first {
            let message = format!("`{kind}` is of another architecture than the first");
            wrong.push((at!["cluster", "instance_types", index], message, "images are built for one of them"));
        }
    }
    if cluster.nodes.min == 0 {
        wrong.push((at!["cluster", "nodes"], "there would be no node".to_owned(), "min is at least 1"));
    }
    if !(20..=16_384).contains(&cluster.disk_gib) {
        wrong.push((at!["cluster", "disk_gib"], format!("{} GiB; it must be 20 to 16384", cluster.disk_gib), ""));
    }
}

fn database(environment: &Environment, wrong: &mut Vec<Misformed>) {
    let database = &environment.database;
    let major = database.engine_version.parse::<u32>().ok().filter(|major| (13..=99).contains(major));
    if major.is_none() {
        let message = format!("`{}` is no major version of PostgreSQL", database.engine_version);
        wrong.push((at!["database", "engine_version"], message, "as in \"15\": AWS chooses the minor version"));
    }
    if !database.instance_class.strip_prefix("db.").is_some_and(is_instance_type) {
        wrong.push((at!["database", "instance_class"], format!("`{}` is no class", database.instance_class), "as in db.t4g.medium"));
    }
    let storage = database.storage_gib;
    if storage.max > 65_536 || u64::from(storage.max) * 10 < u64::from(storage.initial) * 11 {
        let hint = "RDS asks for a tenth more than `initial`, and takes 65536 at most";
        wrong.push((at!["database", "storage_gib"], format!("storage cannot grow from {} to {} GiB", storage.initial, storage.max), hint));
    }
}

fn services(environment: &Environment, wrong: &mut Vec<Misformed>) {
    let kafka = &environment.kafka;
    if !kafka.bootstrap_servers.split(',').all(is_server) {
        let message = format!("`{}` is no list of servers", kafka.bootstrap_servers);
        wrong.push((at!["kafka", "bootstrap_servers"], message, "host:port, several separated by commas"));
    }
    if kafka.retention_hours == 0 {
        wrong.push((at!["kafka", "retention_hours"], "events would be kept for no time".to_owned(), "one hour at least"));
    }
    if kafka.security == KafkaSecurity::SaslSsl && kafka.replication_factor < 2 {
        let message = "one broker lost would be events lost".to_owned();
        wrong.push((at!["kafka", "replication_factor"], message, "3 at Confluent, which refuses any other"));
    }
    for (name, service) in &environment.services {
        for (key, value) in [("cpu", &service.resources.cpu), ("memory", &service.resources.memory)] {
            if !is_quantity(value) {
                let keys = at!["services", name.as_str(), "resources", key];
                wrong.push((keys, format!("`{value}` is no quantity of Kubernetes"), "as in 250m or 256Mi"));
            }
        }
        for (field, message, hint) in ingress_forms::check(environment, &service.ingress) {
            wrong.push((at!["services", name.as_str(), "ingress", field], message, hint));
        }
    }
}

fn is_minor_version(text: &str) -> bool {
    text.strip_prefix("1.").is_some_and(|minor| minor.len() == 2 && minor.bytes().all(|b| b.is_ascii_digit()))
}

fn is_principal(arn: &str) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let [_, _, "iam", "", account, name] = parts.as_slice() else { return false };
    let named = ["role/", "user/"].iter().any(|kind| name.strip_prefix(kind).is_some_and(|name| !name.is_empty()));
    arn.starts_with("arn:aws") && account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()) && named && !name.contains(['*', '?'])
}

pub(super) fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// As in `m7i.large`.
fn is_instance_type(text: &str) -> bool {
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    text.split_once('.').is_some_and(|(family, size)| word(family) && word(size) && family.starts_with(|c: char| c.is_ascii_lowercase()))
}

/// A Graviton family has a `g` behind its number: m7g, t4g, c7gn.
fn is_graviton(kind: &str) -> bool {
    let rest = kind.trim_start_matches(|c: char| c.is_ascii_lowercase());
    rest.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with('g') && rest.starts_with(|c: char| c.is_ascii_digit())
}

fn is_server(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && !host.contains([' ', '/']) && port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// A positive number with one of Kubernetes' units.
fn is_quantity(text: &str) -> bool {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let units = ["", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"];
    number.parse::<f64>().is_ok_and(|number| number > 0.0) && units.contains(&&text[number.len()..])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::{collections::BTreeSet, path::Path};

    use serde_json::Value;

    use crate::plan::read::environment_from;

    const STAGING: &str = include_str!("../../plans/environments/staging.yaml");

    /// A mistake for every value of the file: the value's path, what is written, what somebody writes instead.
    const MISTAKES: [(&str, &str, &str); 54] = [
        ("version", "version: 1", "version: 2"),
        ("name", "name: staging", "name: staging-of-the-team"),
        ("aws.account_id", "account_id: \"444455556666\"", "account_id: \"44445555666\""),
        ("aws.region", "  region: us-east-1", "  region: virginia"),
        ("aws.dr_region", "dr_region: eu-west-1", "dr_region: us-east-1"),
        ("aws.deployer_role_arn", "deployer_role_arn: arn:aws:iam::444455556666", "deployer_role_arn: arn:aws:iam::111122223333"),
        ("aws.deployer_role_arn", ":role/deployctl-deployer\n  state", ":role/deployctl-*\n  state"),
        ("aws.state_lock", "state_lock: both", "state_lock: none"),
        ("network.cidr", "10.50.0.0/16", "10.50.1.0/16"),
        ("network.cidr", "10.50.0.0/16", "10.50.0.0/24"),
        ("network.availability_zones", "availability_zones: 2", "availability_zones: 1"),
        ("network.nat_gateways", "nat_gateways: single", "nat_gateways: none"),
        ("network.flow_log_days", "flow_log_days: 14", "flow_log_days: 15"),
        ("cluster.version", "\"1.34\"", "\"1.34.2\""),
        ("cluster.public_access_cidrs", "public_access_cidrs: []", "public_access_cidrs: [0.0.0.0/0]"),
        ("cluster.public_access_cidrs", "public_access_cidrs: []", "public_access_cidrs: [\"2001:db8::/32\"]"),
        ("cluster.access_entries.principal_arn", ":role/engineers", ":root"),
        ("cluster.access_entries.principal_arn", ":role/engineers", ":role/*"),
        ("cluster.access_entries.policy", "AmazonEKSAdminPolicy", "AdministratorAccess"),
        ("cluster.access_entries.namespaces", "namespaces: [apps, observability]", "namespaces: [Apps]"),
        ("cluster.instance_types", "[m7i.large, m6i.large]", "[m7i.large, m7g.large]"),
        ("cluster.instance_types", "[m7i.large, m6i.large]", "[large]"),
        ("cluster.instance_types", "[m7i.large, m6i.large]", "[]"),
        ("cluster.nodes.min", "nodes: { min: 2,", "nodes: { min: 0,"),
        ("cluster.nodes.desired", "desired: 2", "desired: 5"),
        ("cluster.nodes.max", "desired: 2, max: 4", "desired: 2, max: 1"),
        ("cluster.disk_gib", "disk_gib: 50", "disk_gib: 8"),
        ("database.engine_version", "engine_version: \"15\"", "engine_version: \"15.8\""),
        ("database.instance_class", "db.t4g.medium", "t4g.medium"),
        ("database.storage_gib.initial", "initial: 20", "initial: 10"),
        ("database.storage_gib.max", "max: 100 }", "max: 21 }"),
        ("database.multi_az", "multi_az: false", "multi_az: maybe"),
        ("database.backup_days", "backup_days: 7", "backup_days: 36"),
        ("database.replicate_backups", "replicate_backups: true", "replicate_backups: always"),
        ("database.deletion_protection", "deletion_protection: true", "deletion_protection: surely"),
        ("storage.current_to_glacier_days", "current_to_glacier_days: 90", "current_to_glacier_days: 0"),
        ("storage.noncurrent_to_glacier_days", "noncurrent_to_glacier_days: 30", "noncurrent_to_glacier_days: 90"),
        ("storage.replicate", "replicate: false", "replicate: 2"),
        ("recovery.standby", "standby: pilot-light", "standby: hot"),
        ("recovery.cidr", "cidr: 10.51.0.0/16", "cidr: 10.51.0.0/40"),
        ("kafka.bootstrap_servers", ":9092", ""),
        ("kafka.security", "security: sasl-ssl", "security: sasl-plaintext"),
        ("kafka.replication_factor", "replication_factor: 3", "replication_factor: 1"),
        ("kafka.retention_hours", "retention_hours: 72", "retention_hours: 0"),
        ("kafka.partitions", "partitions: 3", "partitions: 0"),
        ("services.strategy", "strategy: rolling", "strategy: canary"),
        ("services.replicas.min", "replicas: { min: 2, max: 4 }", "replicas: { min: 0, max: 4 }"),
        ("services.replicas.max", "replicas: { min: 2, max: 4 }", "replicas: { min: 2, max: 1 }"),
        ("services.resources.cpu", "cpu: 250m", "cpu: 250x"),
        ("services.resources.memory", "memory: 128Mi", "memory: lots"),
        ("observability.retention_days", "retention_days: 7", "retention_days: 0"),
        ("tags.team", "team: deployctl", "\"aws:team\": deployctl"),
        ("tags.environment", "environment: staging }", "\"deployctl:environment\": staging }"),
        ("an unknown key", "disk_gib: 50", "disk_gb: 50"),
    ];

    fn leaves(prefix: &str, value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(key, value)| leaves(&format!("{prefix}.{key}"), value, into)),
            Value::Array(items) if items.iter().any(Value::is_object) => items.iter().for_each(|item| leaves(prefix, item, into)),
            _ => drop(into.insert(prefix.trim_start_matches('.').to_owned())),
        }
    }

    #[test]
    fn a_mistake_in_any_value_is_found() {
        let path = Path::new("plans/environments/staging.yaml");
        environment_from(path, STAGING).unwrap();
        for (value, from, to) in MISTAKES {
            assert!(STAGING.contains(from), "{value}: {from}");
            let failure = environment_from(path, &STAGING.replacen(from, to, 1)).expect_err(&format!("{value}: {to}"));
            let said = failure.evidence.join("\n");
            assert!(said.contains("staging.yaml:"), "{value}: {to}: no line is named: {failure:?}");
        }
        let mut all = BTreeSet::new();
        let mut value: Value = serde_saphyr::from_str(STAGING).unwrap();
        // They have all the same keys.
        value["services"] = value["services"]["parser"].clone();
        leaves("", &value, &mut all);
        let tried: BTreeSet<String> = MISTAKES.iter().map(|(value, ..)| (*value).to_owned()).collect();
        let untried: Vec<_> = all.difference(&tried).collect();
        assert!(untried.is_empty(), "no mistake is tried in {untried:?}");
    }
}
