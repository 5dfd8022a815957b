//! The router: one POST endpoint, the action's name in the form, the region in a header that the emulator's authentication set.
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use uuid::Uuid;

use super::{
    fault::Fault,
    ids::Region,
    power::Power,
    query::Params,
    service::Rds,
    xml::{Body, NAMESPACE},
};

const VERSION: &str = "2014-10-31";

impl Rds {
    /// The API. Requests must come from the emulator: it has checked signature and policy, this has not.
    pub fn router(&self) -> Router {
        Router::new().fallback(answer).with_state(self.clone())
    }

    async fn act(&self, region: &Region, action: &str, params: &Params) -> Result<Body, Fault> {
        match action {
            "CreateDBInstance" => self.create_instance(region, params).await,
            "DescribeDBInstances" => self.describe_instances(region, params),
            "ModifyDBInstance" => self.modify_instance(region, params).await,
            "RebootDBInstance" => self.change_power(region, params, Power::Reboot),
            "StopDBInstance" => self.change_power(region, params, Power::Stop),
            "StartDBInstance" => self.change_power(region, params, Power::Start),
            "DeleteDBInstance" => self.delete_instance(region, params),
            "CreateDBSnapshot" => self.create_snapshot(region, params),
            "DescribeDBSnapshots" => self.describe_snapshots(region, params),
            "DeleteDBSnapshot" => self.delete_snapshot(region, params).await,
            "CopyDBSnapshot" => self.copy_snapshot(region, params).await,
            "RestoreDBInstanceFromDBSnapshot" => self.restore_snapshot(region, params).await,
            "RestoreDBInstanceToPointInTime" => self.restore_point_in_time(region, params).await,
            "DescribeDBInstanceAutomatedBackups" => self.describe_backups(region, params),
            "DeleteDBInstanceAutomatedBackup" => self.delete_backup(region, params).await,
            "StartDBInstanceAutomatedBackupsReplication" => self.start_replication(region, params).await,
            "StopDBInstanceAutomatedBackupsReplication" => self.stop_replication(region, params),
            "CreateDBSubnetGroup" => self.create_subnet_group(region, params).await,
            "DescribeDBSubnetGroups" => self.describe_subnet_groups(region, params),
            "ModifyDBSubnetGroup" => self.modify_subnet_group(region, params).await,
            "DeleteDBSubnetGroup" => self.delete_subnet_group(region, params),
            "CreateDBParameterGroup" => self.create_parameter_group(region, params),
            "DescribeDBParameterGroups" => self.describe_parameter_groups(region, params),
            "DescribeDBParameters" => self.describe_parameters(region, params),
            "ModifyDBParameterGroup" => self.modify_parameter_group(region, params).await,
            "ResetDBParameterGroup" => self.reset_parameter_group(region, params).await,
            "DeleteDBParameterGroup" => self.delete_parameter_group(region, params),
            "DescribeDBEngineVersions" => self.describe_engine_versions(params),
            "DescribeOrderableDBInstanceOptions" => self.describe_orderable(region, params),
            "DescribeCertificates" => self.describe_certificates(region, params),
            "DescribeOptionGroups" => self.describe_option_groups(region, params),
            "DescribeAccountAttributes" => Ok(self.describe_account(region)),
            "DescribeEvents" => self.describe_events(region, params),
            "DescribePendingMaintenanceActions" => {
                Ok(Body::default().list("PendingMaintenanceActions", "ResourcePendingMaintenanceActions", []))
            }
            "AddTagsToResource" => self.add_tags(region, params),
            "RemoveTagsFromResource" => self.remove_tags(region, params),
            "ListTagsForResource" => self.list_tags(region, params),
            other => Err(Fault::refused("InvalidAction", format!("The sandbox's RDS has no action {other}."))),
        }
    }

    async fn checked(&self, headers: &HeaderMap, action: &str, params: &Params) -> Result<Body, Fault> {
        let region = headers.get("x-sandbox-region").and_then(|region| region.to_str().ok());
        let region = Region::parse(region.ok_or_else(|| Fault::internal("the request came past the emulator: it has no region"))?)?;
        if params.get("Version").is_some_and(|version| version != VERSION) {
            return Err(Fault::refused("InvalidAction", format!("The sandbox's RDS speaks version {VERSION} only.")));
        }
        if self.is_down(&region) {
            return Err(Fault::region_down(&region));
        }
        self.act(&region, action, params).await
    }
}

async fn answer(State(rds): State<Rds>, headers: HeaderMap, uri: Uri, body: Bytes) -> Response {
    let form = if body.is_empty() { uri.query().unwrap_or_default().as_bytes().to_vec() } else { body.to_vec() };
    let params = Params::parse(&form);
    let action = params.get("Action").unwrap_or_default().to_owned();
    match rds.checked(&headers, &action, &params).await {
        Err(fault) => {
            tracing::debug!(action, %fault, "refused");
            fault.into_response()
        }
        Ok(result) => {
            let metadata = Body::default().text("RequestId", Uuid::new_v4());
            let inner = Body::default().nested(&format!("{action}Result"), result).nested("ResponseMetadata", metadata);
            let document = format!("<{action}Response xmlns=\"{NAMESPACE}\">{inner}</{action}Response>");
            (StatusCode::OK, [(CONTENT_TYPE, "text/xml")], document).into_response()
        }
    }
}
