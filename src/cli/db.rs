//! What can be typed after `db`.
use std::num::NonZeroU32;

use clap::{Args, Subcommand};

use super::duration;
use crate::{database::version::Version, ids::SnapshotId};

/// Commands of `db`.
#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Take a snapshot, copy it to the DR region, and wait for both
    Snapshot(SnapshotArgs),
    /// List the snapshots of the database, in both regions
    List,
    /// Delete deployctl's own snapshots that are beyond count and age, in both regions
    Prune(PruneArgs),
    /// Take a snapshot, run pending migrations, roll the service out, verify
    Migrate(MigrateArgs),
    /// Show applied and pending migrations
    Status,
    /// Take back the newest migration by its undo file (U…__….sql), after a snapshot
    Undo(UndoArgs),
    /// Put a snapshot into the database's place; the old one stays under another name
    Restore(RestoreArgs),
}

/// Arguments of `db snapshot`.
#[derive(Clone, Copy, Debug, Args)]
pub struct SnapshotArgs {
    /// Keep everybody from writing while it is taken, no longer than TIME, and take down what each table holds: a restore of it is held against
    /// that
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub pause_writes: Option<jiff::SignedDuration>,
}

/// Arguments of `db prune`.
#[derive(Clone, Copy, Debug, Args)]
pub struct PruneArgs {
    /// Keep so many of the newest [default: database.snapshots.keep]
    #[arg(long, value_name = "N")]
    pub keep: Option<NonZeroU32>,
    /// Keep all that are younger than so many days [default: database.snapshots.days]
    #[arg(long, value_name = "N")]
    pub days: Option<u32>,
}

/// Arguments of `db migrate`.
#[derive(Clone, Copy, Debug, Args)]
pub struct MigrateArgs {
    /// Say what would run and what is wrong with it, as a database role that can write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `db undo`.
#[derive(Clone, Debug, Args)]
pub struct UndoArgs {
    /// Version to take back; it must be the newest [default: the newest, after a question]
    #[arg(long, value_name = "VERSION")]
    pub version: Option<Version>,
}

/// Arguments of `db restore`.
#[derive(Clone, Debug, Args)]
pub struct RestoreArgs {
    /// Rename the database that is there and give its name to the restored one
    #[arg(long, required = true)]
    pub in_place: bool,
    /// Snapshot to restore, as `db list` names it
    #[arg(long, value_name = "ID")]
    pub snapshot: SnapshotId,
    /// Do it once more although the database is restored from this snapshot already
    #[arg(long)]
    pub again: bool,
    /// Environment's name, typed out: --yes is not enough for this
    #[arg(long, value_name = "NAME")]
    pub confirm: Option<String>,
}
