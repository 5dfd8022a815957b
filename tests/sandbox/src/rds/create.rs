//! CreateDBInstance, and the work that turns the record of a new or restored instance into a running server.
use std::ffi::OsStr;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    backups::FirstBackup,
    fault::Fault,
    ids::{InstanceId, Region, ResourceId},
    instances::draw_instance,
    model::{Instance, MasterSecret, Origin, Pending, Status},
    parameters::DEFAULT_GROUP,
    platform::Credentials,
    postgres::{place::Place, roles, session},
    query::Params,
    records::Records,
    service::{INSTANCE_QUOTA, Rds},
    xml::Body,
};

/// The one version that is installed.
pub const ENGINE_VERSION: &str = "15.18";
const GIB_LEAST: u32 = 20;
const GIB_MOST: u32 = 65_536;

/// Where a managed master password is kept while its instance is made; never printed.
pub enum Password {
    /// The caller's own.
    Given(String),
    /// In a secret that RDS makes.
    Managed,
}

impl Rds {
    /// CreateDBInstance.
    pub(super) async fn create_instance(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let id = InstanceId::parse(params.need("DBInstanceIdentifier")?)?;
        if params.need("Engine")? != "postgres" {
            return Err(Fault::invalid_value("Invalid DB engine: the sandbox runs postgres only"));
        }
        let version = engine_version(params.get("EngineVersion"))?;
        let storage: u32 = params.value("AllocatedStorage")?.unwrap_or(GIB_LEAST);
        check_storage(storage)?;
        let username = params.need("MasterUsername")?.to_owned();
        check_username(&username)?;
        let password = read_password(params)?.ok_or_else(|| Fault::missing("MasterUserPassword"))?;
        let mut instance = blank(region, id, version, username, Origin::New);
        instance.class = class(params.need("DBInstanceClass")?)?;
        instance.db_name = params.get("DBName").map(str::to_owned);
        instance.allocated_storage = storage;
        instance.encrypted = params.flag("StorageEncrypted")? || params.get("KmsKeyId").is_some();
        if instance.encrypted {
            instance.kms_key = Some(self.key(region, params.get("KmsKeyId")).await?);
        }
        instance.tags = params.tags();
        self.adjust(&mut instance, params)?;
        self.begin(instance, params, Some(password)).await
    }

    /// Records a new instance, starts the work, and answers.
    pub(super) async fn begin(&self, mut instance: Instance, params: &Params, password: Option<Password>) -> Result<Body, Fault> {
        if let Some(port) = params.value("Port")? {
            instance.port = port;
        }
        let region = instance.region.clone();
        {
            let mut records = self.records();
            check_free(&records, &region, &instance.id)?;
            instance.address = self.free_address(&records)?;
            records.put(&region, instance.clone())?;
        }
        let credentials = match self.master_credentials(&mut instance, params.get("MasterUserSecretKmsKeyId"), password).await {
            Ok(credentials) => credentials,
            Err(fault) => {
                self.records().remove::<Instance>(&region, instance.id.as_str())?;
                return Err(fault);
            }
        };
        self.publish()?;
        let (rds, work) = (self.clone(), instance.clone());
        tokio::spawn(async move { rds.provision(work, credentials).await });
        Ok(Body::default().nested("DBInstance", draw_instance(self, &instance)))
    }

    /// Makes the master user's secret if RDS manages it, and keeps its ARN in the record.
    async fn master_credentials(
        &self,
        instance: &mut Instance,
        kms_key: Option<&str>,
        password: Option<Password>,
    ) -> Result<Option<Credentials>, Fault> {
        let username = instance.master_username.clone();
        match password {
            None => Ok(None),
            Some(Password::Given(password)) => Ok(Some(Credentials { username, password })),
            Some(Password::Managed) => {
                let credentials = Credentials { username, password: generate_password() };
                let secret = self.make_secret(instance, kms_key, &credentials).await?;
                *instance = self.update_instance(&instance.region, &instance.resource, |instance| instance.secret = Some(secret))?;
                Ok(Some(credentials))
            }
        }
    }

    /// Puts credentials into a new `rds!db-UUID` secret.
    pub(super) async fn make_secret(
        &self,
        instance: &Instance,
        kms_key: Option<&str>,
        credentials: &Credentials,
    ) -> Result<MasterSecret, Fault> {
        let region = &instance.region;
        let key = self.key(region, Some(kms_key.unwrap_or("alias/aws/secretsmanager"))).await?;
        let name = format!("rds!db-{}", Uuid::new_v4());
        let arn = self.0.platform.create_secret(region, &name, credentials.to_secret(), kms_key, &instance.arn()).await?;
        Ok(MasterSecret { arn, kms_key: key })
    }

