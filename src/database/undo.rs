//! Takes back the newest migration by the undo file that was written for it.
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::{
    compare, history,
    lock::Held,
    migrate::{self, MigrateError, Patience},
    migration::{Migrations, Sort, Transaction},
    version::Version,
};

/// What was taken back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Undone {
    /// The undo file that ran; none if the version was not the newest any more, because an earlier call has taken it back.
    pub ran: Option<String>,
    /// The schema's version now.
    pub version: Option<Version>,
}

/// Undoes this version, which must be the newest; one that is not applied is taken for undone. The undo file and the row that says so commit
/// together.
pub async fn undo(client: &mut Client, migrations: &Migrations, version: &Version, patience: Patience) -> Result<Undone, MigrateError> {
    migrate::prepare(client, patience).await?;
    let held = Held::acquire(client, patience.other).await?;
    let undone = locked(client, migrations, version).await;
    let released = held.release(client).await;
    // Why it failed matters more; the lock goes with the session too.
    let undone = undone?;
    released?;
    Ok(undone)
}

async fn locked(client: &mut Client, migrations: &Migrations, version: &Version) -> Result<Undone, MigrateError> {
    let rows = history::read(client).await?;
    let status = compare::compare(migrations, &rows);
    let refuse = |why: String| Err(MigrateError::Problems(vec![why]));
    let Some(newest) = compare::newest(&rows) else {
        return if status.version.is_none() {
            Ok(Undone { ran: None, version: None })
        } else {
            refuse("the newest version is a baseline, which has no undo file".to_owned())
        };
    };
    match newest.version.as_ref() {
        Some(applied) if applied == version => {}
        Some(applied) if applied < version => return Ok(Undone { ran: None, version: status.version }),
        _ => return refuse(format!("version {version} is not the newest: {} is, and what was built on it would stay", newest.script)),
    }
    let Some(file) = migrations.undo.iter().find(|file| file.sort == Sort::Undo(version.clone())) else {
        return refuse(format!("there is no undo file for version {version}: U{version}__….sql beside {}", newest.script));
    };
    let begun = rows.iter().find(|row| !row.success);
    if let Some(row) = begun {
        return refuse(format!("{} did not end well; go on with it or repair it first", row.script));
    }
    if file.transaction == Transaction::None {
        return refuse(format!(
            "{} would run outside a transaction, and could be left in part: write it so that it runs inside one",
            file.script
        ));
    }
    let refused = compare::refused(file);
    if !refused.is_empty() {
        return Err(MigrateError::Problems(refused));
    }
    migrate::wrapped(client, file, Instant::now()).await?;
    let rows = history::read(client).await?;
    Ok(Undone { ran: Some(file.script.clone()), version: compare::compare(migrations, &rows).version })
}
