//! A sandbox of the test's own, and the two programs as a person would call them.
use std::{
    collections::BTreeMap,
    io::Write as _,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Mutex,
    time::Instant,
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use base64::Engine as _;
use rustix::{process::Pid, thread::LinkNameSpaceType};

/// Every line that can be had.
const LOUD: [(&str, &str); 2] = [("RUST_LOG", "trace"), ("RUST_BACKTRACE", "full")];

/// Names a sandbox that is deployed already and stays up, for whoever works on one of the parts.
const STANDING: &str = "DEPLOYCTL_E2E_SANDBOX";

/// A sandbox that is taken down when the test ends, however it ends.
pub struct Target {
    name: String,
    environment: BTreeMap<String, String>,
    state: tempfile::TempDir,
    said: Mutex<Vec<String>>,
}

impl Target {
    /// Brings one up.
    pub fn up() -> Self {
        let name = std::env::var(STANDING).unwrap_or_else(|_| format!("e2e-{}", std::process::id()));
        let mut target = Self { name, environment: BTreeMap::new(), state: tempfile::tempdir().unwrap(), said: Mutex::default() };
        let up = target.sandbox(&["up"]);
        assert!(up.status.success(), "{}", text(&up));
        let exports = String::from_utf8(target.sandbox(&["env"]).stdout).unwrap();
        for line in exports.lines() {
            let (name, value) = line.trim_start_matches("export ").split_once('=').unwrap();
            target.environment.insert(name.to_owned(), value.trim_matches('\'').to_owned());
        }
        target
    }

    /// Whether it is one that stays up, deployed already.
    pub fn stands() -> bool {
        std::env::var_os(STANDING).is_some()
    }

    /// `deployctl-sandbox --name … ARGS`.
    pub fn sandbox(&self, args: &[&str]) -> Output {
        Command::new(program("deployctl-sandbox")).args(["--name", &self.name]).args(args).output().unwrap()
    }

    /// The same, not waited for.
    pub fn sandbox_started(&self, args: &[&str]) -> Child {
        let mut command = Command::new(program("deployctl-sandbox"));
        command.args(["--name", &self.name]).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// `deployctl ARGS -e sandbox` with the sandbox's variables; journals go to a folder of the test's own.
    pub fn deployctl(&self, args: &[&str]) -> Ended {
        self.deployctl_with(args, None)
    }

    /// The same with something on standard input.
    pub fn deployctl_with(&self, args: &[&str], input: Option<&[u8]>) -> Ended {
        self.run(self.command(&program("deployctl")), args, input)
    }

    /// The same with other variables.
    pub fn deployctl_set(&self, args: &[&str], variables: &[(&str, &Path)]) -> Ended {
        let mut command = self.command(&program("deployctl"));
        command.envs(variables.iter().copied());
        self.run(command, args, None)
    }

    fn run(&self, mut command: Command, args: &[&str], input: Option<&[u8]>) -> Ended {
        let started = Instant::now();
        command.args(args).args(["-e", "sandbox"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.unwrap_or_default()).unwrap();
        let output = child.wait_with_output().unwrap();
        let ended = Ended {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into(),
            err: String::from_utf8_lossy(&output.stderr).into(),
            seconds: started.elapsed().as_secs_f32(),
        };
        eprintln!("deployctl {}: exit {:?} in {:.1} s", args.join(" "), ended.code, ended.seconds);
        self.said.lock().unwrap().push(format!("deployctl {}\n{}{}", args.join(" "), ended.out, ended.err));
        ended
    }

    /// At its most talkative.
    pub fn deployctl_loud(&self, args: &[&str], input: Option<&[u8]>) -> Ended {
        let mut command = self.command(&program("deployctl"));
        command.arg("-v").envs(LOUD);
        self.run(command, args, input)
    }

    /// The same, not waited for; what it says goes to the file.
    pub fn deployctl_started(&self, args: &[&str], into: &Path) -> Child {
        let said = std::fs::File::create(into).unwrap();
        let mut command = self.command(&program("deployctl"));
        command.arg("-v").envs(LOUD).args(args).args(["-e", "sandbox"]).stdin(Stdio::null());
        command.stdout(said.try_clone().unwrap()).stderr(said).spawn().unwrap()
    }

    /// Everything that every deployctl has said so far, a text a command.
    pub fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// kubectl as the person, to its end; gives standard output.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let output = self.command(Path::new("kubectl")).args(args).output().unwrap();
        assert!(output.status.success(), "kubectl {args:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Any program with the variables that `sandbox env` prints.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.envs(&self.environment).env("XDG_STATE_HOME", self.state.path()).current_dir(project());
        command
    }

    /// Carries something out in the sandbox's network, as a pod's neighbour would.
    pub fn inside(&self, work: impl Future<Output = ()> + Send) {
        let namespace = std::fs::File::open(format!("/run/netns/deployctl-{}", self.name)).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
            });
            thread.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked));
        });
    }

    /// The process of one of its parts, as `status` names it.
    pub fn process(&self, part: &str) -> Pid {
        let status = text(&self.sandbox(&["status"]));
        let pid = status.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == part).then(|| words.nth(1)?.parse().ok().and_then(Pid::from_raw))?
        });
        pid.unwrap_or_else(|| panic!("{part} does not run:\n{status}"))
    }

    /// Waits until External Secrets' stand-in has brought a new value into the agent's namespace.
    pub fn wait_for_secret(&self, name: &str, key: &str, is_it: impl Fn(&str) -> bool) {
        let end = Instant::now() + std::time::Duration::from_secs(120);
        let path = format!("jsonpath={{.data.{key}}}");
        loop {
            let get = self.command(Path::new("kubectl")).args(["-n", "deployctl", "get", "secret", name, "-o", &path]).output().unwrap();
            let value = base64::prelude::BASE64_STANDARD.decode(get.stdout.trim_ascii()).unwrap();
            if is_it(&String::from_utf8_lossy(&value)) {
                return;
            }
            assert!(Instant::now() < end, "the Secret {name} does not follow");
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
    }

    /// For an SDK's client in a region, as the person.
    pub fn sdk(&self, region: &'static str) -> SdkConfig {
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region))
            .endpoint_url(self.variable("AWS_ENDPOINT_URL"))
            .credentials_provider(SharedCredentialsProvider::new(self.person()))
            .build()
    }

    /// S3 as the sandbox has it: buckets are in the path.
    pub fn s3(&self, region: &'static str) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::config::Builder::from(&self.sdk(region)).force_path_style(true).build();
        aws_sdk_s3::Client::from_conf(config)
    }

    /// Where journals and logs of runs are.
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// A variable that `sandbox env` prints.
    pub fn variable(&self, name: &str) -> &str {
        &self.environment[name]
    }

    /// The front door's record.
    pub fn record(&self) -> PathBuf {
        Path::new(self.variable("KUBECONFIG")).with_file_name("log").join("requests.ndjson")
    }

    /// What it has so far, one JSON object a request.
    pub fn requests(&self) -> Vec<serde_json::Value> {
        std::fs::read_to_string(self.record()).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if Self::stands() {
            return;
        }
        let down = self.sandbox(&["down"]);
        eprintln!("{}", text(&down));
        // A second panic would hide the first.
        assert!(down.status.success() || std::thread::panicking());
    }
}

/// How a command ended.
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
    pub seconds: f32,
}

impl Ended {
    /// Fails the test with everything that was printed unless the exit code is this.
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "standard output:\n{}\nstandard error:\n{}", self.out, self.err);
        self
    }
}

/// The checkout.
pub fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Beside deployctl, whose path cargo knows: the sandbox's program is of another package.
fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_deployctl")).with_file_name(name)
}

/// Everything that a command printed.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}
