//! What `deployctl-sandbox install` brought, for the tests that run it: the one place where they look.
#![allow(dead_code, clippy::expect_used, clippy::print_stderr, reason = "every test uses a part of it, and says why it skips")]
use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

/// `$XDG_CACHE_HOME/deployctl`.
pub fn cache() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // A test that gives what it tries a cache of its own still runs what is installed.
    if let Some(installed) = set("DEPLOYCTL_TEST_CACHE") {
        return installed;
    }
    let root = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache"))).expect("XDG_CACHE_HOME or HOME is set");
    root.join("deployctl")
}

/// The Python that has ministack.
pub fn ministack() -> Option<PathBuf> {
    present("ministack", recorded("python"))
}

/// The Python that has parliament.
pub fn parliament() -> Option<PathBuf> {
    present("parliament", recorded("parliament"))
}

/// The program that is kube-apiserver and etcd, by the name that it is called under.
pub fn kube_node() -> Option<PathBuf> {
    present("kube-node", recorded("kube_node").map(|folder| folder.join("kube-node")))
}

/// The folder of Kafka's jars.
pub fn kafka() -> Option<PathBuf> {
    present("kafka", recorded("kafka"))
}

/// A program whose path in the cache stays, as plan files name it.
pub fn program(path: &str) -> Option<PathBuf> {
    present(path, Some(cache().join(path)))
}

/// The offline providers as a filesystem mirror.
pub fn provider() -> Option<PathBuf> {
    present("provider", recorded("provider"))
}

/// terraform: the installed one, else whatever PATH leads to.
pub fn terraform() -> PathBuf {
    recorded("terraform").unwrap_or_else(|| "terraform".into())
}

/// PATH with that terraform first, for programs that look for it there.
pub fn path() -> OsString {
    let folder = terraform().parent().filter(|folder| folder.is_absolute()).map(Path::to_owned);
    let before = env::var_os("PATH").unwrap_or_default();
    env::join_paths(folder.into_iter().chain(env::split_paths(&before))).expect("no folder of PATH has a colon")
}

/// A test leaves out what it cannot try. `make test` sets DEPLOYCTL_TEST_COMPLETE: then nothing is left out unseen.
pub fn skip(reason: &str) {
    assert!(env::var_os("DEPLOYCTL_TEST_COMPLETE").is_none(), "DEPLOYCTL_TEST_COMPLETE is set, and {reason}");
    eprintln!("skipped: {reason}");
}

/// What the last installation wrote down.
fn recorded(what: &str) -> Option<PathBuf> {
    let text = std::fs::read(cache().join("installed.json")).ok()?;
    let record: serde_json::Value = serde_json::from_slice(&text).ok()?;
    record[what].as_str().map(PathBuf::from)
}

fn present(what: &str, path: Option<PathBuf>) -> Option<PathBuf> {
    let found = path.filter(|path| path.exists());
    if found.is_none() {
        skip(&format!("there is no {what} in {}: `deployctl-sandbox install` installs it", cache().display()));
    }
    found
}
