//! Kubernetes, etcd and CoreDNS: one Go binary, called under several names.
use std::{os::unix::fs::symlink, path::PathBuf};

use anyhow::Result;

use super::{
    cached::{Cache, key, step},
    go::go,
};

const MAIN: &str = include_str!("../../kube-node/main.go");
const GO_MOD: &str = include_str!("../../kube-node/go.mod");
const GO_SUM: &str = include_str!("../../kube-node/go.sum");
const PROGRAMS: [&str; 7] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "etcd", "coredns"];
/// Has kubectl alone: this folder is put on people's PATH, where an etcd of ours must not hide theirs.
pub const COMMANDS: &str = "bin";
/// What the programs call themselves; kubectl and clients read it to know what the server can do.
pub const VERSION: &str = "v1.34.4";

/// The folder with all programs.
pub async fn install(cache: &Cache) -> Result<PathBuf> {
    let key = key([MAIN, GO_MOD, GO_SUM, VERSION].map(str::as_bytes));
    let built = cache.get("kube-node", key, async |folder: PathBuf| {
        let source = tempfile::tempdir()?;
        for (name, content) in [("main.go", MAIN), ("go.mod", GO_MOD), ("go.sum", GO_SUM)] {
            std::fs::write(source.path().join(name), content)?;
        }
        let mut flags = String::from("-s -w");
        for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
            flags.push_str(&format!(" -X {package}.gitVersion={VERSION} -X {package}.gitMajor=1 -X {package}.gitMinor=34"));
        }
        let mut go = go(source.path(), "build");
        go.args(["-mod=readonly", "-ldflags", &flags, "-o"]).arg(folder.join("kube-node")).arg(".");
        step("building Kubernetes from its Go modules (4 to 6 minutes the first time)", go).await?;
        for program in PROGRAMS {
            symlink("kube-node", folder.join(program))?;
        }
        std::fs::create_dir(folder.join(COMMANDS))?;
        symlink("../kube-node", folder.join(COMMANDS).join("kubectl"))?;
        Ok(())
    });
    built.await
}
