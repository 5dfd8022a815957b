//! DB parameter groups: what they hold, and how a change reaches the servers.
use std::collections::BTreeMap;

use super::{
    fault::Fault,
    ids::{Region, arn},
    model::{Instance, ParameterGroup, Status, Tags},
    postgres::{
        catalog::{self, Apply, Setting},
        session,
    },
    query::Params,
    service::Rds,
    xml::Body,
};

/// The group of instances that name none; it can't be changed.
pub const DEFAULT_GROUP: &str = "default.postgres15";
const FAMILY: &str = "postgres15";

/// What RDS sets where a group says nothing.
pub fn with_defaults(mut values: BTreeMap<String, String>) -> BTreeMap<String, String> {
    values.entry("rds.force_ssl".into()).or_insert_with(|| "1".into());
    values
}

fn absent(name: &str) -> Fault {
    Fault::not_found("DBParameterGroupNotFound", format!("DBParameterGroup not found: {name}"))
}

impl Rds {
    fn parameter_group(&self, region: &Region, name: &str) -> Result<ParameterGroup, Fault> {
        if name == DEFAULT_GROUP {
            let description = format!("Default parameter group for {FAMILY}");
            return Ok(ParameterGroup {
                name: name.into(),
                family: FAMILY.into(),
                description,
                values: BTreeMap::new(),
                tags: Tags::new(),
            });
        }
        self.records().get(region, name).ok_or_else(|| absent(name))
    }

    /// CreateDBParameterGroup.
    pub(super) fn create_parameter_group(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let name = params.need("DBParameterGroupName")?.to_ascii_lowercase();
        let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !plain || !name.starts_with(|first: char| first.is_ascii_lowercase()) {
            return Err(Fault::invalid_value(format!("The parameter DBParameterGroupName is not a valid identifier: {name}")));
        }
        let family = params.need("DBParameterGroupFamily")?;
        if family != FAMILY {
            return Err(Fault::invalid_value(format!("ParameterGroupFamily {family} is not a valid parameter group family")));
        }
        let description = params.need("Description")?.to_owned();
        let group = ParameterGroup { name, family: family.into(), description, values: BTreeMap::new(), tags: params.tags() };
        let mut records = self.records();
        if records.get::<ParameterGroup>(region, &group.name).is_some() {
            return Err(Fault::refused("DBParameterGroupAlreadyExists", format!("Parameter group {} already exists", group.name)));
        }
        records.put(region, group.clone())?;
        Ok(Body::default().nested("DBParameterGroup", draw_group(region, &group)))
    }

    /// DescribeDBParameterGroups.
    pub(super) fn describe_parameter_groups(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let groups = match params.get("DBParameterGroupName") {
            Some(name) => vec![self.parameter_group(region, name)?],
            None => {
                let mut groups = self.records().list::<ParameterGroup>(region);
                groups.insert(0, self.parameter_group(region, DEFAULT_GROUP)?);
                groups
            }
        };
        params.paged("DBParameterGroups", "DBParameterGroup", groups, |group| draw_group(region, group))
    }

    /// DescribeDBParameters.
    pub(super) fn describe_parameters(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let group = self.parameter_group(region, params.need("DBParameterGroupName")?)?;
        let known = catalog::settings()?;
        let mut all: Vec<(&String, &Setting, Option<&String>)> =
            known.iter().map(|(name, setting)| (name, setting, group.values.get(name))).collect();
        match params.get("Source") {
            Some("user") => all.retain(|(_, _, value)| value.is_some()),
            Some("engine-default" | "system") => all.retain(|(_, _, value)| value.is_none()),
            _ => {}
        }
        params.paged("Parameters", "Parameter", all, |(name, setting, value)| {
            let (apply, method) = if setting.apply == Apply::Static { ("static", "pending-reboot") } else { ("dynamic", "immediate") };
            Body::default()
                .text("ParameterName", name)
                .maybe("ParameterValue", *value)
                .text("Description", &setting.description)
                .text("Source", if value.is_some() { "user" } else { "engine-default" })
                .text("ApplyType", apply)
                .text("DataType", setting.data_type)
                .maybe("AllowedValues", setting.allowed.as_ref())
                .text("IsModifiable", true)
                .text("ApplyMethod", method)
        })
    }

