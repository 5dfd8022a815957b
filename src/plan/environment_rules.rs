//! What an environment file may not say although its types are right: each rule keeps somebody from a bad day.
use std::path::Path;

use super::{
    environment::{Environment, KafkaSecurity, Standby, Strategy},
    environment_forms,
    locate::{Key, Located},
    problem::Problem,
};

/// The release of the chart that brings Rollouts, in our plan file.
const ARGO_ROLLOUTS: &str = "argo-rollouts";

/// Every rule that the file breaks.
pub fn check(environment: &Environment, located: &Located, path: &Path) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse = |keys: &[Key], message: String, hint: &str| {
        let problem = Problem::new(located.value(keys), message);
        problems.push(if hint.is_empty() { problem } else { problem.hint(hint) });
    };
    if environment.version != 1 {
        refuse(&["version".into()], format!("version {} is not known; this deployctl reads version 1", environment.version), "");
    }
    if path.file_stem().and_then(|stem| stem.to_str()) != Some(environment.name.as_str()) {
        refuse(
            &["name".into()],
            format!("the environment is called `{}`, its file is not", environment.name),
            "name and file name must be equal",
        );
    }
    if environment.aws.region == environment.aws.dr_region {
        refuse(&["aws".into(), "dr_region".into()], "a lost region cannot be restored into itself".to_owned(), "name another region");
    }
    for (at, cidr) in environment.cluster.public_access_cidrs.iter().enumerate() {
        let keys = ["cluster".into(), "public_access_cidrs".into(), at.into()];
        match cidr_prefix(cidr) {
            None => refuse(&keys, format!("`{cidr}` is no CIDR block"), "as in 203.0.113.0/24"),
            Some(0..8) => refuse(
                &keys,
                format!("`{cidr}` lets everybody reach the cluster's endpoint"),
                "name the networks that need it, or leave the list empty",
            ),
            Some(_) => {}
        }
    }
    match cidr_prefix(&environment.network.cidr) {
        Some(16..=20) => {}
        Some(_) => refuse(&["network".into(), "cidr".into()], "a VPC's CIDR block has a prefix from /16 to /20 here".to_owned(), ""),
        None => {
            refuse(&["network".into(), "cidr".into()], format!("`{}` is no CIDR block", environment.network.cidr), "as in 10.40.0.0/16")
        }
    }
    let recovery = &environment.recovery;
    match recovery.cidr.as_deref().map(cidr_prefix) {
        Some(Some(16..=20)) => {}
        Some(_) => refuse(&["recovery".into(), "cidr".into()], "it must be a CIDR block with a prefix from /16 to /20".to_owned(), ""),
        None if recovery.standby != Standby::Backups => {
            let message = "what waits there needs addresses for its network: `cidr` is missing".to_owned();
            refuse(&["recovery".into(), "standby".into()], message, "as in cidr: 10.41.0.0/16, other ones than network.cidr");
        }
        None => {}
    }
    if recovery.cidr.as_ref() == Some(&environment.network.cidr) {
        let message = "the two regions' networks could never be connected: they have the same addresses".to_owned();
        refuse(&["recovery".into(), "cidr".into()], message, "name other ones than network.cidr");
    }
    let nodes = environment.cluster.nodes;
    if !(nodes.min <= nodes.desired && nodes.desired <= nodes.max && nodes.max > 0) {
        let message = format!("min {} <= desired {} <= max {} does not hold", nodes.min, nodes.desired, nodes.max);
        refuse(&["cluster".into(), "nodes".into()], message, "");
    }
    if environment.cluster.access_entries.is_empty() {
        refuse(
            &["cluster".into(), "access_entries".into()],
            "nobody could use the cluster".to_owned(),
            "EKS gives its creator no rights by itself",
        );
    }
    let database = &environment.database;
    if database.storage_gib.initial > database.storage_gib.max || database.storage_gib.initial < 20 {
        refuse(&["database".into(), "storage_gib".into()], "storage starts at 20 GiB or more and ends at `max`".to_owned(), "");
    }
    let mut days = |keys: [Key; 2], value: u32, least: u32, most: u32| {
        if !(least..=most).contains(&value) {
            refuse(&keys, format!("{value} days; it must be {least} to {most}"), "");
        }
    };
    days(["database".into(), "backup_days".into()], database.backup_days, 1, 35);
    days(["network".into(), "flow_log_days".into()], environment.network.flow_log_days, 0, 3653);
    days(["storage".into(), "current_to_glacier_days".into()], environment.storage.current_to_glacier_days, 1, 36_500);
    days(["storage".into(), "noncurrent_to_glacier_days".into()], environment.storage.noncurrent_to_glacier_days, 1, 36_500);
    days(["observability".into(), "retention_days".into()], environment.observability.retention_days, 1, 400);
    if !(2..=6).contains(&environment.network.availability_zones) {
        let message = format!("{} availability zones; it must be 2 to 6", environment.network.availability_zones);
        refuse(&["network".into(), "availability_zones".into()], message, "RDS and EKS both ask for two");
    }
    // The two lifecycle moves would meet on the same object.
    if environment.storage.noncurrent_to_glacier_days >= environment.storage.current_to_glacier_days {
        let message = "noncurrent versions must move to Glacier before current objects do".to_owned();
        refuse(&["storage".into(), "noncurrent_to_glacier_days".into()], message, "one object cannot move twice to the same class");
    }
    for (name, service) in &environment.services {
        if service.replicas.min == 0 || service.replicas.min > service.replicas.max {
            let keys = ["services".into(), name.as_str().into(), "replicas".into()];
            refuse(&keys, format!("1 <= min {} <= max {} does not hold", service.replicas.min, service.replicas.max), "");
        }
        // The step that would find it missing comes after the cluster and the database.
        let charts = &environment.charts;
        if service.strategy != Strategy::Rolling
            && !charts.skip.contains_key(ARGO_ROLLOUTS)
            && !charts.chosen.iter().any(|chosen| chosen == ARGO_ROLLOUTS)
        {
            let keys = ["services".into(), name.as_str().into(), "strategy".into()];
            let hint = "put argo-rollouts under charts.chosen; or, where the cluster has it already, under charts.skip with the reason";
            refuse(&keys, "blue-green and canary need Argo Rollouts".to_owned(), hint);
        }
        let grows = service.canary.is_sorted_by(|before, after| before < after);
        if !(1..=5).contains(&service.canary.len()) || !grows || service.canary.iter().any(|share| !(1..=99).contains(share)) {
            let keys = ["services".into(), name.as_str().into(), "canary".into()];
            refuse(&keys, "one to five shares from 1 to 99 per cent, each larger than the one before".to_owned(), "as in [20, 50]");
        }
    }
    let kafka = &environment.kafka;
    if kafka.replication_factor < 1 || kafka.partitions < 1 {
        refuse(&["kafka".into(), "replication_factor".into()], "replication factor and partitions start at 1".to_owned(), "");
    }
    if kafka.security == KafkaSecurity::SaslPlaintext && !kafka.bootstrap_servers.split(',').all(|server| server.contains(".internal:")) {
        let hint = "use sasl-ssl; plain text is for brokers under .internal, as in the sandbox";
        refuse(&["kafka".into(), "security".into()], "the API key would travel in plain text".to_owned(), hint);
    }
    for (keys, message, hint) in environment_forms::check(environment) {
        refuse(&keys, message, hint);
    }
    problems
}

/// The prefix length of an IPv4 or IPv6 block.
fn cidr_prefix(text: &str) -> Option<u8> {
    let (address, prefix) = text.split_once('/')?;
    let address: std::net::IpAddr = address.parse().ok()?;
    let prefix: u8 = prefix.parse().ok()?;
    (prefix <= if address.is_ipv4() { 32 } else { 128 }).then_some(prefix)
}
