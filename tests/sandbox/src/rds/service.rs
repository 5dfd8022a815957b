//! The service as a whole: its records, what it stands on, and the steps that every operation is made of.
use std::{
    collections::HashMap,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Result;
use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    addresses::Addresses,
    certificates::Authority,
    fault::Fault,
    ids::{InstanceId, Region, ResourceId},
    model::{Event, Instance, Snapshot, Status},
    platform::Platform,
    postgres::place::Place,
    processes::Processes,
    records::{Record, Records, write_json, write_whole},
};
use crate::layout::Layout;

/// AWS' default quota of instances in a region.
pub const INSTANCE_QUOTA: usize = 40;

/// The RDS of a sandbox; clones are the same one.
#[derive(Clone)]
pub struct Rds(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub layout: Layout,
    pub folder: PathBuf,
    pub place: Place,
    pub authority: Authority,
    pub addresses: Addresses,
    pub processes: Arc<dyn Processes>,
    pub platform: Arc<dyn Platform>,
    records: Mutex<Records>,
    /// One lock an instance, held while its files or its server are worked on.
    work: Mutex<HashMap<ResourceId, Arc<tokio::sync::Mutex<()>>>>,
    /// Ends the rounds of archiving and replication.
    pub closing: CancellationToken,
    /// Those rounds, once `resume` has started them.
    pub rounds: Mutex<Option<JoinHandle<()>>>,
}

