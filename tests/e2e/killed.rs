//! terraform is killed in the middle of an apply, its lock held and its state unsaved: the same command takes over what was made, and
//! makes nothing a second time.
use std::{
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use deployctl::tools::process_record::{Guarded, GuardedRecord, Liveness};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::{asked, target::Target};

/// Whom a test kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// terraform with its provider; deployctl and the watchdog see it.
    Terraform,
    /// All three, as a machine's memory killer may.
    Everybody,
}

/// A stack, and the call that has just been answered when terraform dies.
struct Case {
    step: &'static str,
    at: &'static str,
    whom: Whom,
}

const CASES: [Case; 3] = [
    Case { step: "network", at: "ec2:CreateSubnet", whom: Whom::Everybody },
    Case { step: "cluster", at: "eks:CreateCluster", whom: Whom::Everybody },
    Case { step: "data", at: "rds:CreateDBInstance", whom: Whom::Terraform },
];

/// Stacks in turn, all of them in `make soak`; afterwards they are applied.
pub fn is_taken_over(target: &Target) {
    target.deployctl(&["apply", "--yes", "--only", "backend"]).expect(0);
    let soak = std::env::var_os("DEPLOYCTL_SOAK").is_some();
    for case in CASES {
        if case.step == "cluster" && !soak {
            target.deployctl(&["apply", "--yes", "--only", case.step]).expect(0);
            continue;
        }
        killed(target, &case);
        let again = target.deployctl(&["apply", "--yes", "--only", case.step]).expect(0);
        eprintln!("{}", again.err);
        assert!(again.err.contains("breaking lock"), "the lock of {} was held: {}", case.step, again.err);
        assert!(again.err.contains("taken over from"), "something of {} was there: {}", case.step, again.err);
        target.deployctl(&["plan", "--only", case.step, "--detailed-exitcode"]).expect(0);
        nothing_is_there_twice(target, case.step);
    }
}

/// Starts an apply of one step and kills it.
fn killed(target: &Target, case: &Case) {
    let Case { step, at, whom } = case;
    let before = target.requests().len();
    let mut command = target.command(Path::new(env!("CARGO_BIN_EXE_deployctl")));
    // What is made is written down only at the end, so that a kill loses all of it.
    command.args(["apply", "--yes", "-e", "sandbox", "--only", step]).env("TF_STATE_PERSIST_INTERVAL", "3600");
    let mut deployctl = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait(&format!("{at} to be answered"), &mut deployctl, || {
        target.requests()[before..].iter().any(|request| request["action"] == *at && request["status"] == 200)
    });
    let record = record(target, step).unwrap();
    kill(&record, *whom);
    if *whom == Whom::Everybody {
        deployctl.kill().unwrap();
    }
    let ended = deployctl.wait().unwrap();
    assert_eq!(ended.code(), (*whom == Whom::Terraform).then_some(15), "how deployctl ended");
    wait_until_dead(&record);
}

pub fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

/// What a step's watchdog has written, by the last name of its stack; none if there was none, or it is gone after a good end.
pub fn record(target: &Target, stack: &str) -> Option<GuardedRecord> {
    let files = std::fs::read_dir(target.state().join("deployctl/processes/sandbox")).ok()?.map(|entry| entry.unwrap().path());
    let mut records = files.filter(|path| {
        path.extension().is_some_and(|kind| kind == "json")
            && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{stack}-")))
    });
    Some(Guarded::read(&records.next()?)?.record)
}

/// Kills terraform with its provider, and its watchdog too if `everybody` is meant.
pub fn kill(record: &GuardedRecord, whom: Whom) {
    if record.liveness() == Liveness::Dead {
        return;
    }
    kill_process_group(pid(record.program.pid), Signal::KILL).ok();
    if whom == Whom::Everybody {
        kill_process(pid(record.watchdog.pid), Signal::KILL).ok();
    }
}

/// Waits until neither of them is there any more.
pub fn wait_until_dead(record: &GuardedRecord) {
    let end = Instant::now() + Duration::from_secs(60);
    while record.liveness() != Liveness::Dead {
        assert!(Instant::now() < end, "{record:?} still lives");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn wait(what: &str, deployctl: &mut Child, until: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(180);
    while !until() {
        assert!(deployctl.try_wait().unwrap().is_none(), "deployctl has ended before {what}");
        assert!(Instant::now() < end, "waited for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What the environment has of each kind of thing once these steps are applied; what has a name of ours cannot be there twice.
pub fn nothing_is_there_twice(target: &Target, step: &str) {
    for (action, id, expected) in asked::NETWORK {
        let ids = asked::network(target, action, id);
        assert_eq!(ids.len(), expected, "{action} after {step}: {ids:?}");
    }
    let keys = match step {
        "network" => [0, 0],
        "cluster" => [1, 0],
        _ => [2, 1],
    };
    for (region, expected) in ["us-east-1", "eu-west-1"].into_iter().zip(keys) {
        let keys = asked::keys(target, region);
        assert_eq!(keys, expected, "keys in {region} after {step}");
    }
}
