//! Part of `doctor`: whether account and regions have room for the environment and offer what it asks for; whether clock and cluster are reached.
use std::{net::ToSocketAddrs, sync::Arc, time::Duration};

use super::doctor::{Check, Status};
use crate::{
    aws::{Aws, quotas::Quota},
    cluster::Cluster,
    failure::Failure,
    plan::environment::{Environment, NatGateways},
};

const VPCS: Quota = Quota { service: "vpc", code: "L-F678F1CE" };
const ADDRESSES: Quota = Quota { service: "ec2", code: "L-0263D0A3" };
/// Virtual processors of running on-demand instances of the standard families (A, C, D, H, I, M, R, T, Z).
const PROCESSORS: Quota = Quota { service: "ec2", code: "L-1216C47A" };

/// Everything of this file, in the order in which it is shown.
pub(super) async fn checks(aws: &Arc<Aws>, environment: &Environment) -> Vec<Check> {
    let (clock, vpcs, addresses, processors, databases, zones, nodes, class, version, endpoint) = tokio::join!(
        clock(aws),
        vpcs(aws, environment),
        addresses(aws, environment),
        processors(aws, environment),
        databases(aws, environment),
        zones(aws, environment),
        instance_types(aws, environment),
        database_class(aws, environment),
        kubernetes(aws, environment),
        cluster_endpoint(aws, environment)
    );
    vec![clock, vpcs, addresses, processors, databases, zones, nodes, class, version, endpoint]
}

async fn clock(aws: &Aws) -> Check {
    match aws.clock_ahead().await {
        Ok(ahead) => clock_check(ahead),
        Err(failure) => Check::unknown("clock", &failure),
    }
}

/// AWS refuses signatures that are more than five minutes off.
fn clock_check(ahead: i64) -> Check {
    let off = format!("{} s {} AWS", ahead.abs(), if ahead < 0 { "behind" } else { "ahead of" });
    match ahead.abs() {
        0..=30 => Check::new("clock", Status::Ok, off),
        31..=240 => Check::new("clock", Status::Warning, off).fix("let NTP set this machine's clock"),
        _ => Check::new("clock", Status::Failed, format!("{off}: signatures are refused")).fix("let NTP set this machine's clock"),
    }
}

/// What there is, what of it is this environment's already, what the environment needs and what the account may have.
#[derive(Clone, Copy)]
struct Room {
    used: u64,
    own: u64,
    needed: u64,
    quota: f64,
}

/// The answer; `more` is what a growing environment would need.
fn room_check(name: &str, room: Room, more: Option<u64>, fix: &str) -> Check {
    let Room { used, own, needed, quota } = room;
    let others = used.saturating_sub(own);
    // Quotas are whole numbers, sent as floating ones.
    #[allow(clippy::cast_precision_loss, reason = "counts of things in one account")]
    let fits = |needed: u64| (others + needed) as f64 <= quota;
    let detail = format!("{needed} needed, {others} used by others, {quota} allowed");
    match (fits(needed), more.filter(|more| !fits(*more))) {
        (false, _) => Check::new(name, Status::Failed, detail).fix(fix),
        (true, Some(more)) => Check::new(name, Status::Warning, format!("{detail}; {more} needed at most")).fix(fix),
        (true, None) => Check::new(name, Status::Ok, detail),
    }
}

fn raise(quota: Quota, region: &Aws) -> String {
    format!(
        "aws service-quotas request-service-quota-increase --region {} --service-code {} --quota-code {} --desired-value N",
        region.region(),
        quota.service,
        quota.code
    )
}

fn is_own(environment: &Environment, thing: &crate::aws::Element) -> bool {
    thing.tags().get("deployctl:environment").is_some_and(|name| name == environment.name.as_str())
}

/// The things that a describing action of EC2 lists: all, and the environment's own.
async fn count(aws: &Aws, environment: &Environment, action: &str, items: &str) -> Result<(u64, u64), Failure> {
    let found = aws.ec2_objects(action, items, &[]).await?;
    let own = found.iter().filter(|thing| is_own(environment, thing)).count();
    Ok((found.len() as u64, own as u64))
}

async fn vpcs(aws: &Aws, environment: &Environment) -> Check {
    let look = async {
        let (quota, (used, own)) = tokio::try_join!(aws.quota(VPCS), count(aws, environment, "DescribeVpcs", "vpcSet/item"))?;
        Ok::<_, Failure>(Room { used, own, needed: 1, quota })
    };
    match look.await {
        Ok(room) => room_check("quota VPCs", room, None, &raise(VPCS, aws)),
        Err(failure) => Check::unknown("quota VPCs", &failure),
    }
}

async fn addresses(aws: &Aws, environment: &Environment) -> Check {
    let needed = match environment.network.nat_gateways {
        NatGateways::Single => 1,
        NatGateways::PerZone => environment.network.availability_zones.into(),
    };
    let look = async {
        let counted = count(aws, environment, "DescribeAddresses", "addressesSet/item");
        let (quota, (used, own)) = tokio::try_join!(aws.quota(ADDRESSES), counted)?;
        Ok::<_, Failure>(Room { used, own, needed, quota })
    };
    match look.await {
        Ok(room) => room_check("quota Elastic IPs", room, None, &raise(ADDRESSES, aws)),
        Err(failure) => Check::unknown("quota Elastic IPs", &failure),
    }
}