impl Rds {
    /// Opens the records of the state folder; starts nothing (`resume` does).
    pub fn open(layout: &Layout, processes: Arc<dyn Processes>, platform: Arc<dyn Platform>, addresses: Addresses) -> Result<Self> {
        let folder = layout.file("rds");
        let records = Records::open(&folder)?;
        let inner = Inner {
            place: Place::open(&folder)?,
            authority: Authority::open(&layout.database_ca())?,
            layout: layout.clone(),
            folder,
            addresses,
            processes,
            platform,
            records: Mutex::new(records),
            work: Mutex::default(),
            closing: CancellationToken::new(),
            rounds: Mutex::default(),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Ends archiving and replication and returns when the round under way is over. The servers are the supervisor's to stop.
    pub async fn close(&self) -> Result<()> {
        self.0.closing.cancel();
        let rounds = self.0.rounds.lock().unwrap_or_else(PoisonError::into_inner).take();
        match rounds {
            Some(rounds) => Ok(rounds.await?),
            None => Ok(()),
        }
    }

    /// The records, for as long as it takes to read or change a few of them; never across an await.
    pub(super) fn records(&self) -> MutexGuard<'_, Records> {
        self.0.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock of an instance's files and server.
    pub(super) fn work_lock(&self, resource: &ResourceId) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.work.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(locks.entry(resource.clone()).or_default())
    }

    /// Whether a region was taken down (a file says so; the front door refuses its requests).
    pub(super) fn is_down(&self, region: &Region) -> bool {
        crate::region::is_down(&self.0.layout.state, region.as_str())
    }

    /// An instance by name.
    pub(super) fn instance(&self, region: &Region, id: &InstanceId) -> Result<Instance, Fault> {
        self.records().get(region, id.as_str()).ok_or_else(|| Fault::instance_not_found(id))
    }

    /// An instance by what it is called for ever, whatever its name is now.
    pub(super) fn instance_of(&self, region: &Region, resource: &ResourceId) -> Option<Instance> {
        self.records().list::<Instance>(region).into_iter().find(|instance| &instance.resource == resource)
    }

    /// Changes a record; `None` when it is gone.
    pub(super) fn update<R: Record>(&self, region: &Region, key: &str, change: impl FnOnce(&mut R)) -> Result<Option<R>> {
        let mut records = self.records();
        let Some(mut record) = records.get::<R>(region, key) else { return Ok(None) };
        change(&mut record);
        records.put(region, record.clone())?;
        Ok(Some(record))
    }

    /// Changes an instance that may have been renamed meanwhile.
    pub(super) fn update_instance(&self, region: &Region, resource: &ResourceId, change: impl FnOnce(&mut Instance)) -> Result<Instance> {
        let mut records = self.records();
        let found = records.list::<Instance>(region).into_iter().find(|instance| &instance.resource == resource);
        let mut instance = found.ok_or_else(|| anyhow::anyhow!("the instance {resource} is gone"))?;
        change(&mut instance);
        records.put(region, instance.clone())?;
        Ok(instance)
    }

    /// Moves an instance to another status if it is in one of these; this is what keeps two operations from each other.
    pub(super) fn claim(&self, region: &Region, id: &InstanceId, from: &[Status], to: Status) -> Result<Instance, Fault> {
        let mut records = self.records();
        let mut instance = records.get::<Instance>(region, id.as_str()).ok_or_else(|| Fault::instance_not_found(id))?;
        if !from.contains(&instance.status) {
            return Err(Fault::instance_state(id, from.first().map_or("available", |status| status.name())));
        }
        instance.status = to;
        records.put(region, instance.clone())?;
        Ok(instance)
    }

    /// Chooses an address that no instance has.
    pub(super) fn free_address(&self, records: &Records) -> Result<Ipv4Addr, Fault> {
        let regions = records.regions();
        let taken: Vec<Ipv4Addr> =
            regions.iter().flat_map(|region| records.list::<Instance>(region)).map(|instance| instance.address).collect();
        let free = self.0.addresses.pool.iter().copied().find(|address| !taken.contains(address));
        free.ok_or_else(|| Fault::refused("InsufficientDBInstanceCapacity", "The sandbox has no address left for another DB instance."))
    }

    /// Notes what happened to an instance; a full disk must not fail the operation for its note.
    pub(super) fn instance_event(&self, instance: &Instance, category: &str, message: impl Into<String>) {
        self.event(&instance.region, "db-instance", instance.id.as_str(), instance.arn(), category, message.into());
    }

    /// Notes what happened to a snapshot.
    pub(super) fn snapshot_event(&self, snapshot: &Snapshot, category: &str, message: impl Into<String>) {
        self.event(&snapshot.region, "db-snapshot", snapshot.id.as_str(), snapshot.id.arn(&snapshot.region), category, message.into());
    }

    fn event(&self, region: &Region, source_type: &str, source: &str, arn: String, category: &str, message: String) {
        tracing::info!(%region, source, "{message}");
        let event =
            Event { at: Timestamp::now(), source_type: source_type.into(), source: source.into(), arn, category: category.into(), message };
        if let Err(error) = self.records().add_event(region, event) {
            tracing::warn!(%error, "an RDS event could not be kept");
        }
    }

    /// Marks an instance as failed and says why in its events.
    pub(super) fn instance_failed(&self, region: &Region, resource: &ResourceId, what: &str, error: &anyhow::Error) {
        tracing::error!(%region, %resource, "{what}: {error:#}");
        match self.update_instance(region, resource, |instance| instance.status = Status::Failed) {
            Ok(instance) => self.instance_event(&instance, "failure", format!("{what}: {error:#}")),
            Err(error) => tracing::error!("{error:#}"),
        }
    }

    /// Writes what others read: names for the cluster's DNS and, for `sandbox exec psql`, one file an instance.
    pub(super) fn publish(&self) -> Result<()> {
        let records = self.records();
        let mut names = String::new();
        for region in records.regions() {
            let folder = self.0.folder.join(region.as_str()).join("connect");
            let instances = records.list::<Instance>(&region);
            for instance in &instances {
                names.push_str(&format!("{} {}\n", instance.address, instance.host()));
                let about = serde_json::json!({
                    "host": instance.host(), "address": instance.address, "port": instance.port,
                    "dbname": instance.db_name.as_deref().unwrap_or("postgres"), "user": instance.master_username,
                    "secret_arn": instance.secret.as_ref().map(|secret| &secret.arn), "region": region, "status": instance.status.name(),
                });
                write_json(&folder.join(format!("{}.json", instance.id)), &about)?;
            }
            remove_others(&folder, &instances)?;
        }
        write_whole(&self.0.layout.dns_records("rds"), names.as_bytes())
    }
}

/// Removes the files of instances that are gone or renamed.
fn remove_others(folder: &std::path::Path, instances: &[Instance]) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if path.extension().is_some_and(|extension| extension == "json") && !instances.iter().any(|instance| instance.id.as_str() == stem) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
