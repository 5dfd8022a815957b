//! A project in a temporary folder, and deployctl run in it with nothing of the tester's own environment.
use std::{
    path::{Path, PathBuf},
    process::Output,
};

use assert_cmd::Command;

/// A small plan file that needs nothing but what is built in.
pub const PLAN: &str = r#"version: 1
services:
  uploader:
    source: services/uploader
    templates: templates/uploader
    namespace: apps
    service_account: uploader
steps:
  - id: backend
    kind: state-backend
    with: { lock: "${env.aws.state_lock}" }
  - id: images
    kind: image
    needs: [backend]
    with: { services: "${services}", repositories: "deployctl-${env.name}" }
    outputs: { uploader: string }
  - id: again
    kind: image
    needs: [images]
    with: { services: "${services}", repositories: "x/${steps.images.outputs.uploader}" }
    allow: ["update image"]
"#;

const ENVIRONMENT: &str = include_str!("../../plans/environments/sandbox.yaml");

/// A project.
pub struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    /// With the small plan file and an environment `sandbox`.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for below in ["plans/environments", "services/uploader", "services/parser", "templates/uploader", "home", "state"] {
            std::fs::create_dir_all(folder.path().join(below)).unwrap();
        }
        let project = Self { folder };
        project.write("plans/deploy.yaml", PLAN);
        project.write("plans/environments/sandbox.yaml", ENVIRONMENT);
        project
    }
    /// Its folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
    /// Writes a file.
    pub fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }
    /// The plan file with one text replaced by another.
    pub fn change_plan(&self, from: &str, to: &str) {
        assert!(PLAN.contains(from), "{from}");
        self.write("plans/deploy.yaml", &PLAN.replacen(from, to, 1));
    }
    /// deployctl, ready to be run: its own home, a fixed time, and an AWS that nobody answers for.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("deployctl"));
        command
            .args(args)
            .current_dir(self.path())
            .env_clear()
            .env("HOME", self.path().join("home"))
            .env("XDG_STATE_HOME", self.path().join("state"))
            .env("DEPLOYCTL_NOW", "2026-11-22T12:00:00Z")
            .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
            .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_MAX_ATTEMPTS", "1");
        command
    }
    /// Runs it; everything that it said, and its exit code.
    pub fn run(&self, args: &[&str]) -> String {
        let mut command = self.command(args);
        self.shown(&command.output().unwrap())
    }
    /// What a process said, free of what differs between machines.
    pub fn shown(&self, output: &Output) -> String {
        let mut text = String::new();
        for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            let said = String::from_utf8_lossy(bytes).replace(&self.path().display().to_string(), "$PROJECT");
            assert!(!said.contains("wJalrXUtnFEMI"), "a credential was printed: {said}");
            if !said.is_empty() {
                text.push_str(&format!("--- {name}\n{}\n", said.trim_end()));
            }
        }
        text + &format!("--- exit {}\n", output.status.code().map_or_else(|| "by signal".to_owned(), |code| code.to_string()))
    }
}
