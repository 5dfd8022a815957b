//! What can be typed after `dr`.
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::duration;
use crate::{
    database::audit::Depth,
    ids::{Region, SnapshotId},
};

/// Commands of `dr`. All of them work in the DR region alone, `object` if it is told so.
#[derive(Debug, Subcommand)]
pub enum DrCommand {
    /// Show how old the newest recovery point is, what is missing, and what a restore would do
    Status,
    /// Make what a restored database goes into: network, security group, parameter group
    Prepare,
    /// Restore the database; after a crash or a lost terminal the same command goes on
    Restore(DrRestoreArgs),
    /// Restore the newest point under a throw-away name, measure, delete it again, and keep the result
    Drill(DrDrillArgs),
    /// Bring deleted uploads back
    #[command(subcommand)]
    Object(ObjectCommand),
}

/// Commands of `dr object`.
#[derive(Debug, Subcommand)]
pub enum ObjectCommand {
    /// Bring deleted objects back: their delete markers go, or a version is copied from the replica; nothing that is there is overwritten
    Restore(ObjectRestoreArgs),
}

/// Arguments of `dr object restore`.
#[derive(Clone, Debug, Args)]
pub struct ObjectRestoreArgs {
    /// Objects, as in uploads/2026/a.csv or s3://BUCKET/uploads/2026/a.csv
    #[arg(value_name = "KEY", required_unless_present = "prefix", conflicts_with = "prefix")]
    pub keys: Vec<String>,
    /// All below PREFIX that are deleted
    #[arg(long, value_name = "PREFIX")]
    pub prefix: Option<String>,
    /// Of those, only what was deleted at that time or later, as in 2026-11-29T03:00:00Z
    #[arg(long, value_name = "TIME", requires = "prefix")]
    pub deleted_since: Option<jiff::Timestamp>,
    /// The DR region, when the other one is lost: the replicas there come back, and nothing is asked of the lost region
    #[arg(long, value_name = "REGION")]
    pub to: Option<Region>,
}

/// Arguments of `dr drill`.
#[derive(Debug, Args)]
pub struct DrDrillArgs {
    /// Limits and the report.
    #[command(flatten)]
    pub limits: DrLimits,
    /// Write the results as Prometheus' text format into FILE, for whom the exporter in the cluster does not serve
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
    /// Restore nothing: delete what a drill that was killed has left, and nothing else
    #[arg(long, conflicts_with_all = ["metrics", "max_rto", "max_rpo", "report"])]
    pub clean: bool,
}

/// What a restore is held against, and where its report goes.
#[derive(Debug, Args)]
pub struct DrLimits {
    /// Fail (exit 16) if it takes longer, as in 45m; the database is restored all the same
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub max_rto: Option<jiff::SignedDuration>,
    /// Fail (exit 16) if more may be lost, as in 5m; the database is restored all the same
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub max_rpo: Option<jiff::SignedDuration>,
    /// How much of the restored database is looked at, where a cluster is prepared that can: `full` reads every row and holds every index against
    /// its table
    #[arg(long, value_enum, default_value_t)]
    pub verify: Depth,
    /// Write report.md and report.html into DIR [default: beside the run's journal]
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
}

/// Arguments of `dr restore`.
#[derive(Debug, Args)]
pub struct DrRestoreArgs {
    /// Region to restore in: the environment's aws.dr_region, typed out
    #[arg(long, value_name = "REGION")]
    pub to: Region,
    /// From this snapshot
    #[arg(long, value_name = "ID", conflicts_with_all = ["latest", "at"])]
    pub snapshot: Option<SnapshotId>,
    /// From the newest recovery point, which is the default
    #[arg(long, conflicts_with = "at")]
    pub latest: bool,
    /// As it was at this moment, from the replicated backup, as in 2026-11-29T03:00:00Z
    #[arg(long, value_name = "TIME")]
    pub at: Option<jiff::Timestamp>,
    /// Limits and the report.
    #[command(flatten)]
    pub limits: DrLimits,
}
