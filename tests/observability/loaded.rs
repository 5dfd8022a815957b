//! Whether Prometheus has loaded a rule as it is written now: asked by the agent of a real one.
use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use super::programs;

const RULES: &str = "groups:
  - name: test
    rules:
      - alert: Always
        expr: vector(1)
      - alert: Down
        expr: sum by (job) (up{job=~\"a|b\"}) == 0
        for: 2m
";

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has seen then.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn agent(port: u16, rules: &str, seconds: u32) -> Output {
    let (url, seconds) = (format!("http://127.0.0.1:{port}"), seconds.to_string());
    let args = ["agent", "prometheus", "--url", &url, "--rules", rules, "--alert", "Always", "--deadline-seconds", &seconds];
    Command::new(env!("CARGO_BIN_EXE_deployctl")).args(args).output().unwrap()
}

fn start(prometheus: &Path, folder: &Path, port: u16) -> Running {
    let config = "global: { evaluation_interval: 1s }\nrule_files: [rules.yaml]\n";
    std::fs::write(folder.join("prometheus.yml"), config).unwrap();
    let mut command = Command::new(prometheus);
    command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.enable-lifecycle"]);
    command.arg(format!("--web.listen-address=127.0.0.1:{port}")).current_dir(folder);
    Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

#[test]
fn a_changed_expression_counts_only_once_it_is_loaded() {
    let Some(prometheus) = programs::prometheus() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yaml");
    std::fs::write(&file, RULES).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _running = start(&prometheus, folder.path(), port);
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    // How it is written is no difference.
    let spaced = RULES.replace("sum by (job) (up{job=~\"a|b\"}) == 0", "sum(up{job=~'a|b'})by(job)==0");
    assert_ne!(spaced, RULES);
    let loaded = agent(port, &spaced, 30);
    assert!(loaded.status.success(), "{}", said(&loaded));
    for (changed, says) in [(RULES.replace("a|b", "a|c"), "a|b"), (RULES.replace("2m", "3m"), "120 s")] {
        std::fs::write(&file, RULES).unwrap();
        let old = agent(port, &changed, 2);
        assert!(!old.status.success() && said(&old).contains("rule Down to be loaded") && said(&old).contains(says), "{}", said(&old));
        std::fs::write(&file, &changed).unwrap();
        let new = agent(port, &changed, 30);
        assert!(new.status.success(), "{}", said(&new));
    }
    let gone = agent(port, &RULES.replace("Down", "Up"), 2);
    assert!(!gone.status.success() && said(&gone).contains("rule Up to be loaded"), "{}", said(&gone));
}
