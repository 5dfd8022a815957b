//! Starts and stops an instance's server, and takes up again what a dead daemon left: the part between records and PostgreSQL.
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::Result;

use super::{
    backups::FirstBackup,
    model::{Instance, ParameterGroup, Snapshot, SnapshotStatus, Status},
    parameters::with_defaults,
    postgres::{
        configuration::{self, ArchiveSource},
        recovery::server_args,
        session,
    },
    processes::Server,
    service::Rds,
};

/// The longest a server may take from its start to its first session; crash recovery is inside.
const OPEN_DEADLINE: Duration = Duration::from_secs(300);

impl Rds {
    /// The settings of an instance's parameter group.
    pub(super) fn parameters_of(&self, instance: &Instance) -> BTreeMap<String, String> {
        let group = self.records().get::<ParameterGroup>(&instance.region, &instance.parameter_group);
        with_defaults(group.map(|group| group.values).unwrap_or_default())
    }

    /// Writes the configuration with a certificate for the instance's present name.
    pub(super) async fn configure(&self, instance: &Instance, archive: Option<ArchiveSource>) -> Result<()> {
        let identity = self.0.authority.sign(&instance.host(), instance.address)?;
        let parameters = self.parameters_of(instance);
        let (place, instance) = (self.0.place.clone(), instance.clone());
        tokio::task::spawn_blocking(move || configuration::write(&place, &instance, &parameters, &identity, archive.as_ref())).await?
    }

    /// Starts the server under supervision and waits until it takes sessions.
    pub(super) async fn launch(&self, instance: &Instance) -> Result<()> {
        self.0.addresses.add(instance.address).await?;
        self.configure(instance, None).await?;
        let data = self.0.place.inside(&self.0.place.data(&instance.region, &instance.resource))?;
        let (program, args) = self.0.place.command_line("postgres", server_args(&data));
        let address = SocketAddr::from((instance.address, instance.port));
        self.0.processes.start(Server { name: instance.resource.process(), program, args, address }).await?;
        session::wait_until_open(instance, OPEN_DEADLINE).await?;
        Ok(())
    }

    /// Stops the server; its data stays.
    pub(super) async fn halt(&self, instance: &Instance) -> Result<()> {
        self.0.processes.stop(&instance.resource.process()).await
    }

    /// Starts again what ran before, takes up what was under way, and keeps archives and replicas current from now on.
    pub async fn resume(&self) -> Result<()> {
        let regions = self.records().regions();
        let mut starts = tokio::task::JoinSet::new();
        for region in regions {
            self.forget_half_snapshots(&region)?;
            let instances = self.records().list::<Instance>(&region);
            for instance in instances {
                if self.is_down(&region) {
                    continue;
                }
                let rds = self.clone();
                starts.spawn(async move { rds.resume_instance(instance).await });
            }
        }
        while starts.join_next().await.is_some() {}
        self.publish()?;
        self.keep_archives();
        Ok(())
    }

    /// Goes on where the record says that an instance is.
    pub(super) async fn resume_instance(&self, instance: Instance) {
        match instance.status {
            Status::Creating => self.provision(instance, None).await,
            // Without its final snapshot the data must not go: the instance comes back, and the caller deletes it again.
            Status::Deleting if self.lost_final_snapshot(&instance) => self.reopen(instance).await,
            Status::Deleting => self.finish_deletion(instance, None).await,
            Status::Stopped | Status::Failed => {}
            Status::Stopping => {
                if let Err(error) = self.update_instance(&instance.region, &instance.resource, |instance| instance.status = Status::Stopped)
                {
                    tracing::error!("{error:#}");
                }
            }
            _ => self.reopen(instance).await,
        }
    }

    fn lost_final_snapshot(&self, instance: &Instance) -> bool {
        let snapshots = self.records().list::<Snapshot>(&instance.region);
        snapshots.iter().any(|one| {
            one.instance.resource == instance.resource && one.instance.status == Status::Deleting && one.status == SnapshotStatus::Failed
        })
    }

    /// Starts the server of an instance that has its data, and makes its first backup if that is still missing.
    pub(super) async fn reopen(&self, instance: Instance) {
        let lock = self.work_lock(&instance.resource);
        let _working = lock.lock().await;
        let opened = async {
            self.launch(&instance).await?;
            self.first_backup(&instance, FirstBackup::IfMissing).await?;
            self.update_instance(&instance.region, &instance.resource, |instance| instance.status = Status::Available)
        };
        if let Err(error) = opened.await {
            self.instance_failed(&instance.region, &instance.resource, "The DB instance could not be started", &error);
        }
    }

    /// Snapshots and copies that a dead daemon left half done cannot be finished: their moment is over.
    fn forget_half_snapshots(&self, region: &super::ids::Region) -> Result<()> {
        let snapshots = self.records().list::<Snapshot>(region);
        for snapshot in snapshots.iter().filter(|snapshot| matches!(snapshot.status, SnapshotStatus::Creating | SnapshotStatus::Copying)) {
            self.update::<Snapshot>(region, snapshot.id.as_str(), |snapshot| snapshot.status = SnapshotStatus::Failed)?;
        }
        Ok(())
    }
}
