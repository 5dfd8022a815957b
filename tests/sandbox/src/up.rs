//! `up`: installs, makes the network, starts the daemon, waits until everything runs. On a sandbox that runs it only checks and repairs.
use std::{collections::BTreeMap, fs::OpenOptions, os::unix::fs::OpenOptionsExt as _, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use crate::{
    cgroup,
    claim::{self, SlotLock, write_private},
    control::{self, Request, Stage, Status},
    daemon,
    install::{self, Installed},
    layout::Layout,
    machine, network,
    process::{Phase, RunRecord},
    report,
};

/// How long all parts may take together once everything is installed.
const DEADLINE: Duration = Duration::from_secs(300);

/// Brings a sandbox up or repairs it.
pub async fn up(name: &str) -> Result<()> {
    need_root()?;
    let began = Instant::now();
    let lock = SlotLock::take().await?;
    // What makes the network may itself be missing, and installing takes minutes: the slot is kept by its file until then.
    let layout = claim::claim(name, &lock)?;
    drop(lock);
    let installed = install::install(&layout.project, &layout.cache).await?;
    installed.write(&layout)?;
    write_private(&layout.file("terraform.rc"), terraform_rc(&layout, &installed).as_bytes())?;
    let lock = SlotLock::take().await?;
    machine::remember()?;
    network::ensure(&layout).await?;
    cgroup::ensure(&layout)?;
    drop(lock);
    if !healthy(&layout).await {
        replace_daemon(&layout).await?;
    }
    wait_until_up(&layout).await?;
    report::line(format_args!(
        "sandbox {name} is up ({:.1} s); next: eval \"$(deployctl-sandbox env --name {name})\"",
        began.elapsed().as_secs_f32()
    ));
    Ok(())
}

/// Everything below needs it: namespaces, cgroups, packages.
pub fn need_root() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the sandbox makes network namespaces and cgroups: run this as root");
    }
    Ok(())
}

/// Whether a daemon answers that has not failed; one that is still starting is waited for.
async fn healthy(layout: &Layout) -> bool {
    matches!(control::ask(layout, Request::Status).await, Ok(Status { stage: Stage::Up | Stage::Starting, .. }))
}

async fn replace_daemon(layout: &Layout) -> Result<()> {
    if let Ok(bytes) = std::fs::read(daemon::record(layout)) {
        let old: RunRecord = serde_json::from_slice(&bytes).context("reading daemon.json")?;
        old.process.signal(Signal::TERM)?;
        if !old.process.wait_until_gone(Duration::from_secs(30)).await {
            old.process.signal(Signal::KILL)?;
            old.process.wait_until_gone(Duration::from_secs(5)).await;
        }
    }
    let log = layout.log("daemon");
    std::fs::create_dir_all(layout.file("log"))?;
    let output =
        OpenOptions::new().create(true).append(true).mode(0o600).open(&log).with_context(|| format!("opening {}", log.display()))?;
    let own = std::env::current_exe().context("finding this program")?;
    // A session of its own, so that neither Ctrl-C nor a closed terminal reaches it.
    Command::new("setsid")
        .arg("nsenter")
        .arg(format!("--net={}", network::namespace_path(layout).display()))
        .arg("--")
        .arg(own)
        .args(["run", "--name", &layout.name])
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_passed_on)))
        .current_dir(&layout.state)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .context("starting the daemon")?;
    Ok(())
}

/// What the daemon may see of the caller's environment. Not AWS_*: the emulator takes the access key it finds there for the account's root.
fn is_passed_on(variable: &str) -> bool {
    ["PATH", "HOME", "LANG", "TZ", "TMPDIR", "RUST_LOG", "JAVA_HOME"].contains(&variable) || variable.starts_with("XDG_")
}

async fn wait_until_up(layout: &Layout) -> Result<()> {
    let (began, mut told) = (Instant::now(), Instant::now());
    let mut seen: BTreeMap<String, Phase> = BTreeMap::new();
    let mut silent_since = Some(Instant::now());
    loop {
        match control::ask(layout, Request::Status).await {
            Ok(status) => {
                silent_since = None;
                for process in &status.processes {
                    let before = seen.insert(process.name.clone(), process.phase);
                    if before != Some(process.phase) && process.phase != Phase::Starting {
                        report::line(format_args!(
                            "{:>6.1} s  {:<26} {}",
                            began.elapsed().as_secs_f32(),
                            process.name,
                            word(process.phase)
                        ));
                    }
                }
                match &status.stage {
                    Stage::Up if status.processes.iter().all(|p| p.phase == Phase::Ready) => return Ok(()),
                    Stage::Failed(reason) => {
                        bail!("{reason}\nnext: deployctl-sandbox logs daemon --name {0}, then up --name {0} again", layout.name)
                    }
                    _ => {}
                }
            }
            // A new daemon first ends what the old one left behind; after that long it is dead.
            Err(error) => {
                let since = *silent_since.get_or_insert_with(Instant::now);
                if since.elapsed() > Duration::from_secs(30) {
                    return Err(error)
                        .with_context(|| format!("the daemon does not answer; its log is {}", layout.log("daemon").display()));
                }
            }
        }
        if began.elapsed() > DEADLINE {
            let late: Vec<_> = seen.iter().filter(|(_, phase)| **phase != Phase::Ready).map(|(name, _)| name.as_str()).collect();
            bail!(
                "the sandbox was not up within {DEADLINE:?}; not ready: {}; next: deployctl-sandbox status --name {}",
                late.join(", "),
                layout.name
            );
        }
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            report::line(format_args!("{:>6.1} s  waiting for the parts to be ready", began.elapsed().as_secs_f32()));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// A phase in words.
pub fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Ready => "ready",
        Phase::Restarting => "restarting",
        Phase::Ended => "ended",
    }
}

/// terraform's own configuration: providers from the mirror only, the modules' registry from the front door.
fn terraform_rc(layout: &Layout, installed: &Installed) -> String {
    let mut text = String::from("disable_checkpoint = true\n");
    if let Some(mirror) = &installed.provider {
        text.push_str(&format!("provider_installation {{\n  filesystem_mirror {{\n    path = \"{}\"\n  }}\n}}\n", mirror.display()));
    }
    text.push_str(&format!(
        "host \"registry.terraform.io\" {{\n  services = {{\n    \"modules.v1\" = \"{}/v1/modules/\"\n  }}\n}}\n",
        layout.endpoint_url()
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::is_passed_on;

    #[test]
    fn a_persons_keys_do_not_reach_the_emulator() {
        assert!(!is_passed_on("AWS_ACCESS_KEY_ID"));
        assert!(!is_passed_on("KUBECONFIG"));
        assert!(is_passed_on("XDG_STATE_HOME"));
    }
}
