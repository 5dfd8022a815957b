//! ModifyDBInstance: what is taken over at once, what waits, and the rename.
use anyhow::Result;

use super::{
    create::{Password, check_free, check_storage, class, engine_version, generate_password, read_password},
    fault::Fault,
    ids::{InstanceId, Region},
    instances::draw_instance,
    model::{Instance, Pending, Status},
    platform::Credentials,
    postgres::{roles, session},
    query::Params,
    service::Rds,
    xml::Body,
};

impl Rds {
    /// ModifyDBInstance.
    pub(super) async fn modify_instance(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let id = InstanceId::from_name_or_arn(region, params.need("DBInstanceIdentifier")?)?;
        let before = self.instance(region, &id)?;
        let mut wanted = before.clone();
        self.adjust(&mut wanted, params)?;
        ask_for(&mut wanted.pending, &before, params)?;
        if let Some(new) = &wanted.pending.identifier {
            check_free(&self.records(), region, new)?;
        }
        let now = params.flag("ApplyImmediately")?;
        let password = read_password(params)?;
        if matches!(password, Some(Password::Given(_))) && before.secret.is_some() && params.get("ManageMasterUserPassword").is_none() {
            return Err(Fault::combination(
                "You can't specify MasterUserPassword for an instance with its master user password managed in Secrets Manager.",
            ));
        }
        let rotate = params.flag("RotateMasterUserPassword")?;
        let apply = if now { std::mem::take(&mut wanted.pending) } else { Pending::default() };
        let busy = apply != Pending::default() || password.is_some() || rotate;
        let next = match (&apply.identifier, busy) {
            (Some(_), _) => Status::Renaming,
            (None, true) => Status::Modifying,
            (None, false) => before.status,
        };
        let allowed = if before.status == Status::Stopped && !busy { [Status::Stopped] } else { [Status::Available] };
        self.claim(region, &id, &allowed, next)?;
        wanted.status = next;
        self.records().put(region, wanted.clone())?;
        let kms_key = params.get("MasterUserSecretKmsKeyId").map(str::to_owned);
        let credentials = self.new_credentials(&mut wanted, kms_key.as_deref(), password, rotate).await;
        let credentials = match credentials {
            Ok(credentials) => credentials,
            Err(fault) => {
                self.update_instance(region, &before.resource, |instance| *instance = before.clone())?;
                return Err(fault);
            }
        };
        if wanted.parameter_group != before.parameter_group && next == before.status {
            // Dynamic settings of another group hold at once; static ones wait for the reboot.
            self.reload_settings(&wanted).await?;
        }
        if busy {
            let (rds, work) = (self.clone(), wanted.clone());
            tokio::spawn(async move { rds.finish_modification(work, apply, credentials).await });
        }
        Ok(Body::default().nested("DBInstance", draw_instance(self, &wanted)))
    }

    /// What the master user's password becomes, if it changes; keeps the secret in step.
    async fn new_credentials(
        &self,
        instance: &mut Instance,
        kms_key: Option<&str>,
        password: Option<Password>,
        rotate: bool,
    ) -> Result<Option<Credentials>, Fault> {
        let username = instance.master_username.clone();
        let region = instance.region.clone();
        let fresh = Credentials { username: username.clone(), password: generate_password() };
        match (password, instance.secret.clone()) {
            (Some(Password::Managed), None) => {
                let secret = self.make_secret(instance, kms_key, &fresh).await?;
                *instance = self.update_instance(&region, &instance.resource, |instance| instance.secret = Some(secret))?;
                Ok(Some(fresh))
            }
            (Some(Password::Given(password)), secret) => {
                if let Some(secret) = secret {
                    self.0.platform.delete_secret(&region, &secret.arn).await?;
                    *instance = self.update_instance(&region, &instance.resource, |instance| instance.secret = None)?;
                }
                Ok(Some(Credentials { username, password }))
            }
            (_, Some(secret)) if rotate => {
                self.0.platform.put_secret(&region, &secret.arn, fresh.to_secret()).await?;
                Ok(Some(fresh))
            }
            (_, None) if rotate => {
                Err(Fault::combination("RotateMasterUserPassword needs a master user password managed in Secrets Manager."))
            }
            _ => Ok(None),
        }
    }

