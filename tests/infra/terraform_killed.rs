//! deployctl dies or freezes in the middle of an apply: terraform is told to stop, saves its state and gives its lock back.
use std::{
    process::{Child, Command},
    time::{Duration, Instant},
};

use deployctl::{
    steps::{Kind, StepContext, terraform::Terraform},
    tools::process_record::{Guarded, Liveness, ProcessRecord},
};

use super::{emulator::with_aws, fixture, stack};

const PARENT: &str = "DEPLOYCTL_TEST_PARENT";

/// Not a test by itself: the process that is killed. It plans and applies the slow stack.
#[test]
#[ignore = "run by the other tests of this file"]
fn the_parent() {
    let Some(project) = std::env::var_os(PARENT) else { return };
    deployctl::tools::watchdog::use_program(env!("CARGO_BIN_EXE_deployctl").into());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let cx = fixture::context("things", project.as_ref()).await;
        let plan = fixture::planned::<Terraform>(&cx, &stack::input(2)).await.unwrap();
        Terraform::apply(&cx, &stack::input(2), &plan).await.unwrap();
    });
}

/// Starts the parent and returns once terraform is in the middle of its apply.
pub async fn parent_in_the_middle(cx: &StepContext) -> (Child, ProcessRecord) {
    let said = cx.project.join("parent.log");
    let log = std::fs::File::create(&said).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "terraform_killed::the_parent", "--ignored", "--nocapture"])
        .env(PARENT, &cx.project)
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    // Images are compiled beside this test, so it may take long; a parent that gave up is told at once, in its own words.
    let started = Instant::now();
    while stack::made(&cx.project).len() < 2 {
        let gone = child.try_wait().unwrap();
        let late = started.elapsed() > Duration::from_secs(120);
        assert!(
            gone.is_none() && !late,
            "not in the middle after {:?}, {gone:?}: {}",
            started.elapsed(),
            std::fs::read_to_string(&said).unwrap()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(stack::held(cx).await, (true, true));
    let found = Guarded::read(&stack::record(cx)).unwrap();
    assert_eq!(found.record.liveness(), Liveness::Alive);
    (child, found.record.program)
}

pub async fn wait(what: &str, seconds: u64, until: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !until().await {
        assert!(started.elapsed() < Duration::from_secs(seconds), "waited {seconds} s for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn ended_well(cx: &StepContext, record: &ProcessRecord, within: u64) {
    let started = Instant::now();
    wait("terraform to end", within, async || record.liveness() == Liveness::Dead).await;
    eprintln!("terraform ended {} ms after", started.elapsed().as_millis());
    assert_eq!(stack::held(cx).await, (false, false), "the lock must have been given back");
    // What was made is in the state: the next plan does not make it again.
    let plan = fixture::planned::<Terraform>(cx, &stack::input(2)).await.unwrap();
    assert!(!plan.changes.iter().any(|change| change.name == "terraform_data.first"), "{:?}", plan.changes);
    let log = std::fs::read_to_string(cx.scratch.join("terraform.log")).unwrap();
    assert!(log.contains("nterrupt"), "terraform's last words must be in its log");
}

pub async fn begun(name: &str) -> StepContext {
    let project = stack::project(name);
    stack::write(&project, 4);
    let cx = fixture::context("things", &project).await;
    stack::make_backend(&cx).await;
    cx
}

#[test]
fn a_killed_deployctl_leaves_no_lock() {
    with_aws("terraform_killed::a_killed_deployctl_leaves_no_lock", || async {
        let cx = begun("killed").await;
        let (mut parent, record) = parent_in_the_middle(&cx).await;
        parent.kill().unwrap();
        parent.wait().unwrap();
        ended_well(&cx, &record, 20).await;
    });
}

#[test]
fn a_frozen_deployctl_loses_its_terraform() {
    with_aws("terraform_killed::a_frozen_deployctl_loses_its_terraform", || async {
        let cx = begun("frozen").await;
        // Slower than the silence after which the watchdog acts.
        stack::write(&cx.project, 25);
        let (mut parent, record) = parent_in_the_middle(&cx).await;
        let id = rustix::process::Pid::from_raw(i32::try_from(parent.id()).unwrap()).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::STOP).unwrap();
        ended_well(&cx, &record, 24).await;
        rustix::process::kill_process(id, rustix::process::Signal::CONT).unwrap();
        parent.kill().unwrap();
        parent.wait().unwrap();
    });
}
