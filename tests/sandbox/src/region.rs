//! `region`: takes a region away and gives it back. The front door fails its calls, its database servers stop, its cluster freezes. And lends one
//! that has no cluster of its own the cluster of the other.
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;

use crate::{
    cgroup, claim,
    cli::RegionCommand,
    control::{self, Request},
    eks,
    layout::{DR_REGION, Layout, REGION},
    process::Supervisor,
    report,
};

/// A round of RDS' archives, and the time that a database server takes to stop or to recover.
const FOLLOWS: Duration = Duration::from_secs(120);
/// Parts of the cluster that are frozen beside its pods: who asks them hears nothing, and they ask nobody.
const FROZEN: [&str; 5] = ["kube-apiserver", "kubelet", "stand-in-alb", "stand-in-external-secrets", "stand-in-pod-identity-agent"];

/// Whether a region is taken away.
pub fn is_down(state: &Path, region: &str) -> bool {
    state.join("regions-down").join(region).exists()
}

/// Whether the sandbox's one cluster answers as this region's too.
pub fn is_lent(state: &Path, region: &str) -> bool {
    known(region).is_ok() && state.join("regions-lent").join(region).exists()
}

/// Says that everything of a region has gone, or is back.
fn followed(state: &Path, region: &str) -> PathBuf {
    state.join("regions-lost").join(region)
}

/// Kept by RDS, whose servers are the last to go and to come back.
pub fn mark(state: &Path, region: &str, lost: Lost) -> Result<()> {
    let file = followed(state, region);
    match lost {
        Lost::Gone => {
            fs::create_dir_all(state.join("regions-lost"))?;
            fs::write(&file, "").with_context(|| format!("writing {}", file.display()))
        }
        Lost::Back if file.exists() => fs::remove_file(&file).with_context(|| format!("removing {}", file.display())),
        Lost::Back => Ok(()),
    }
}

/// What has happened to a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Its servers are stopped.
    Gone,
    /// They run again.
    Back,
}

/// `region down`, `region up` and `region status`.
pub async fn run(name: &str, command: &RegionCommand) -> Result<()> {
    let layout = claim::existing(name)?;
    let state = &layout.state;
    match command {
        RegionCommand::Status => {
            for region in [REGION, DR_REGION] {
                let word = if is_down(state, region) { "down" } else { "up" };
                report::data(&format!("{region}  {word}"))?;
            }
            Ok(())
        }
        RegionCommand::Lend { region } => {
            if known(region)? == DR_REGION && eks::has_cluster(&layout.of_dr_cluster()) {
                bail!(
                    "{region} has a cluster of its own; next: aws eks delete-cluster --region {region} --name NAME, if it shall not have it"
                );
            }
            fs::create_dir_all(state.join("regions-lent"))?;
            fs::write(state.join("regions-lent").join(known(region)?), "")?;
            Ok(report::data(&format!("the cluster of {REGION} answers as that of {region} too"))?)
        }
        RegionCommand::TakeBack { region } => {
            let file = state.join("regions-lent").join(known(region)?);
            if file.exists() {
                fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
            }
            Ok(report::data(&format!("{region} has no cluster of another region"))?)
        }
        RegionCommand::Down { region } => {
            fs::create_dir_all(state.join("regions-down"))?;
            fs::write(state.join("regions-down").join(known(region)?), "")?;
            wait(&layout, region, Lost::Gone).await?;
            Ok(report::data(&format!("{region} is down; deployctl-sandbox --name {name} region up {region} brings it back"))?)
        }
        RegionCommand::Up { region } => {
            let file = state.join("regions-down").join(known(region)?);
            if file.exists() {
                fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
            }
            wait(&layout, region, Lost::Back).await?;
            Ok(report::data(&format!("{region} is up"))?)
        }
    }
}

fn known(region: &str) -> Result<&str> {
    if ![REGION, DR_REGION].contains(&region) {
        bail!("the sandbox has no region {region}; its regions are {REGION} and {DR_REGION}");
    }
    Ok(region)
}

async fn wait(layout: &Layout, region: &str, wanted: Lost) -> Result<()> {
    control::ask(layout, Request::Status).await.context("the sandbox's daemon, which takes regions away and brings them back")?;
    let end = tokio::time::Instant::now() + FOLLOWS;
    while followed(&layout.state, region).exists() != (wanted == Lost::Gone) {
        if tokio::time::Instant::now() > end {
            bail!(
                "waited {} s for the database servers of {region}; see deployctl-sandbox --name {} status",
                FOLLOWS.as_secs(),
                layout.name
            );
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Freezes a cluster and its pods for as long as its region is down: who is connected hears nothing more, as in an outage. A part that is started
/// meanwhile is frozen in the next round.
pub async fn freeze_cluster(layout: Layout, supervisor: Supervisor, stop: CancellationToken) -> Result<()> {
    let mut frozen = false;
    let mut rounds = tokio::time::interval(Duration::from_millis(500));
    while stop.run_until_cancelled(rounds.tick()).await.is_some() {
        let down = is_down(&layout.shared(""), layout.region());
        if down || frozen {
            signal(&layout, &supervisor, if down { Signal::STOP } else { Signal::CONT })?;
        }
        frozen = down;
    }
    // A frozen process would not hear that it is to end.
    signal(&layout, &supervisor, Signal::CONT)
}

fn signal(layout: &Layout, supervisor: &Supervisor, signal: Signal) -> Result<()> {
    let frozen = FROZEN.map(|part| layout.part(part));
    for process in supervisor.status().into_iter().filter(|process| frozen.contains(&process.name)) {
        let pid = process.pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        // It may have ended in this moment; the next round finds its successor.
        if let Some(Err(error)) = pid.map(|pid| kill_process(pid, signal)) {
            tracing::debug!(process = process.name, %error, "not signalled");
        }
    }
    cgroup::signal_pods(layout, signal)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_region_is_one_of_the_sandboxs() {
        assert!(known("us-east-1").is_ok());
        for other in ["mars", "../x", ""] {
            assert!(known(other).is_err(), "{other}");
        }
    }

    #[test]
    fn a_cluster_is_lent_to_whom_it_was_lent() {
        let state = tempfile::tempdir().unwrap();
        fs::create_dir(state.path().join("regions-lent")).unwrap();
        fs::write(state.path().join("regions-lent").join(DR_REGION), "").unwrap();
        assert!(is_lent(state.path(), DR_REGION) && !is_lent(state.path(), REGION) && !is_lent(state.path(), "../regions-lent/eu-west-1"));
    }

    #[test]
    fn marks_come_and_go() {
        let state = tempfile::tempdir().unwrap();
        mark(state.path(), REGION, Lost::Back).unwrap();
        mark(state.path(), REGION, Lost::Gone).unwrap();
        assert!(followed(state.path(), REGION).exists());
        mark(state.path(), REGION, Lost::Back).unwrap();
        assert!(!followed(state.path(), REGION).exists());
    }
}