async fn processors(aws: &Aws, environment: &Environment) -> Check {
    let look = async {
        let Some(kind) = environment.cluster.instance_types.first() else {
            return Err(Failure::usage("cluster.instance_types is empty"));
        };
        let running = aws.ec2_objects("DescribeInstances", "reservationSet/item/instancesSet/item", &[]);
        // All three to their end: what is asked must not hang on which of them is refused first.
        let (quota, each, running) = tokio::join!(aws.quota(PROCESSORS), aws.virtual_processors(kind), running);
        let (quota, each, running) = (quota?, each?, running?);
        let each = each.ok_or_else(|| Failure::step(format!("EC2 knows no instance type {kind}")))?;
        let of = |instance: &crate::aws::Element| -> u64 {
            let number = |at| instance.text(at).and_then(|text| text.parse::<u64>().ok());
            number("cpuOptions/coreCount").unwrap_or(0) * number("cpuOptions/threadsPerCore").unwrap_or(1)
        };
        let running = running.iter().filter(|instance| instance.text("instanceState/name") == Some("running"));
        let (own, others): (Vec<_>, Vec<_>) = running.partition(|instance| is_own(environment, instance));
        let (own, others): (u64, u64) = (own.into_iter().map(of).sum(), others.into_iter().map(of).sum());
        let nodes = environment.cluster.nodes;
        let room = Room { used: own + others, own, needed: u64::from(nodes.desired) * each, quota };
        Ok((room, u64::from(nodes.max) * each))
    };
    match look.await {
        Ok((room, most)) => room_check("quota vCPUs", room, Some(most), &raise(PROCESSORS, aws)),
        Err(failure) => Check::unknown("quota vCPUs", &failure),
    }
}

async fn databases(aws: &Aws, environment: &Environment) -> Check {
    let look = async {
        let id = environment.db_instance_id().map_err(|e| Failure::usage("the environment's name").because(e))?;
        let ((quota, used), own) = tokio::try_join!(aws.db_instance_quota(), aws.db_instance(&id))?;
        #[allow(clippy::cast_precision_loss, reason = "counts of things in one account")]
        Ok::<_, Failure>(Room { used, own: u64::from(own.is_some()), needed: 1, quota: quota as f64 })
    };
    match look.await {
        Ok(room) => room_check("quota RDS instances", room, None, "ask for more: Service Quotas, Amazon RDS, DB instances"),
        Err(failure) => Check::unknown("quota RDS instances", &failure),
    }
}

async fn zones(aws: &Aws, environment: &Environment) -> Check {
    let wanted = usize::from(environment.network.availability_zones);
    match aws.availability_zones().await {
        Ok(zones) if zones.len() >= wanted => Check::new("zones", Status::Ok, format!("{} of {} are used", wanted, zones.len())),
        Ok(zones) => Check::new("zones", Status::Failed, format!("{} has {}: {}", aws.region(), zones.len(), zones.join(", ")))
            .fix(format!("set network.availability_zones to {} or less", zones.len())),
        Err(failure) => Check::unknown("zones", &failure),
    }
}

async fn instance_types(aws: &Aws, environment: &Environment) -> Check {
    let mut missing = Vec::new();
    for kind in &environment.cluster.instance_types {
        match aws.offers_instance_type(kind).await {
            Ok(true) => {}
            Ok(false) => missing.push(kind.as_str()),
            Err(failure) => return Check::unknown("instance types", &failure),
        }
    }
    if missing.is_empty() {
        return Check::new("instance types", Status::Ok, environment.cluster.instance_types.join(", "));
    }
    Check::new("instance types", Status::Failed, format!("{} does not offer {}", aws.region(), missing.join(", ")))
        .fix("choose others in cluster.instance_types: aws ec2 describe-instance-type-offerings")
}

async fn database_class(aws: &Aws, environment: &Environment) -> Check {
    let database = &environment.database;
    match aws.offers_db_class(&database.instance_class, &database.engine_version).await {
        Ok((true, standby)) if standby || !database.multi_az => {
            Check::new("database class", Status::Ok, format!("{} for PostgreSQL {}", database.instance_class, database.engine_version))
        }
        Ok((offered, _)) => {
            let what = if offered { "with a standby in another zone" } else { "at all" };
            let detail =
                format!("{} does not offer {} for PostgreSQL {} {what}", aws.region(), database.instance_class, database.engine_version);
            Check::new("database class", Status::Failed, detail).fix("choose another in database.instance_class")
        }
        Err(failure) => Check::unknown("database class", &failure),
    }
}

