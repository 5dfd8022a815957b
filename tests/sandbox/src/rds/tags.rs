//! AddTagsToResource, RemoveTagsFromResource, ListTagsForResource.
use super::{
    fault::Fault,
    ids::{Arn, Region},
    model::{AutomatedBackup, Instance, ParameterGroup, Snapshot, SubnetGroup, Tags},
    query::Params,
    service::Rds,
    xml::Body,
};

impl Rds {
    /// AddTagsToResource.
    pub(super) fn add_tags(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let new = params.tags();
        self.change_tags(region, params, |tags| tags.extend(new))?;
        Ok(Body::default())
    }

    /// RemoveTagsFromResource.
    pub(super) fn remove_tags(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let keys = params.list("TagKeys").unwrap_or_default();
        self.change_tags(region, params, |tags| tags.retain(|key, _| !keys.contains(key)))?;
        Ok(Body::default())
    }

    /// ListTagsForResource.
    pub(super) fn list_tags(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let tags = self.change_tags(region, params, |_| {})?;
        Ok(Body::default().list("TagList", "Tag", draw_tags(&tags)))
    }

    fn change_tags(&self, region: &Region, params: &Params, change: impl FnOnce(&mut Tags)) -> Result<Tags, Fault> {
        let named = params.need("ResourceName")?;
        let unknown =
            || Fault::invalid_value(format!("The specified resource name does not match an RDS resource in this region: {named}"));
        let arn = Arn::parse(named).filter(|arn| &arn.region == region).ok_or_else(unknown)?;
        let name = arn.name.as_str();
        let mut after = None;
        let keep = |tags: &mut Tags| {
            change(tags);
            after = Some(tags.clone());
        };
        match arn.kind.as_str() {
            "db" => self.update::<Instance>(region, name, |one| keep(&mut one.tags)).map(|_| ()),
            "snapshot" => self.update::<Snapshot>(region, name, |one| keep(&mut one.tags)).map(|_| ()),
            "subgrp" => self.update::<SubnetGroup>(region, name, |one| keep(&mut one.tags)).map(|_| ()),
            "pg" => self.update::<ParameterGroup>(region, name, |one| keep(&mut one.tags)).map(|_| ()),
            "auto-backup" => {
                let found = super::backups::find_backup(&self.records(), region, named).ok_or_else(unknown)?;
                self.update::<AutomatedBackup>(region, found.resource.as_str(), |one| keep(&mut one.tags)).map(|_| ())
            }
            _ => return Err(unknown()),
        }?;
        let missing = match arn.kind.as_str() {
            "db" => Fault::instance_not_found(name),
            "snapshot" => Fault::snapshot_not_found(name),
            "subgrp" => Fault::not_found("DBSubnetGroupNotFoundFault", format!("DB subnet group '{name}' does not exist.")),
            _ => unknown(),
        };
        after.ok_or(missing)
    }
}

/// The elements `Tag`.
pub fn draw_tags(tags: &Tags) -> impl Iterator<Item = Body> {
    tags.iter().map(|(key, value)| Body::default().text("Key", key).text("Value", value))
}