    async fn finish_modification(&self, instance: Instance, apply: Pending, credentials: Option<Credentials>) {
        let lock = self.work_lock(&instance.resource);
        let _working = lock.lock().await;
        if let Err(error) = self.try_modification(&instance, apply, credentials).await {
            self.instance_failed(&instance.region, &instance.resource, "The DB instance could not be modified", &error);
        }
    }

    async fn try_modification(&self, instance: &Instance, apply: Pending, credentials: Option<Credentials>) -> Result<()> {
        if let Some(credentials) = credentials {
            let client = session::connect(instance, "postgres").await?;
            roles::set_password(&client, &credentials).await?;
            self.instance_event(instance, "configuration change", "Reset master credentials");
        }
        // RDS reboots for another class, port, version or name; the certificate of a new name needs a start, too.
        let restart = apply.class.is_some() || apply.port.is_some() || apply.identifier.is_some() || apply.engine_version.is_some();
        if restart {
            self.halt(instance).await?;
        }
        let (region, old) = (&instance.region, instance.id.clone());
        let changed = {
            let mut records = self.records();
            let mut changed = instance.clone();
            take_over(&mut changed, apply);
            records.put(region, changed.clone())?;
            if changed.id != old {
                records.remove::<Instance>(region, old.as_str())?;
            }
            changed
        };
        if restart {
            self.launch(&changed).await?;
            self.update_instance(region, &changed.resource, |instance| instance.parameters_pending_reboot = false)?;
        }
        self.publish()?;
        let done = self.update_instance(region, &changed.resource, |instance| instance.status = Status::Available)?;
        if done.id != old {
            self.instance_event(&done, "configuration change", format!("Renamed instance from {old} to {}", done.id));
        }
        self.instance_event(&done, "configuration change", "Finished applying modification to DB instance");
        self.publish()
    }
}

/// Notes what is asked for and differs from what is.
fn ask_for(pending: &mut Pending, before: &Instance, params: &Params) -> Result<(), Fault> {
    if let Some(wanted) = params.get("DBInstanceClass") {
        let wanted = class(wanted)?;
        pending.class = (wanted != before.class).then_some(wanted);
    }
    if let Some(gib) = params.value("AllocatedStorage")? {
        check_storage(gib)?;
        if gib < before.allocated_storage {
            return Err(Fault::combination("Invalid storage size: the allocated storage of a DB instance can't be reduced."));
        }
        pending.allocated_storage = (gib != before.allocated_storage).then_some(gib);
    }
    if let Some(wanted) = params.get("EngineVersion") {
        let wanted = engine_version(Some(wanted))?;
        let same = wanted == before.engine_version || params.get("EngineVersion") == Some("15");
        pending.engine_version = (!same).then_some(wanted);
    }
    if let Some(wanted) = params.get("NewDBInstanceIdentifier") {
        let wanted = InstanceId::parse(wanted)?;
        pending.identifier = (wanted != before.id).then_some(wanted);
    }
    ask_plain(&mut pending.multi_az, &before.multi_az, params.value("MultiAZ")?);
    ask_plain(&mut pending.storage_type, &before.storage_type, params.value("StorageType")?);
    ask_plain(&mut pending.port, &before.port, params.value("DBPortNumber")?);
    ask_optional(&mut pending.iops, before.iops, params.value("Iops")?);
    ask_optional(&mut pending.storage_throughput, before.storage_throughput, params.value("StorageThroughput")?);
    Ok(())
}

fn ask_plain<T: PartialEq>(pending: &mut Option<T>, before: &T, wanted: Option<T>) {
    if let Some(wanted) = wanted {
        *pending = (&wanted != before).then_some(wanted);
    }
}

fn ask_optional<T: PartialEq>(pending: &mut Option<T>, before: Option<T>, wanted: Option<T>) {
    if wanted.is_some() {
        *pending = if wanted == before { None } else { wanted };
    }
}

/// Makes asked-for values the present ones.
fn take_over(instance: &mut Instance, apply: Pending) {
    fn set<T>(field: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *field = value;
        }
    }
    instance.iops = apply.iops.or(instance.iops);
    instance.storage_throughput = apply.storage_throughput.or(instance.storage_throughput);
    set(&mut instance.class, apply.class);
    set(&mut instance.allocated_storage, apply.allocated_storage);
    set(&mut instance.multi_az, apply.multi_az);
    set(&mut instance.storage_type, apply.storage_type);
    set(&mut instance.engine_version, apply.engine_version);
    set(&mut instance.port, apply.port);
    set(&mut instance.id, apply.identifier);
}