    /// The ARN of the key that was asked for, or of the region's own RDS key. Keys that AWS manages exist without anybody making them.
    pub(super) async fn key(&self, region: &Region, wanted: Option<&str>) -> Result<String, Fault> {
        let managed = |service: &str| {
            let id = Uuid::new_v5(&Uuid::NAMESPACE_DNS, format!("{service}.{region}.amazonaws.com").as_bytes());
            format!("arn:aws:kms:{region}:{}:key/{id}", crate::layout::ACCOUNT)
        };
        let key = wanted.unwrap_or("alias/aws/rds");
        let alias = key.strip_prefix(&format!("arn:aws:kms:{region}:{}:", crate::layout::ACCOUNT)).unwrap_or(key);
        if let Some(service) = alias.strip_prefix("alias/aws/") {
            return Ok(managed(service));
        }
        if ["rds", "secretsmanager"].iter().any(|service| managed(service) == key) {
            return Ok(key.to_owned());
        }
        self.0.platform.key_arn(region, key).await?.ok_or_else(|| Fault::key_not_accessible(key))
    }

    /// Makes the data, starts the server, takes the first backup. May run again after a crash: it begins from nothing.
    pub(super) async fn provision(&self, instance: Instance, credentials: Option<Credentials>) {
        let lock = self.work_lock(&instance.resource);
        let _working = lock.lock().await;
        if let Err(error) = self.try_provision(&instance, credentials).await {
            self.instance_failed(&instance.region, &instance.resource, "The DB instance could not be created", &error);
        }
    }

    async fn try_provision(&self, instance: &Instance, credentials: Option<Credentials>) -> Result<()> {
        let credentials = match credentials {
            Some(credentials) => Some(credentials),
            None => self.renewed_credentials(instance).await?,
        };
        self.0.addresses.add(instance.address).await?;
        match &instance.origin {
            Origin::New => initialize(&self.0.place, instance).await?,
            Origin::Snapshot(snapshot) => self.data_from_snapshot(instance, snapshot).await?,
            Origin::Backup { source, until } => self.data_from_backup(instance, source, *until).await?,
        }
        self.launch(instance).await?;
        let client = session::connect(instance, "postgres").await?;
        match (&instance.origin, &credentials) {
            (Origin::New, Some(credentials)) => roles::found(&client, instance, credentials).await?,
            (Origin::New, None) => {
                anyhow::bail!("its master password was lost with the daemon that was making it; delete it and create it again")
            }
            (_, Some(credentials)) => roles::set_password(&client, credentials).await?,
            (_, None) => {}
        }
        let instance = self.update_instance(&instance.region, &instance.resource, |instance| instance.status = Status::BackingUp)?;
        self.instance_event(&instance, "creation", "DB instance created");
        self.first_backup(&instance, FirstBackup::Always).await?;
        let instance = self.update_instance(&instance.region, &instance.resource, |instance| instance.status = Status::Available)?;
        self.instance_event(&instance, "backup", "Finished DB Instance backup");
        self.publish()
    }

    /// After a crash: a managed password can be made anew, a given one is gone.
    async fn renewed_credentials(&self, instance: &Instance) -> Result<Option<Credentials>> {
        let Some(secret) = &instance.secret else { return Ok(None) };
        let credentials = Credentials { username: instance.master_username.clone(), password: generate_password() };
        self.0.platform.put_secret(&instance.region, &secret.arn, credentials.to_secret()).await?;
        Ok(Some(credentials))
    }
}

/// Makes an empty cluster.
async fn initialize(place: &Place, instance: &Instance) -> Result<()> {
    let data = place.data(&instance.region, &instance.resource);
    if data.exists() {
        tokio::fs::remove_dir_all(&data).await.with_context(|| format!("removing {}", data.display()))?;
    }
    place.own_folder(&data)?;
    let inside = place.inside(&data)?;
    let user = format!("--username={}", session::SYSTEM_USER);
    // The server's first checkpoint syncs what initdb leaves to the page cache.
    let args = ["--no-sync", "--auth=peer", "--encoding=UTF8", "--locale=C.UTF-8", "--wal-segsize=4", &user, "--pgdata"].map(OsStr::new);
    place.run("initdb", &[&args[..], &[inside.as_os_str()]].concat()).await
}

/// Refuses a name that is taken and an instance too many.
pub fn check_free(records: &Records, region: &Region, id: &InstanceId) -> Result<(), Fault> {
    if records.get::<Instance>(region, id.as_str()).is_some() {
        return Err(Fault::refused("DBInstanceAlreadyExists", "DB instance already exists"));
    }
    if records.list::<Instance>(region).len() >= INSTANCE_QUOTA {
        return Err(Fault::refused("InstanceQuotaExceeded", format!("Cannot create more than {INSTANCE_QUOTA} DB instances in {region}")));
    }
    Ok(())
}

