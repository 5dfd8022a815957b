//! The services as processes, as Kubernetes would run them: configured by variables and files, told to end or killed.
use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// A service that can be started, killed and started again. Killed when dropped.
pub struct Service {
    program: PathBuf,
    variables: BTreeMap<&'static str, String>,
    log: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Service {
    /// One that does not run yet; it will answer on `port` of loopback.
    pub fn new(program: &str, log: PathBuf, port: u16, variables: BTreeMap<&'static str, String>) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_deployctl")).with_file_name(program);
        assert!(program.exists(), "{} is missing: cargo build --workspace", program.display());
        Self { program, variables, log, port, child: None }
    }

    /// The same with another variable.
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.variables.insert(name, value.to_string());
        self
    }

    pub fn start(&mut self) -> &mut Self {
        assert!(self.child.is_none(), "it runs already");
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(&self.program);
        command.env_clear().envs(&self.variables).env("RUST_BACKTRACE", "1").stdin(Stdio::null());
        self.child = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        self
    }

    /// Started, and waited for until it is ready.
    pub async fn started(mut self) -> Self {
        self.start();
        self.until_ready().await;
        self
    }

    pub async fn until_ready(&mut self) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let said = self.readiness().await;
            if said == "ready" {
                return;
            }
            assert!(Instant::now() < end, "after 60 s: {said}\n{}", self.said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What /readyz says; an empty text if nobody answers.
    pub async fn readiness(&mut self) -> String {
        self.must_live();
        let asked = reqwest::get(format!("http://127.0.0.1:{}/readyz", self.port)).await;
        match asked {
            Ok(answer) => answer.text().await.unwrap().trim().to_owned(),
            Err(_) => String::new(),
        }
    }

    /// Fails with its last words if it has ended by itself.
    pub fn must_live(&mut self) {
        let ended = self.child.as_mut().expect("it was started").try_wait().unwrap();
        assert!(ended.is_none(), "it ended by itself: {ended:?}\n{}", self.said());
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.must_live();
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, as a pod gets it, and how long it then took to end. Fails unless it ends well and within `within`.
    pub async fn terminate(&mut self, within: Duration) -> Duration {
        self.must_live();
        let mut child = self.child.take().unwrap();
        kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::TERM).unwrap();
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if began.elapsed() > within {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("still there {within:?} after SIGTERM:\n{}", self.said());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!((status.code(), status.signal()), (Some(0), None), "{}", self.said());
        began.elapsed()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it was started").id()
    }

    /// The most memory that it ever had, in KiB (`VmHWM` of proc(5)).
    pub fn peak_kib(&mut self) -> u64 {
        self.must_live();
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Counts that from now on (`clear_refs` of proc(5)).
    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").unwrap();
    }

    /// Everything that it has said so far, in all its lives.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it says these words.
    pub async fn says(&mut self, words: &str, within: Duration) {
        self.says_after(0, words, within).await;
    }

    /// The same, behind what it had said by then, in bytes.
    pub async fn says_after(&mut self, seen: usize, words: &str, within: Duration) {
        let end = Instant::now() + within;
        while !self.said()[seen..].contains(words) {
            self.must_live();
            assert!(Instant::now() < end, "no `{words}` within {within:?}:\n{}", self.said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