async fn kubernetes(aws: &Aws, environment: &Environment) -> Check {
    let version = &environment.cluster.version;
    match aws.offers_kubernetes(version).await {
        Ok(true) => Check::new("Kubernetes", Status::Ok, format!("EKS offers {version}")),
        Ok(false) => Check::new("Kubernetes", Status::Failed, format!("EKS offers no {version} in {}", aws.region()))
            .fix("set cluster.version to one of: aws eks describe-cluster-versions"),
        Err(failure) => Check::unknown("Kubernetes", &failure),
    }
}

/// Whether the API server can be spoken to from here. A private one answers inside its VPC, or through a tunnel.
async fn cluster_endpoint(aws: &Arc<Aws>, environment: &Environment) -> Check {
    const NAME: &str = "cluster endpoint";
    let private = environment.cluster.public_access_cidrs.is_empty();
    let name = match environment.cluster_name() {
        Ok(name) => name,
        Err(error) => return Check::unknown(NAME, &Failure::usage("the environment's name").because(error)),
    };
    let found = match aws.find_cluster(&name).await {
        Ok(Some(found)) if !found.endpoint.is_empty() => found,
        Ok(_) if private => {
            return Check::new(NAME, Status::Warning, "there is no cluster yet, and its endpoint will be private")
                .fix("run the first apply on a machine inside a VPC that reaches it, or name networks in cluster.public_access_cidrs");
        }
        Ok(_) => return Check::new(NAME, Status::Ok, "there is no cluster yet"),
        Err(failure) => return Check::unknown(NAME, &failure),
    };
    let address = url::Url::parse(&found.endpoint).ok().and_then(|url| Some((url.host_str()?.to_owned(), url.port_or_known_default()?)));
    let Some((host, port)) = address else {
        return Check::new(NAME, Status::Failed, format!("{} is no URL", found.endpoint));
    };
    let connect = tokio::time::timeout(Duration::from_secs(5), tokio::net::TcpStream::connect((host.as_str(), port))).await;
    if !matches!(connect, Ok(Ok(_))) {
        return Check::new(NAME, Status::Failed, format!("{host}:{port} does not answer from here")).fix(way_to(&host, private));
    }
    // A forgotten tunnel leads to another cluster, and any listener takes a connection: the certificate and our token say which one it is.
    let asked = async { Cluster::connect(aws, &name).await?.version().await };
    let way = if through_a_tunnel(&host, port) { "reached through a tunnel" } else { "reached" };
    match asked.await {
        Ok(version) => Check::new(NAME, Status::Ok, format!("{way}: Kubernetes {version}")),
        Err(failure) => {
            let check = Check::new(
                NAME,
                Status::Failed,
                format!("{host}:{port} is {way}, and does not answer as {name}: {}", failure.chain().join(": ")),
            );
            check.fix(if way == "reached" {
                failure.next.first().cloned().unwrap_or_else(|| way_to(&host, private))
            } else {
                way_to(&host, private)
            })
        }
    }
}

fn through_a_tunnel(host: &str, port: u16) -> bool {
    (host, port).to_socket_addrs().is_ok_and(|mut addresses| addresses.all(|address| address.ip().is_loopback()))
}

fn way_to(host: &str, private: bool) -> String {
    if !private {
        return "add this machine's network to cluster.public_access_cidrs, then: deployctl apply --only cluster".to_owned();
    }
    format!(
        "run deployctl inside the VPC; or, as root, with `127.0.0.1 {host}` in /etc/hosts: aws ssm start-session --target INSTANCE \
         --document-name AWS-StartPortForwardingSessionToRemoteHost --parameters host={host},portNumber=443,localPortNumber=443"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(used: u64, own: u64, needed: u64, more: Option<u64>) -> Status {
        room_check("q", Room { used, own, needed, quota: 5.0 }, more, "raise it").status
    }

    #[test]
    fn there_is_room_if_others_leave_it() {
        assert_eq!(status(4, 0, 1, None), Status::Ok);
        assert_eq!(status(5, 0, 1, None), Status::Failed);
        assert_eq!(status(5, 1, 1, None), Status::Ok, "what is the environment's own is not needed again");
        assert_eq!(status(2, 0, 2, Some(4)), Status::Warning, "it fits, and could not grow");
        assert_eq!(status(0, 0, 2, Some(4)), Status::Ok);
    }

    #[test]
    fn a_clock_may_be_half_a_minute_off() {
        let said = [0, 30, -31, 240, 241, -400].map(|ahead| clock_check(ahead).status);
        assert_eq!(said, [Status::Ok, Status::Ok, Status::Warning, Status::Warning, Status::Failed, Status::Failed]);
        assert_eq!(clock_check(-3).detail, "3 s behind AWS");
    }

    #[test]
    fn the_way_to_a_private_endpoint_is_said() {
        let way = way_to("abc.gr7.us-east-1.eks.amazonaws.com", true);
        assert!(way.contains("start-session") && way.contains("127.0.0.1 abc.gr7.us-east-1.eks.amazonaws.com"), "{way}");
        assert!(way_to("h", false).contains("public_access_cidrs"));
    }
}
