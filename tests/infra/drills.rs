//! The drill exporter as a process: it tells what is in the bucket, follows it, is ready before it has read anything, and ends when it is told to.
use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use deployctl::{
    engine::{
        drills::{self, Drilled},
        records::BucketRecords,
    },
    ids::{Region, RunId},
    steps::state_backend::Names,
};
use rustix::process::{Pid, Signal, kill_process};

use super::{emulator::with_aws, fixture, stack};

/// Ends with the test.
struct Exporter(Child, u16);

impl Drop for Exporter {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has seen then.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Exporter {
    fn start(bucket: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_deployctl"));
        command.args(["agent", "drill-exporter", "--environment-name", "sandbox", "--account", "111122223333", "--dr-region", "eu-west-1"]);
        command.args(["--bucket", bucket, "--every-seconds", "1", "--listen", &format!("127.0.0.1:{port}")]);
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap(), port)
    }
    async fn get(&self, path: &str) -> Option<String> {
        reqwest::get(format!("http://127.0.0.1:{}/{path}", self.1)).await.ok()?.error_for_status().ok()?.text().await.ok()
    }
    /// Until it tells all of these lines.
    async fn tells(&self, lines: &[&str]) -> String {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let text = self.get("metrics").await.unwrap_or_default();
            if lines.iter().all(|line| text.lines().any(|told| told.starts_with(line))) {
                return text;
            }
            assert!(Instant::now() < end, "{lines:?} is not told:\n{text}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn drilled(good: bool) -> Drilled {
    let text = format!(r#"{{"at":"2026-11-29T03:00:00Z","good":{good},"rto_seconds":12.5,"rpo_seconds_at_most":4}}"#);
    serde_json::from_str(&text).unwrap()
}

#[test]
fn prometheus_is_told_of_drills() {
    with_aws("drills::prometheus_is_told_of_drills", || async {
        let cx = fixture::context("backend", &fixture::test_dir()).await;
        let names = Names::of(&cx.environment).unwrap();
        let mut exporter = Exporter::start(names.dr_bucket.as_str());
        let end = Instant::now() + Duration::from_secs(10);
        while exporter.get("healthz").await.is_none() {
            assert!(Instant::now() < end, "it does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Without a bucket there was no drill, which is known.
        let label = "{environment=\"sandbox\",region=\"eu-west-1\"}";
        let line = |name: &str, value: &str| format!("deployctl_drill_{name}{label} {value}");
        let never = exporter.tells(&[&line("last_success_timestamp_seconds", "0"), &line("read_timestamp_seconds", "1")]).await;
        assert!(!never.contains("deployctl_drill_success{"), "{never}");

        stack::make_backend(&cx).await;
        let aws = Arc::new(cx.aws.in_region(&Region::parse("eu-west-1").unwrap()));
        let records = BucketRecords::alone(aws, names.dr_bucket.clone());
        let run = |end: u8| RunId::parse(format!("0198f9c0-0000-7000-8000-0000000000{end:02}")).unwrap();
        drills::keep(&records, &run(1), &drilled(true)).await.unwrap();
        let good = line("last_success_timestamp_seconds", "1795921200");
        exporter.tells(&[&good, &line("success", "1"), &line("rto_seconds", "12.5"), &line("rpo_bound_seconds", "4")]).await;
        drills::keep(&records, &run(2), &drilled(false)).await.unwrap();
        exporter.tells(&[&good, &line("success", "0")]).await;

        kill_process(Pid::from_child(&exporter.0), Signal::TERM).unwrap();
        assert!(exporter.0.wait().unwrap().success());
    });
}
