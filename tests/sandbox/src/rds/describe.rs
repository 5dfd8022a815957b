//! DescribeDBInstances and DescribeEvents.
use jiff::{Timestamp, ToSpan as _};

use super::{
    fault::Fault,
    ids::{InstanceId, Region},
    instances::draw_instance,
    model::Instance,
    query::Params,
    service::Rds,
    xml::Body,
};

impl Rds {
    /// DescribeDBInstances.
    pub(super) fn describe_instances(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let mut instances: Vec<Instance> = match params.get("DBInstanceIdentifier") {
            // The resource id is accepted, too: Terraform's provider asks by it.
            Some(name) if name.starts_with("db-") && name.len() == 29 => {
                self.records().list(region).into_iter().filter(|one: &Instance| one.resource.as_str().eq_ignore_ascii_case(name)).collect()
            }
            Some(name) => vec![self.instance(region, &InstanceId::from_name_or_arn(region, name)?)?],
            None => self.records().list(region),
        };
        for (name, values) in params.filters() {
            let keep: fn(&Instance, &str) -> bool = match name.as_str() {
                "db-instance-id" => |one, value| one.id.as_str().eq_ignore_ascii_case(value) || one.arn() == value,
                "dbi-resource-id" => |one, value| one.resource.as_str() == value,
                "engine" => |_, value| value == "postgres",
                "db-cluster-id" | "domain" => |_, _| false,
                other => return Err(Fault::invalid_value(format!("Unrecognized filter name: {other}"))),
            };
            instances.retain(|one| values.iter().any(|value| keep(one, value)));
        }
        if instances.is_empty() && (params.get("DBInstanceIdentifier").is_some()) {
            return Err(Fault::instance_not_found(params.get("DBInstanceIdentifier").unwrap_or_default()));
        }
        params.paged("DBInstances", "DBInstance", instances, |one| draw_instance(self, one))
    }

    /// DescribeEvents: of the last hour unless told otherwise.
    pub(super) fn describe_events(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let minutes: i64 = params.value("Duration")?.unwrap_or(60);
        let end: Timestamp = params.value("EndTime")?.unwrap_or_else(Timestamp::now);
        let start: Timestamp = match params.value("StartTime")? {
            Some(start) => start,
            None => end.checked_sub(minutes.minutes()).map_err(|_| Fault::invalid_value("Invalid value for Duration"))?,
        };
        let mut events = self.records().events(region);
        events.retain(|event| event.at >= start && event.at <= end);
        if let Some(source) = params.get("SourceIdentifier") {
            events.retain(|event| event.source == source);
        }
        if let Some(kind) = params.get("SourceType") {
            events.retain(|event| event.source_type == kind);
        }
        params.paged("Events", "Event", events, |event| {
            Body::default()
                .text("SourceIdentifier", &event.source)
                .text("SourceType", &event.source_type)
                .text("SourceArn", &event.arn)
                .text("Date", event.at)
                .text("Message", &event.message)
                .values("EventCategories", "EventCategory", [&event.category])
        })
    }
}
