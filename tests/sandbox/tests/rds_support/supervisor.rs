//! Keeps servers running for the tests: starts them again when they die.
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use deployctl_sandbox::rds::{Processes, Server};
use futures::future::BoxFuture;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::Command,
    task::JoinHandle,
    time::{Instant, sleep},
};

struct Running {
    pid: Arc<AtomicU32>,
    wanted: Arc<AtomicBool>,
    address: IpAddr,
    task: JoinHandle<()>,
}

pub struct Supervisor {
    log: PathBuf,
    running: Mutex<BTreeMap<String, Running>>,
}

impl Supervisor {
    pub fn new(log: PathBuf) -> Self {
        std::fs::create_dir_all(&log).unwrap();
        Self { log, running: Mutex::default() }
    }

    pub fn pid_at(&self, address: Ipv4Addr) -> u32 {
        let running = self.running.lock().unwrap();
        running.values().find(|one| one.address == IpAddr::V4(address)).unwrap().pid.load(Ordering::SeqCst)
    }

    pub async fn stop_all(&self) {
        let names: Vec<String> = self.running.lock().unwrap().keys().cloned().collect();
        for name in names {
            self.stop(&name).await.unwrap();
        }
    }
}

impl Processes for Supervisor {
    fn start(&self, server: Server) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let (pid, wanted) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(true)));
            let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log.join(&server.name))?;
            let (child_pid, child_wanted, spec) = (Arc::clone(&pid), Arc::clone(&wanted), server.clone());
            let task = tokio::spawn(async move {
                while child_wanted.load(Ordering::SeqCst) {
                    let mut child = Command::new(&spec.program).args(&spec.args).stderr(log.try_clone().unwrap()).spawn().unwrap();
                    child_pid.store(child.id().unwrap(), Ordering::SeqCst);
                    child.wait().await.unwrap();
                    sleep(Duration::from_millis(200)).await;
                }
            });
            let before =
                self.running.lock().unwrap().insert(server.name.clone(), Running { pid, wanted, address: server.address.ip(), task });
            assert!(before.is_none(), "{} was started twice", server.name);
            let end = Instant::now() + Duration::from_secs(30);
            while tokio::net::TcpStream::connect(server.address).await.is_err() {
                if Instant::now() > end {
                    bail!("{} does not listen", server.name);
                }
                sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        })
    }

    fn stop<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let Some(one) = self.running.lock().unwrap().remove(name) else { return Ok(()) };
            one.wanted.store(false, Ordering::SeqCst);
            let pid = Pid::from_raw(one.pid.load(Ordering::SeqCst) as i32).context("a process id")?;
            match kill_process(pid, Signal::INT) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
            tokio::time::timeout(Duration::from_secs(60), one.task).await??;
            Ok(())
        })
    }

    fn running(&self, name: &str) -> bool {
        self.running.lock().unwrap().contains_key(name)
    }
}