    /// ModifyDBParameterGroup.
    pub(super) async fn modify_parameter_group(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let name = params.need("DBParameterGroupName")?.to_owned();
        let known = catalog::settings()?;
        let (mut values, mut reboot) = (BTreeMap::new(), false);
        for parameter in params.structures("Parameters") {
            let key = parameter.get("ParameterName").ok_or_else(|| Fault::missing("ParameterName"))?;
            let value = parameter.get("ParameterValue").cloned().unwrap_or_default();
            let setting = known.get(key).ok_or_else(|| Fault::invalid_value(format!("Could not find parameter with name: {key}")))?;
            if !catalog::accepts(setting, &value) {
                let allowed = setting.allowed.as_deref().unwrap_or(setting.data_type);
                return Err(Fault::invalid_value(format!("Invalid parameter value: {value} for: {key} allowed values are: {allowed}")));
            }
            let method = parameter.get("ApplyMethod").map_or("pending-reboot", String::as_str);
            if setting.apply == Apply::Static && method == "immediate" {
                return Err(Fault::combination(format!("cannot use immediate apply method for static parameter: {key}")));
            }
            reboot |= method != "immediate";
            values.insert(key.clone(), value);
        }
        self.change_group(region, &name, reboot, |group| group.values.extend(values)).await
    }

    /// ResetDBParameterGroup.
    pub(super) async fn reset_parameter_group(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let name = params.need("DBParameterGroupName")?.to_owned();
        if params.flag("ResetAllParameters")? {
            return self.change_group(region, &name, true, |group| group.values.clear()).await;
        }
        let names: Vec<String> =
            params.structures("Parameters").into_iter().filter_map(|mut parameter| parameter.remove("ParameterName")).collect();
        self.change_group(region, &name, true, |group| group.values.retain(|name, _| !names.contains(name))).await
    }

    async fn change_group(
        &self,
        region: &Region,
        name: &str,
        reboot: bool,
        change: impl FnOnce(&mut ParameterGroup),
    ) -> Result<Body, Fault> {
        if name == DEFAULT_GROUP {
            return Err(Fault::refused("InvalidDBParameterGroupState", "Default parameter groups can't be modified."));
        }
        self.update::<ParameterGroup>(region, name, change)?.ok_or_else(|| absent(name))?;
        let users: Vec<Instance> = self.records().list(region);
        for instance in users.into_iter().filter(|one| one.parameter_group == name) {
            if reboot {
                self.update_instance(region, &instance.resource, |one| one.parameters_pending_reboot = true)?;
            }
            if instance.status == Status::Available {
                self.reload_settings(&instance).await?;
            }
        }
        Ok(Body::default().text("DBParameterGroupName", name))
    }

    /// Lets a running server read its configuration again: dynamic settings hold at once, static ones at its next start.
    pub(super) async fn reload_settings(&self, instance: &Instance) -> anyhow::Result<()> {
        self.configure(instance, None).await?;
        session::connect(instance, "postgres").await?.execute("SELECT pg_reload_conf()", &[]).await?;
        Ok(())
    }

    /// DeleteDBParameterGroup.
    pub(super) fn delete_parameter_group(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let name = params.need("DBParameterGroupName")?;
        let mut records = self.records();
        let used = records.list::<Instance>(region).iter().any(|one| one.parameter_group == name);
        if used || name == DEFAULT_GROUP {
            let message = "One or more database instances are still members of this parameter group, so the group cannot be deleted";
            return Err(Fault::refused("InvalidDBParameterGroupState", message));
        }
        records.remove::<ParameterGroup>(region, name)?.ok_or_else(|| absent(name))?;
        Ok(Body::default())
    }
}

fn draw_group(region: &Region, group: &ParameterGroup) -> Body {
    Body::default()
        .text("DBParameterGroupName", &group.name)
        .text("DBParameterGroupFamily", &group.family)
        .text("Description", &group.description)
        .text("DBParameterGroupArn", arn(region, "pg", &group.name))
}
