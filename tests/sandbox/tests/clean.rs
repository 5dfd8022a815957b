//! `down` leaves the machine as `up` found it, whatever was killed in between. Needs root; builds what is not in the cache.
#![allow(clippy::unwrap_used, reason = "a test may panic and say why")]
#[path = "../../installed/mod.rs"]
mod installed;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

const NAME: &str = "clean-test";

struct Sandbox {
    state: tempfile::TempDir,
}

impl Sandbox {
    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_deployctl-sandbox"));
        command.args(args).args(["--name", NAME]).env("XDG_STATE_HOME", self.state.path()).output().unwrap()
    }

    fn must(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn folder(&self) -> PathBuf {
        self.state.path().join("deployctl/sandbox").join(NAME)
    }

    fn pid(&self, record: &str) -> u32 {
        let record: serde_json::Value = serde_json::from_slice(&fs::read(self.folder().join(record)).unwrap()).unwrap();
        u32::try_from(record["pid"].as_u64().unwrap()).unwrap()
    }

    fn kill(&self, record: &str) {
        assert!(Command::new("kill").args(["-9", &self.pid(record).to_string()]).status().unwrap().success());
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // A failed test must not leave a cluster running.
        drop(self.run(&["down"]));
    }
}

/// Everything about the machine that a sandbox may change, by where it was looked up.
fn machine() -> BTreeMap<&'static str, BTreeSet<String>> {
    let lines = |program: &str, args: &[&str]| -> BTreeSet<String> {
        let output = Command::new(program).args(args).output().unwrap();
        String::from_utf8_lossy(&output.stdout).lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect()
    };
    let names = |folder: &str| -> BTreeSet<String> {
        let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::from(["absent".to_owned()]) };
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    };
    let mut all = BTreeMap::from([
        ("links", lines("ip", &["-o", "link"]).iter().map(|l| l.split(' ').nth(1).unwrap_or_default().to_owned()).collect()),
        ("addresses", lines("ip", &["-o", "addr"]).iter().map(|l| l.split_whitespace().take(4).collect::<Vec<_>>().join(" ")).collect()),
        ("routes", lines("ip", &["route"])),
        ("namespaces", lines("ip", &["netns"])),
        ("rules", lines("iptables-save", &[])),
        ("sockets", lines("ss", &["-Hltnu"]).iter().map(|l| l.split_whitespace().nth(4).unwrap_or_default().to_owned()).collect()),
        ("shared memory", names("/dev/shm")),
    ]);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    all.insert("mounts", mounts.lines().filter_map(|l| l.split(' ').nth(4)).map(str::to_owned).collect());
    for folder in ["/run/containerd", "/run/containerd/s", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers", "/run/netns", "/run"]
    {
        all.insert(folder, names(folder));
    }
    for parameter in ["/proc/sys/vm/overcommit_memory", "/proc/sys/kernel/panic", "/proc/sys/kernel/panic_on_oops"] {
        all.insert(parameter, fs::read_to_string(parameter).into_iter().collect());
    }
    let mut groups = BTreeSet::new();
    walk(Path::new("/sys/fs/cgroup"), &mut groups);
    all.insert("cgroups", groups);
    all
}

fn walk(folder: &Path, found: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.filter_map(Result::ok).filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        found.insert(entry.path().display().to_string());
        walk(&entry.path(), found);
    }
}

/// Processes that are the sandbox's, by what names its state folder or its control group.
fn processes(of: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let read =
            |file: &str| fs::read(entry.path().join(file)).map(|b| String::from_utf8_lossy(&b).replace('\0', " ")).unwrap_or_default();
        let line = read("cmdline");
        if line.contains(&of.display().to_string()) || read("cgroup").contains(&format!("/deployctl-{NAME}")) {
            found.push(line);
        }
    }
    found
}

