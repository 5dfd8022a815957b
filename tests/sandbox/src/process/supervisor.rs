//! Keeps processes running: one task a process, which alone owns the child.
use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use jiff::Timestamp;
use rustix::process::Signal;
use tokio::{
    process::{Child, Command},
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    ClearEnv, Phase, ProcessId, ProcessSpec, ProcessStatus, Ready, Restart, RunRecord, Stop,
    ready::{Probe, describe},
};
use crate::layout::Layout;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Enough for a database; the API server would wait a minute for its watchers.
const LEFTOVER: Duration = Duration::from_secs(4);
const POLL: Duration = Duration::from_millis(25);

/// Starts, watches, restarts and stops the sandbox's processes.
#[derive(Clone)]
pub struct Supervisor {
    inner: Arc<Inner>,
}

struct Inner {
    layout: Layout,
    children: Mutex<BTreeMap<String, Handle>>,
}

#[derive(Clone)]
struct Handle {
    status: watch::Receiver<ProcessStatus>,
    stop: mpsc::Sender<(Stop, Duration)>,
}

impl Supervisor {
    /// Ends what an earlier daemon left behind (its children outlive a kill -9), then starts with nothing.
    pub async fn new(layout: &Layout) -> Result<Self> {
        let run = layout.file("run");
        let mut ends = Vec::new();
        for record in RunRecord::read_all(&run)?.into_iter().filter(|record| record.process.alive()) {
            tracing::info!(process = record.name, pid = record.process.pid, "ending what the last daemon left running");
            // SIGINT, because SIGTERM would let PostgreSQL wait for its clients to leave.
            ends.push(end(record.process, Signal::INT, LEFTOVER));
        }
        futures::future::try_join_all(ends).await?;
        for folder in [run, layout.file("log")] {
            fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        }
        Ok(Self { inner: Arc::new(Inner { layout: layout.clone(), children: Mutex::default() }) })
    }

    /// Starts a process and returns when it is ready. One that runs already is only waited for.
    pub async fn start(&self, spec: ProcessSpec) -> Result<()> {
        let (name, wait, wanted) = (spec.name.clone(), spec.deadline, describe(&spec.ready));
        let ends = matches!(spec.ready, Ready::Exits);
        let mut status = {
            let mut children = self.children();
            match children.get(&name).filter(|handle| handle.status.borrow().phase != Phase::Ended) {
                Some(handle) => handle.status.clone(),
                None => {
                    let handle = self.spawn(spec)?;
                    children.insert(name.clone(), handle.clone());
                    handle.status
                }
            }
        };
        // Cloned at once: the borrowed status would block the task that changes it.
        let outcome = timeout(wait, status.wait_for(|s| matches!(s.phase, Phase::Ready | Phase::Ended)))
            .await
            .map(|reached| reached.map(|s| s.clone()));
        let last = match outcome {
            Ok(Ok(reached)) if reached.phase == Phase::Ready || (ends && reached.last_exit.as_deref() == Some(FINISHED)) => return Ok(()),
            Ok(Ok(reached)) => reached.last_exit.clone().unwrap_or_default(),
            Ok(Err(_)) => "its supervision ended".to_owned(),
            Err(_) => {
                let exit = self.find(&name).and_then(|h| h.status.borrow().last_exit.clone());
                self.stop(&name, Stop::Terminate, Duration::from_secs(5)).await?;
                format!("{wait:?} went by while waiting for {wanted}{}", exit.map(|e| format!("; it last ended: {e}")).unwrap_or_default())
            }
        };
        Err(anyhow!("{name} did not start: {last}; its log is {}", self.inner.layout.log(&name).display()))
    }

    /// Asks a process to end, insists after the deadline, and returns when it is gone. One that does not run is fine.
    pub async fn stop(&self, name: &str, how: Stop, deadline: Duration) -> Result<()> {
        let Some(mut handle) = self.find(name) else { return Ok(()) };
        // A closed channel means that the task has ended by itself, and its process with it.
        if handle.stop.send((how, deadline)).await.is_ok() {
            let limit = deadline + Duration::from_secs(10);
            match timeout(limit, handle.status.wait_for(|s| s.phase == Phase::Ended)).await.map(|_| ()) {
                Ok(()) => {}
                Err(_) => bail!("{name} is still there {limit:?} after it was told to end"),
            }
        }
        self.children().remove(name);
        Ok(())
    }

    /// Asks every process to end, all at once.
    pub async fn stop_all(&self, how: Stop, deadline: Duration) -> Result<()> {
        let names: Vec<String> = self.children().keys().cloned().collect();
        let ends = names.iter().map(|name| self.stop(name, how, deadline));
        futures::future::join_all(ends).await.into_iter().collect()
    }

    /// Every process that was started and not stopped.
    pub fn status(&self) -> Vec<ProcessStatus> {
        self.children().values().map(|handle| handle.status.borrow().clone()).collect()
    }

    /// Whether a process runs and is ready.
    pub fn running(&self, name: &str) -> bool {
        self.find(name).is_some_and(|handle| handle.status.borrow().phase == Phase::Ready)
    }

