//! Replays archived WAL onto a base backup and promotes the result, before the server comes under supervision.
use std::{ffi::OsString, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use super::{super::model::Instance, place::Place, session};

/// The longest replay that is waited for.
const DEADLINE: Duration = Duration::from_secs(1800);
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// How a replay ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Replayed {
    /// The server was promoted and stopped again.
    Done,
    /// No transaction after the wanted moment is in the archive: replay to its end instead.
    EndBeforeTarget,
}

/// Runs the server on its own until it is promoted, then stops it cleanly.
pub async fn replay(place: &Place, instance: &Instance) -> Result<Replayed> {
    let data = place.inside(&place.data(&instance.region, &instance.resource))?;
    let (program, line) = place.command_line("postgres", server_args(&data));
    let mut child =
        Command::new(program).args(line).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut log = child.stderr.take().context("the server has an error output")?;
    // Read all the time: a server that blocks on a full pipe never gets anywhere.
    let reader = tokio::spawn(async move {
        let mut text = Vec::new();
        log.read_to_end(&mut text).await.map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let end = Instant::now() + DEADLINE;
    let opened = loop {
        if child.try_wait()?.is_some() {
            break false;
        }
        if session::connect(instance, "postgres").await.is_ok() {
            break true;
        }
        if Instant::now() >= end {
            bail!("replaying WAL for {} took longer than {DEADLINE:?}", instance.id);
        }
        sleep(Duration::from_millis(40)).await;
    };
    if opened {
        interrupt(&mut child).await?;
        return Ok(Replayed::Done);
    }
    let log = reader.await??;
    if log.contains("recovery ended before configured recovery target was reached") {
        return Ok(Replayed::EndBeforeTarget);
    }
    let last: Vec<&str> = log.lines().rev().take(5).collect();
    bail!("the server ended while it replayed WAL: {}", last.into_iter().rev().collect::<Vec<_>>().join(" | "));
}

async fn interrupt(child: &mut Child) -> Result<()> {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw).context("the server has a process id")?;
    kill_process(pid, Signal::INT)?;
    timeout(STOP_DEADLINE, child.wait()).await.context("waiting for the server to stop after the replay")??;
    Ok(())
}

/// The arguments of every server.
pub fn server_args(data: &Path) -> Vec<OsString> {
    vec!["-D".into(), data.into()]
}
