//! DB subnet groups.
use std::collections::BTreeSet;

use super::{
    fault::Fault,
    ids::{Region, arn},
    model::{Instance, Subnet, SubnetGroup},
    query::Params,
    service::Rds,
    xml::Body,
};

fn absent(name: &str) -> Fault {
    Fault::not_found("DBSubnetGroupNotFoundFault", format!("DB subnet group '{name}' does not exist."))
}

impl Rds {
    /// CreateDBSubnetGroup.
    pub(super) async fn create_subnet_group(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let name = params.need("DBSubnetGroupName")?.to_ascii_lowercase();
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_ ".contains(&byte);
        if name == "default" || name.len() > 255 || !name.bytes().all(plain) {
            return Err(Fault::invalid_value(format!("The parameter DBSubnetGroupName is not a valid name: {name}")));
        }
        let description = params.need("DBSubnetGroupDescription")?.to_owned();
        let subnets = self.subnets(region, params).await?;
        let vpc = subnets.first().map(|subnet| subnet.vpc.clone()).unwrap_or_default();
        let group = SubnetGroup { name, description, vpc, subnets, tags: params.tags() };
        let mut records = self.records();
        if records.get::<SubnetGroup>(region, &group.name).is_some() {
            return Err(Fault::refused("DBSubnetGroupAlreadyExists", format!("The DB subnet group '{}' already exists.", group.name)));
        }
        records.put(region, group.clone())?;
        Ok(Body::default().nested("DBSubnetGroup", draw_subnet_group(region, &group)))
    }

    async fn subnets(&self, region: &Region, params: &Params) -> Result<Vec<Subnet>, Fault> {
        let ids = params.list("SubnetIds").filter(|ids| !ids.is_empty()).ok_or_else(|| Fault::missing("SubnetIds"))?;
        let found = self.0.platform.subnets(region, &ids).await?;
        if let Some(unknown) = ids.iter().find(|id| !found.iter().any(|subnet| &subnet.id == *id)) {
            return Err(Fault::refused("InvalidSubnet", format!("The subnet ID '{unknown}' does not exist")));
        }
        let of = |field: fn(&Subnet) -> &String| found.iter().map(field).collect::<BTreeSet<_>>().len();
        if of(|subnet| &subnet.vpc) > 1 {
            return Err(Fault::refused("InvalidSubnet", "The subnets are not all in one VPC."));
        }
        if of(|subnet| &subnet.zone) < 2 {
            let message = "The DB subnet group doesn't meet Availability Zone (AZ) coverage requirement. Current AZ coverage is below 2. \
                           Add subnets to cover at least 2 AZs.";
            return Err(Fault::refused("DBSubnetGroupDoesNotCoverEnoughAZs", message));
        }
        Ok(found)
    }

    /// DescribeDBSubnetGroups.
    pub(super) fn describe_subnet_groups(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let groups: Vec<SubnetGroup> = match params.get("DBSubnetGroupName") {
            Some(name) => vec![self.records().get(region, &name.to_ascii_lowercase()).ok_or_else(|| absent(name))?],
            None => self.records().list(region),
        };
        params.paged("DBSubnetGroups", "DBSubnetGroup", groups, |group| draw_subnet_group(region, group))
    }

    /// ModifyDBSubnetGroup.
    pub(super) async fn modify_subnet_group(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let name = params.need("DBSubnetGroupName")?.to_ascii_lowercase();
        let subnets = self.subnets(region, params).await?;
        let description = params.get("DBSubnetGroupDescription").map(str::to_owned);
        let changed = self.update::<SubnetGroup>(region, &name, |group| {
            group.subnets = subnets;
            if let Some(description) = description {
                group.description = description;
            }
        })?;
        let group = changed.ok_or_else(|| absent(&name))?;
        Ok(Body::default().nested("DBSubnetGroup", draw_subnet_group(region, &group)))
    }

    /// DeleteDBSubnetGroup.
    pub(super) fn delete_subnet_group(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let name = params.need("DBSubnetGroupName")?.to_ascii_lowercase();
        let mut records = self.records();
        if records.list::<Instance>(region).iter().any(|one| one.subnet_group.as_ref() == Some(&name)) {
            let message = format!("Cannot delete the subnet group '{name}' because at least one database instance is still using it.");
            return Err(Fault::refused("InvalidDBSubnetGroupStateFault", message));
        }
        records.remove::<SubnetGroup>(region, &name)?.ok_or_else(|| absent(&name))?;
        Ok(Body::default())
    }
}

/// The element `DBSubnetGroup`.
pub fn draw_subnet_group(region: &Region, group: &SubnetGroup) -> Body {
    Body::default()
        .text("DBSubnetGroupName", &group.name)
        .text("DBSubnetGroupDescription", &group.description)
        .text("VpcId", &group.vpc)
        .text("SubnetGroupStatus", "Complete")
        .text("DBSubnetGroupArn", arn(region, "subgrp", &group.name))
        .values("SupportedNetworkTypes", "member", ["IPV4"])
        .list(
            "Subnets",
            "Subnet",
            group.subnets.iter().map(|subnet| {
                Body::default()
                    .text("SubnetIdentifier", &subnet.id)
                    .text("SubnetStatus", "Active")
                    .nested("SubnetAvailabilityZone", Body::default().text("Name", &subnet.zone))
                    .nested("SubnetOutpost", Body::default())
            }),
        )
}