    fn children(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Handle>> {
        self.inner.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &str) -> Option<Handle> {
        self.children().get(name).cloned()
    }

    fn spawn(&self, spec: ProcessSpec) -> Result<Handle> {
        let probe = Probe::new(&spec.ready).with_context(|| format!("preparing the readiness check of {}", spec.name))?;
        let first = ProcessStatus {
            name: spec.name.clone(),
            phase: Phase::Starting,
            pid: None,
            since: Timestamp::now(),
            restarts: 0,
            last_exit: None,
        };
        let (status, receiver) = watch::channel(first);
        let (stop, orders) = mpsc::channel(1);
        let task = Task { layout: self.inner.layout.clone(), spec, probe, status, orders };
        tokio::spawn(task.run());
        Ok(Handle { status: receiver, stop })
    }
}

const FINISHED: &str = "code 0";

struct Task {
    layout: Layout,
    spec: ProcessSpec,
    probe: Probe,
    status: watch::Sender<ProcessStatus>,
    orders: mpsc::Receiver<(Stop, Duration)>,
}

/// Why a process is no longer watched.
enum Left {
    Died(String),
    Told(Stop, Duration),
}

impl Task {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let why = match self.launch() {
                Ok((child, process)) => match self.watch(child, process).await {
                    Left::Died(why) => why,
                    Left::Told(..) => break self.set(Phase::Ended, None, Some("told to end".into())),
                },
                Err(error) => format!("{error:#}"),
            };
            if self.spec.restart == Restart::Never || matches!(self.spec.ready, Ready::Exits) {
                break self.set(Phase::Ended, None, Some(why));
            }
            tracing::warn!(process = self.spec.name, why, "died; starting it again");
            self.set(Phase::Restarting, None, Some(why));
            if began.elapsed() > LONGEST_PAUSE * 3 {
                pause = FIRST_PAUSE;
            }
            tokio::select! {
                () = sleep(pause) => {}
                _ = self.orders.recv() => break self.set(Phase::Ended, None, Some("told to end".into())),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            self.status.send_modify(|s| s.restarts += 1);
        }
        if let Err(error) = remove_if_there(self.record()) {
            tracing::warn!(process = self.spec.name, %error, "its record could not be removed");
        }
    }

    fn launch(&self) -> Result<(Child, ProcessId)> {
        let spec = &self.spec;
        let log = self.layout.log(&spec.name);
        let output =
            OpenOptions::new().create(true).append(true).mode(0o600).open(&log).with_context(|| format!("opening {}", log.display()))?;
        let mut command = Command::new(&spec.program);
        if spec.clear_env == ClearEnv::Yes {
            command.env_clear();
        }
        command
            .args(&spec.args)
            .envs(spec.env.iter().map(|(name, value)| (name, value)))
            .current_dir(spec.cwd.as_ref().unwrap_or(&self.layout.state))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        if let Some((user, group)) = spec.user {
            command.uid(user).gid(group);
        }
        let child = command.spawn().with_context(|| format!("starting {}", spec.program.display()))?;
        let pid = child.id().context("it ended before it had an id")?;
        let process = ProcessId::of(pid).with_context(|| format!("reading the start time of {}", spec.name))?;
        let record = RunRecord { name: spec.name.clone(), process };
        fs::write(self.record(), serde_json::to_vec(&record)?)?;
        self.set(Phase::Starting, Some(pid), None);
        Ok((child, process))
    }

    async fn watch(&mut self, mut child: Child, process: ProcessId) -> Left {
        let left = loop {
            let asking = self.status.borrow().phase == Phase::Starting && !matches!(self.spec.ready, Ready::Exits);
            tokio::select! {
                exit = child.wait() => break Left::Died(match exit {
                    Ok(status) => match status.code() {
                        Some(code) => format!("code {code}"),
                        None => format!("{status}"),
                    },
                    Err(error) => format!("waiting for it failed: {error}"),
                }),
                order = self.orders.recv() => break match order {
                    Some((how, deadline)) => Left::Told(how, deadline),
                    None => Left::Told(Stop::Terminate, Duration::from_secs(10)),
                },
                answered = self.probe.ask(), if asking => {
                    if answered {
                        self.set(Phase::Ready, Some(process.pid), None);
                    } else {
                        sleep(POLL).await;
                    }
                }
            }
        };
        if let Left::Told(how, deadline) = &left {
            let signal = match how {
                Stop::Terminate => Signal::TERM,
                Stop::Interrupt => Signal::INT,
            };
            // The child is reaped by `wait`, so its end shows at once and not only when the process table is read.
            let asked = process.signal(signal);
            if asked.is_err() || timeout(*deadline, child.wait()).await.is_err() {
                tracing::warn!(process = self.spec.name, ?deadline, "did not end in time; killing it");
                if let Err(error) = process.signal_group(Signal::KILL) {
                    tracing::error!(process = self.spec.name, %error, "could not be killed");
                }
                if timeout(Duration::from_secs(5), child.wait()).await.is_err() {
                    tracing::error!(process = self.spec.name, pid = process.pid, "did not go after SIGKILL");
                }
            }
        }
        left
    }

    fn set(&self, phase: Phase, pid: Option<u32>, last_exit: Option<String>) {
        self.status.send_modify(|status| {
            status.phase = phase;
            status.pid = pid;
            status.since = Timestamp::now();
            if last_exit.is_some() {
                status.last_exit = last_exit;
            }
        });
    }

    fn record(&self) -> PathBuf {
        self.layout.file("run").join(format!("{}.json", self.spec.name))
    }
}

/// Asks a process that is not our child to end, and insists after the deadline.
async fn end(process: ProcessId, signal: Signal, deadline: Duration) -> Result<()> {
    process.signal(signal)?;
    if !process.wait_until_gone(deadline).await {
        process.signal_group(Signal::KILL)?;
        if !process.wait_until_gone(Duration::from_secs(5)).await {
            bail!("process {} did not go after SIGKILL", process.pid);
        }
    }
    Ok(())
}

fn remove_if_there(path: PathBuf) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
