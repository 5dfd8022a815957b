//! EC2: objects and their tags, by the query protocol.
use std::collections::BTreeMap;

use super::{
    Aws,
    element::Element,
    signed::{Answer, Question},
};
use crate::failure::Failure;

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// As in `subnet-0123`.
    pub id: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A network interface in a VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkInterface {
    /// As in `eni-0123`.
    pub id: String,
    /// Services of AWS say here what it is for, as in `ELB app/NAME/ID`.
    pub description: String,
}

impl Aws {
    /// The environment's VPCs, by their tag.
    pub async fn vpcs_of(&self, environment: &str) -> Result<Vec<String>, Failure> {
        let tag = ("tag:deployctl:environment".to_owned(), environment.to_owned());
        let found = self.ec2_objects("DescribeVpcs", "vpcSet/item", &[tag]).await?;
        let ours = found.into_iter().filter(|vpc| vpc.tags().get("deployctl:environment").is_some_and(|name| name == environment));
        Ok(ours.filter_map(|vpc| vpc.text("vpcId").map(str::to_owned)).collect())
    }

    /// The network interfaces in a VPC.
    pub async fn network_interfaces(&self, vpc: &str) -> Result<Vec<NetworkInterface>, Failure> {
        let wanted = ("vpc-id".to_owned(), vpc.to_owned());
        let found = self.ec2_objects("DescribeNetworkInterfaces", "networkInterfaceSet/item", &[wanted]).await?;
        let there = found.into_iter().filter(|one| one.text("vpcId") == Some(vpc));
        let interface = |one: Element| {
            let description = one.text("description").unwrap_or_default().to_owned();
            one.text("networkInterfaceId").map(|id| NetworkInterface { id: id.to_owned(), description })
        };
        Ok(there.filter_map(interface).collect())
    }

    /// Subnets by id; an unknown id is an error of EC2's own.
    pub async fn subnets(&self, ids: &[String]) -> Result<Vec<Subnet>, Failure> {
        self.describe_subnets(ids.iter().enumerate().map(|(i, id)| (format!("SubnetId.{}", i + 1), id.clone())).collect()).await
    }

    /// Subnets that carry a tag.
    pub async fn subnets_tagged(&self, key: &str, value: &str) -> Result<Vec<Subnet>, Failure> {
        self.describe_subnets(filters(&[(format!("tag:{key}"), value.to_owned())])).await
    }

    async fn describe_subnets(&self, arguments: Vec<(String, String)>) -> Result<Vec<Subnet>, Failure> {
        let found = self.describe("DescribeSubnets", "subnetSet/item", &arguments).await?;
        let subnet = |item: Element| item.text("subnetId").map(|id| Subnet { id: id.to_owned(), tags: item.tags() });
        Ok(found.into_iter().filter_map(subnet).collect())
    }

    /// Objects that a describing action gives under every filter; `items` is the path to them in its answer. Some services behind the
    /// action ignore filters that they do not know, so the caller looks again.
    pub async fn ec2_objects(&self, action: &str, items: &str, wanted: &[(String, String)]) -> Result<Vec<Element>, Failure> {
        self.describe(action, items, &filters(wanted)).await
    }

    async fn describe(&self, action: &str, items: &str, arguments: &[(String, String)]) -> Result<Vec<Element>, Failure> {
        let full = format!("ec2:{action}");
        let mut found = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let headers = vec![("content-type", "application/x-www-form-urlencoded; charset=utf-8".to_owned())];
            let body = form(action, arguments, token.as_deref());
            let answer = match self.ask(&Question { service: "ec2", path: "", action: full.clone(), headers, body: &body }).await? {
                Answer::Done(text) => text,
                Answer::Refused { status, code, message } => return Err(self.refused(&full, status, &code, &message)),
            };
            let root = Element::parse(&answer).map_err(|e| Failure::step(format!("{full} could not be read")).because(e))?;
            found.extend(root.all(items).into_iter().cloned());
            token = root.text("nextToken").filter(|token| !token.is_empty()).map(str::to_owned);
            if token.is_none() {
                return Ok(found);
            }
        }
    }
}

/// Filters as arguments; EC2 reads `*`, `?` and `\` in a value as a pattern.
fn filters(wanted: &[(String, String)]) -> Vec<(String, String)> {
    let exactly = |value: &str| value.replace('\\', "\\\\").replace('*', "\\*").replace('?', "\\?");
    let numbered = wanted.iter().enumerate().flat_map(|(i, (name, value))| {
        [(format!("Filter.{}.Name", i + 1), name.clone()), (format!("Filter.{}.Value.1", i + 1), exactly(value))]
    });
    numbered.collect()
}

fn form(action: &str, arguments: &[(String, String)], token: Option<&str>) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("Action", action).append_pair("Version", "2016-11-15").extend_pairs(arguments);
    if let Some(token) = token {
        form.append_pair("NextToken", token);
    }
    form.finish()
}
