//! Keeps archives current: closes WAL segments while there is activity, ships them to replicas, follows regions that go down and come back.
use std::{collections::HashSet, sync::PoisonError, time::Duration};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use tokio::{task::JoinSet, time::timeout};

use super::{
    ids::{Region, ResourceId},
    model::{AutomatedBackup, BackupStatus, Instance, Status},
    postgres::{copy, session},
    service::Rds,
};
use crate::{
    layout,
    region::{self, Lost},
};

/// Between two rounds; so much can be lost with a region, plus what one round takes.
const ROUND: Duration = Duration::from_secs(2);
/// A server that does not answer for so long is left to the next round.
const ANSWER: Duration = Duration::from_secs(20);

impl Rds {
    /// Starts the rounds; `close` ends them.
    pub(super) fn keep_archives(&self) {
        let rds = self.clone();
        let task = tokio::spawn(async move {
            let mut rounds = tokio::time::interval(ROUND);
            rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut lost = HashSet::new();
            while rds.0.closing.run_until_cancelled(rounds.tick()).await.is_some() {
                rds.follow_regions(&mut lost).await;
                rds.archive_all().await;
                rds.replicate_all().await;
            }
        });
        *self.0.rounds.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// A region that goes down takes its servers with it; one that comes back starts them.
    async fn follow_regions(&self, lost: &mut HashSet<Region>) {
        // A region may be taken away before it has anything.
        for region in [layout::REGION, layout::DR_REGION].into_iter().filter_map(|region| Region::parse(region).ok()) {
            let instances = self.records().list::<Instance>(&region);
            let down = self.is_down(&region);
            if down && lost.insert(region.clone()) {
                tracing::warn!(%region, "the region is down: its database servers stop");
                for instance in &instances {
                    if let Err(error) = self.halt(instance).await {
                        tracing::error!(instance = %instance.id, "{error:#}");
                    }
                }
                self.mark(&region, Lost::Gone);
            } else if !down && lost.remove(&region) {
                tracing::info!(%region, "the region is back: its database servers start");
                let rds = self.clone();
                tokio::spawn(async move {
                    let mut starts = JoinSet::new();
                    for instance in instances {
                        let rds = rds.clone();
                        starts.spawn(async move { rds.resume_instance(instance).await });
                    }
                    while starts.join_next().await.is_some() {}
                    rds.mark(&region, Lost::Back);
                });
            }
        }
    }

    /// Whoever has taken the region away waits for this.
    fn mark(&self, region: &Region, lost: Lost) {
        if let Err(error) = region::mark(&self.0.layout.state, region.as_str(), lost) {
            tracing::error!(%region, "{error:#}");
        }
    }

    async fn archive_all(&self) {
        let mut work = JoinSet::new();
        let regions = self.records().regions();
        for region in regions {
            if self.is_down(&region) {
                continue;
            }
            let instances = self.records().list::<Instance>(&region);
            for instance in instances {
                let busy = matches!(instance.status, Status::Creating | Status::Stopped | Status::Deleting | Status::Failed);
                if !busy && self.0.processes.running(&instance.resource.process()) {
                    let rds = self.clone();
                    work.spawn(async move {
                        let archived = timeout(ANSWER, rds.archive(&instance)).await.context("the server did not answer in time");
                        if let Err(error) = archived.and_then(|archived| archived) {
                            tracing::debug!(instance = %instance.id, "not archived in this round: {error:#}");
                        }
                    });
                }
            }
        }
        while work.join_next().await.is_some() {}
    }

    /// Closes the current segment if anything is in it and waits until it is in the archive. What was committed before the start of
    /// this is then restorable, which is exactly what LatestRestorableTime says.
    async fn archive(&self, instance: &Instance) -> Result<()> {
        let start = Timestamp::now();
        let client = session::connect(instance, "postgres").await?;
        // PostgreSQL does nothing here when the segment is empty, and then answers with its beginning.
        let row = client.query_one("SELECT pg_walfile_name(lsn) FROM pg_switch_wal() AS lsn", &[]).await?;
        let segment: String = row.get(0);
        let current = client.query_one("SELECT pg_walfile_name(pg_current_wal_insert_lsn())", &[]).await?;
        let current: String = current.get(0);
        if segment != current {
            let wal = self.0.place.wal(&instance.region, &instance.resource);
            copy::wait_until_archived(&wal, &segment, ANSWER).await?;
        }
        let present = self.instance_of(&instance.region, &instance.resource).context("the instance is gone")?;
        self.update::<AutomatedBackup>(&instance.region, instance.resource.as_str(), |backup| {
            backup.latest = Some(start);
            backup.retention = present.backup_retention;
            backup.instance = present;
        })?;
        Ok(())
    }

    async fn replicate_all(&self) {
        let mut work = JoinSet::new();
        let regions = self.records().regions();
        for region in regions {
            let replicas = self.records().list::<AutomatedBackup>(&region);
            for replica in replicas {
                let source = &replica.instance.region;
                if replica.status == BackupStatus::Replicating && !self.is_down(source) && !self.is_down(&region) {
                    let rds = self.clone();
                    work.spawn(async move {
                        if let Err(error) = rds.replicate(&replica).await {
                            tracing::warn!(instance = %replica.instance.id, region = %replica.region, "not replicated in this round: {error:#}");
                        }
                    });
                }
            }
        }
        while work.join_next().await.is_some() {}
    }

    /// Ships base backups and WAL that the replica has not. The source's moment is read before the listing, so it is never too late.
    async fn replicate(&self, replica: &AutomatedBackup) -> Result<()> {
        let (home, resource): (&Region, &ResourceId) = (&replica.instance.region, &replica.resource);
        let Some(source) = self.records().get::<AutomatedBackup>(home, resource.as_str()) else { return Ok(()) };
        let place = &self.0.place;
        for base in source.bases.iter().filter(|base| !replica.bases.contains(base)) {
            let (from, to) = (place.backup(home, resource).join(&base.name), place.backup(&replica.region, resource).join(&base.name));
            copy::copy_data(place, from, to, copy::Scope::AtRest, |_| Ok(())).await?;
            self.update::<AutomatedBackup>(&replica.region, resource.as_str(), |backup| backup.bases.push(base.clone()))?;
        }
        copy::ship_wal(place, place.wal(home, resource), place.wal(&replica.region, resource)).await?;
        self.update::<AutomatedBackup>(&replica.region, resource.as_str(), |backup| {
            backup.latest = source.latest;
            backup.instance = source.instance.clone();
        })?;
        Ok(())
    }
}