/// An instance with RDS' defaults.
pub fn blank(region: &Region, id: InstanceId, engine_version: String, master_username: String, origin: Origin) -> Instance {
    Instance {
        id,
        region: region.clone(),
        resource: ResourceId::generate(),
        status: Status::Creating,
        origin,
        address: std::net::Ipv4Addr::UNSPECIFIED,
        port: 5432,
        class: String::new(),
        engine_version,
        master_username,
        db_name: None,
        secret: None,
        allocated_storage: GIB_LEAST,
        max_allocated_storage: None,
        storage_type: "gp2".into(),
        iops: None,
        storage_throughput: None,
        encrypted: false,
        kms_key: None,
        created: Timestamp::now(),
        backup_window: "03:00-04:00".into(),
        maintenance_window: "sun:05:00-sun:06:00".into(),
        backup_retention: 1,
        security_groups: Vec::new(),
        subnet_group: None,
        parameter_group: DEFAULT_GROUP.into(),
        parameters_pending_reboot: false,
        availability_zone: format!("{region}a"),
        multi_az: false,
        auto_minor_version_upgrade: true,
        publicly_accessible: false,
        copy_tags_to_snapshot: false,
        deletion_protection: false,
        iam_authentication: false,
        performance_insights: false,
        performance_insights_kms_key: None,
        performance_insights_retention: None,
        database_insights_mode: Some("standard".into()),
        monitoring_interval: 0,
        monitoring_role: None,
        log_exports: Vec::new(),
        ca_certificate: "rds-ca-rsa2048-g1".into(),
        network_type: "IPV4".into(),
        tags: Default::default(),
        pending: Pending::default(),
    }
}

/// `db.FAMILY.SIZE`.
pub fn class(text: &str) -> Result<String, Fault> {
    let parts: Vec<&str> = text.split('.').collect();
    match parts.as_slice() {
        ["db", family, size] if !family.is_empty() && !size.is_empty() => Ok(text.to_owned()),
        _ => Err(Fault::invalid_value(format!("Invalid DB Instance class: {text}"))),
    }
}

/// The installed version, or a prefix of it; RDS picks the newest minor version in the same way.
pub fn engine_version(wanted: Option<&str>) -> Result<String, Fault> {
    let fits = wanted.is_none_or(|wanted| wanted == "15" || wanted.starts_with("15."));
    if fits {
        return Ok(wanted.filter(|wanted| wanted.contains('.')).unwrap_or(ENGINE_VERSION).to_owned());
    }
    Err(Fault::combination(format!("Cannot find version {} for postgres", wanted.unwrap_or_default())))
}

/// RDS' bounds.
pub fn check_storage(gib: u32) -> Result<(), Fault> {
    if (GIB_LEAST..=GIB_MOST).contains(&gib) {
        return Ok(());
    }
    Err(Fault::invalid_value(format!("Invalid storage size for engine name postgres and storage type: {gib}")))
}

fn check_username(name: &str) -> Result<(), Fault> {
    let plain = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !plain {
        return Err(Fault::invalid_value(format!("The parameter MasterUsername is not a valid identifier: {name}")));
    }
    if ["rdsadmin", "postgres_admin", "admin"].contains(&name) || name.starts_with("pg_") || name.starts_with("rds_") {
        return Err(Fault::invalid_value(format!("MasterUsername {name} cannot be used as it is a reserved word used by the engine")));
    }
    Ok(())
}

/// The master password that a request asks for, if it asks for one.
pub fn read_password(params: &Params) -> Result<Option<Password>, Fault> {
    match (params.flag("ManageMasterUserPassword")?, params.get("MasterUserPassword")) {
        (true, Some(_)) => Err(Fault::combination("You can't specify both ManageMasterUserPassword and MasterUserPassword.")),
        (true, None) => Ok(Some(Password::Managed)),
        (false, None) => Ok(None),
        (false, Some(password)) => {
            let plain = password.chars().all(|letter| letter.is_ascii_graphic() && !"/\"@".contains(letter));
            if plain && (8..=128).contains(&password.len()) {
                return Ok(Some(Password::Given(password.to_owned())));
            }
            Err(Fault::invalid_value(
                "The parameter MasterUserPassword is not a valid password. Only printable ASCII characters besides '/', '@', '\"', ' ' may be used.",
            ))
        }
    }
}

/// 32 letters and digits out of 244 random bits.
pub fn generate_password() -> String {
    let letters: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').collect();
    let halves = [Uuid::new_v4().as_u128(), Uuid::new_v4().as_u128()];
    let half = |mut number: u128| {
        let mut text = String::new();
        for _ in 0..16 {
            text.push(letters[(number % 62) as usize]);
            number /= 62;
        }
        text
    };
    halves.into_iter().map(half).collect()
}
