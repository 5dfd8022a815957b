//! What RDS offers: engine versions, classes, certificates, quotas, option groups.
use super::{
    create::ENGINE_VERSION,
    fault::Fault,
    ids::{Region, arn},
    model::{Instance, ParameterGroup, Snapshot, SubnetGroup},
    query::Params,
    service::{INSTANCE_QUOTA, Rds},
    xml::Body,
};

/// The only option group; PostgreSQL has no options.
pub const OPTION_GROUP: &str = "default:postgres-15";
/// When the authority's certificate ends, as it is told.
pub const CERTIFICATE_END: &str = "2061-05-25T22:34:57Z";
const CERTIFICATES: [&str; 3] = ["rds-ca-rsa2048-g1", "rds-ca-rsa4096-g1", "rds-ca-ecc384-g1"];
const CLASSES: [&str; 8] =
    ["db.t4g.micro", "db.t4g.small", "db.t4g.medium", "db.t4g.large", "db.m7g.large", "db.m7g.xlarge", "db.r7g.large", "db.r7g.xlarge"];

fn ours(params: &Params) -> bool {
    let engine = params.get("Engine").is_none_or(|engine| engine == "postgres");
    engine && params.get("EngineVersion").is_none_or(|version| version == "15" || version == ENGINE_VERSION)
}

impl Rds {
    /// DescribeDBEngineVersions.
    pub(super) fn describe_engine_versions(&self, params: &Params) -> Result<Body, Fault> {
        let family = params.get("DBParameterGroupFamily").is_none_or(|family| family == "postgres15");
        let versions = if ours(params) && family { vec![ENGINE_VERSION] } else { Vec::new() };
        params.paged("DBEngineVersions", "DBEngineVersion", versions, |version| {
            Body::default()
                .text("Engine", "postgres")
                .text("MajorEngineVersion", 15)
                .text("EngineVersion", version)
                .text("DBParameterGroupFamily", "postgres15")
                .text("DBEngineDescription", "PostgreSQL")
                .text("DBEngineVersionDescription", format!("PostgreSQL {version}"))
                .text("Status", "available")
                .values("ExportableLogTypes", "member", ["postgresql", "upgrade"])
                .values("SupportedCACertificateIdentifiers", "member", CERTIFICATES)
                .text("SupportsLogExportsToCloudwatchLogs", true)
                .text("SupportsReadReplica", false)
                .text("SupportsCertificateRotationWithoutRestart", true)
                .list("ValidUpgradeTarget", "UpgradeTarget", [])
        })
    }

    /// DescribeOrderableDBInstanceOptions.
    pub(super) fn describe_orderable(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let mut classes = if ours(params) { CLASSES.to_vec() } else { Vec::new() };
        if let Some(wanted) = params.get("DBInstanceClass") {
            classes.retain(|class| *class == wanted);
        }
        let options: Vec<(&str, &str)> = classes.into_iter().flat_map(|class| ["gp2", "gp3"].map(|storage| (class, storage))).collect();
        params.paged("OrderableDBInstanceOptions", "OrderableDBInstanceOption", options, |(class, storage)| {
            Body::default()
                .text("Engine", "postgres")
                .text("EngineVersion", ENGINE_VERSION)
                .text("DBInstanceClass", class)
                .text("LicenseModel", "postgresql-license")
                .list(
                    "AvailabilityZones",
                    "AvailabilityZone",
                    ["a", "b", "c"].map(|zone| Body::default().text("Name", format!("{region}{zone}"))),
                )
                .text("MultiAZCapable", true)
                .text("ReadReplicaCapable", false)
                .text("Vpc", true)
                .text("SupportsStorageEncryption", true)
                .text("StorageType", storage)
                .text("SupportsIops", *storage == "gp3")
                .text("SupportsIAMDatabaseAuthentication", true)
                .text("SupportsPerformanceInsights", true)
                .text("MinStorageSize", 20)
                .text("MaxStorageSize", 65_536)
                .values("SupportedNetworkTypes", "member", ["IPV4"])
                .text("SupportsStorageAutoscaling", true)
        })
    }

    /// DescribeCertificates.
    pub(super) fn describe_certificates(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let mut certificates = CERTIFICATES.to_vec();
        if let Some(wanted) = params.get("CertificateIdentifier") {
            certificates.retain(|name| *name == wanted);
            if certificates.is_empty() {
                return Err(Fault::not_found("CertificateNotFound", format!("Certificate {wanted} not found.")));
            }
        }
        let body = params.paged("Certificates", "Certificate", certificates, |name| {
            Body::default()
                .text("CertificateIdentifier", name)
                .text("CertificateType", "CA")
                .text("ValidFrom", "2021-05-25T21:34:57Z")
                .text("ValidTill", CERTIFICATE_END)
                .text("CertificateArn", format!("arn:aws:rds:{region}::cert:{name}"))
        })?;
        Ok(body.text("DefaultCertificateForNewLaunches", CERTIFICATES[0]))
    }

    /// DescribeAccountAttributes: the quotas and what is used of them.
    pub(super) fn describe_account(&self, region: &Region) -> Body {
        let records = self.records();
        let storage: u32 = records.list::<Instance>(region).iter().map(|one| one.allocated_storage).sum();
        let quotas = [
            ("DBInstances", records.list::<Instance>(region).len(), INSTANCE_QUOTA),
            ("AllocatedStorage", storage as usize, 100_000),
            ("ManualSnapshots", records.list::<Snapshot>(region).len(), 100),
            ("DBSubnetGroups", records.list::<SubnetGroup>(region).len(), 50),
            ("DBParameterGroups", records.list::<ParameterGroup>(region).len(), 50),
        ];
        let quotas = quotas.map(|(name, used, max)| Body::default().text("AccountQuotaName", name).text("Used", used).text("Max", max));
        Body::default().list("AccountQuotas", "AccountQuota", quotas)
    }

    /// DescribeOptionGroups.
    pub(super) fn describe_option_groups(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        if let Some(wanted) = params.get("OptionGroupName").filter(|wanted| *wanted != OPTION_GROUP) {
            return Err(Fault::not_found("OptionGroupNotFoundFault", format!("Specified OptionGroupName: {wanted} not found.")));
        }
        params.paged("OptionGroupsList", "OptionGroup", vec![OPTION_GROUP], |name| {
            Body::default()
                .text("OptionGroupName", name)
                .text("OptionGroupDescription", "Default option group for postgres 15")
                .text("EngineName", "postgres")
                .text("MajorEngineVersion", 15)
                .list("Options", "Option", [])
                .text("AllowsVpcAndNonVpcInstanceMemberships", true)
                .text("OptionGroupArn", arn(region, "og", name))
        })
    }
}