#[test]
fn down_leaves_nothing_behind() {
    if !rustix::process::geteuid().is_root() {
        installed::skip("it needs root");
        return;
    }
    let sandbox = Sandbox { state: tempfile::tempdir().unwrap() };
    sandbox.must(&["install"]);
    let before = machine();

    sandbox.must(&["up"]);
    sandbox.must(&["dev-cluster"]);
    sandbox.kill("daemon.json");
    sandbox.must(&["up"]);
    let status: serde_json::Value = serde_json::from_str(&sandbox.must(&["status", "--output", "json"])).unwrap();
    let ready: BTreeSet<&str> =
        status["processes"].as_array().unwrap().iter().filter(|p| p["phase"] == "ready").filter_map(|p| p["name"].as_str()).collect();
    for part in ["etcd", "kube-apiserver", "kubelet", "containerd", "coredns", "kube-proxy"] {
        assert!(ready.contains(part) && ready.contains(format!("dr-{part}").as_str()), "{part} is not ready in both regions: {status}");
    }
    assert!(ready.contains("kafka"), "{status}");

    // Each is repaired with its data kept: the same clusters answer afterwards.
    let uid = |sandbox: &Sandbox, of: &str| kubectl(sandbox, of, &["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"]);
    let clusters = CLUSTERS.map(|of| uid(&sandbox, of));
    assert_ne!(clusters[0], clusters[1]);
    for part in ["kubelet", "etcd", "kube-apiserver", "containerd", "kafka", "dr-kubelet", "dr-etcd", "dr-kube-apiserver", "dr-containerd"]
    {
        sandbox.kill(&format!("run/{part}.json"));
    }
    sandbox.must(&["up"]);
    assert_eq!(CLUSTERS.map(|of| uid(&sandbox, of)), clusters);
    a_lost_regions_cluster_freezes_alone(&sandbox);

    sandbox.must(&["down"]);
    assert_eq!(processes(&sandbox.folder()), Vec::<String>::new());
    let after = machine();
    for (what, was) in &before {
        let is = &after[what];
        let (added, removed): (Vec<_>, Vec<_>) = (is.difference(was).collect(), was.difference(is).collect());
        assert!(added.is_empty() && removed.is_empty(), "{what}: added {added:?}, removed {removed:?}");
    }
    assert!(!sandbox.folder().exists());
    sandbox.must(&["down"]);
}

fn a_lost_regions_cluster_freezes_alone(sandbox: &Sandbox) {
    let answers = |of: &str| asked(sandbox, of, &["get", "--raw", "/readyz", "--request-timeout", "3s"]).status.success();
    for (lost, frozen, lives) in [("us-east-1", CLUSTERS[0], CLUSTERS[1]), ("eu-west-1", CLUSTERS[1], CLUSTERS[0])] {
        sandbox.must(&["region", "down", lost]);
        let end = Instant::now() + Duration::from_secs(30);
        while answers(frozen) {
            assert!(Instant::now() < end, "the cluster of {lost} still answers");
        }
        assert!(answers(lives), "the other one answers");
        sandbox.must(&["region", "up", lost]);
        assert_eq!(kubectl(sandbox, frozen, &["get", "--raw", "/readyz"]), "ok");
    }
}

/// Folders of the clusters, below the sandbox's.
const CLUSTERS: [&str; 2] = ["", "dr-cluster"];

fn asked(sandbox: &Sandbox, of: &str, args: &[&str]) -> Output {
    let config = sandbox.folder().join(of).join("pki/admin.kubeconfig");
    let installed: serde_json::Value = serde_json::from_slice(&fs::read(sandbox.folder().join("installed.json")).unwrap()).unwrap();
    let program = Path::new(installed["kube_node"].as_str().unwrap()).join("bin/kubectl");
    Command::new(program).args(args).env("KUBECONFIG", &config).output().unwrap()
}

fn kubectl(sandbox: &Sandbox, of: &str, args: &[&str]) -> String {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let output = asked(sandbox, of, args);
        if output.status.success() {
            return String::from_utf8(output.stdout).unwrap();
        }
        assert!(Instant::now() < end, "kubectl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        std::thread::sleep(Duration::from_millis(200));
    }
}
