//! terraform is killed in the middle of an apply, its lock held and its state unsaved: the same command takes over what was made, and
//! makes nothing a second time.
use std::{
    collections::BTreeMap,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use deployctl::tools::process_record::{Guarded, GuardedRecord, Liveness};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::target::Target;

/// Whom the test kills.
#[derive(Clone, Copy, PartialEq)]
enum Whom {
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

/// Three stacks in turn; afterwards they are applied.
pub fn is_taken_over(target: &Target) {
    target.deployctl(&["apply", "--yes", "--only", "backend"]).expect(0);
    for case in CASES {
        let before = target.requests().len();
        killed(target, &case);
        let again = target.deployctl(&["apply", "--yes", "--only", case.step]).expect(0);
        eprintln!("{}", again.err);
        assert!(again.err.contains("breaking lock"), "the lock of {} was held: {}", case.step, again.err);
        assert!(again.err.contains("taken over from"), "something of {} was there: {}", case.step, again.err);
        target.deployctl(&["plan", "--only", case.step, "--detailed-exitcode"]).expect(0);
        nothing_was_made_twice(target, before, case.step);
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
    let record = record(target, step);
    kill_process_group(pid(record.program.pid), Signal::KILL).unwrap();
    if *whom == Whom::Everybody {
        kill_process(pid(record.watchdog.pid), Signal::KILL).unwrap();
        deployctl.kill().unwrap();
    }
    let ended = deployctl.wait().unwrap();
    assert_eq!(ended.code(), (*whom == Whom::Terraform).then_some(15), "how deployctl ended");
    let end = Instant::now() + Duration::from_secs(20);
    while record.liveness() != Liveness::Dead {
        assert!(Instant::now() < end, "{record:?} still lives");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

/// What the step's watchdog has written.
fn record(target: &Target, step: &str) -> GuardedRecord {
    let folder = target.state().join("deployctl/processes/sandbox");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut records = files.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{step}-"))));
    Guarded::read(&records.next().unwrap()).unwrap().record
}

fn wait(what: &str, deployctl: &mut Child, until: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(180);
    while !until() {
        assert!(deployctl.try_wait().unwrap().is_none(), "deployctl has ended before {what}");
        assert!(Instant::now() < end, "waited for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Calls that make something, over both attempts, against what the stack has of it in the end.
fn nothing_was_made_twice(target: &Target, before: usize, step: &str) {
    let expected: &[(&str, usize)] = match step {
        "network" => &[
            ("ec2:CreateVpc", 1),
            ("ec2:CreateSubnet", 6),
            ("ec2:CreateInternetGateway", 1),
            ("ec2:AllocateAddress", 1),
            ("ec2:CreateNatGateway", 1),
            ("ec2:CreateRouteTable", 3),
            ("ec2:AssociateRouteTable", 6),
            ("ec2:CreateRoute", 2),
            ("ec2:CreateFlowLogs", 1),
            ("ec2:CreateVpcEndpoint", 1),
            ("logs:CreateLogGroup", 1),
            ("iam:CreateRole", 1),
            ("iam:CreatePolicy", 1),
            ("rds:CreateDBSubnetGroup", 1),
        ],
        "cluster" => &[
            ("eks:CreateCluster", 1),
            ("eks:CreateNodegroup", 1),
            ("eks:CreateAddon", 5),
            ("eks:CreateAccessEntry", 2),
            ("kms:CreateKey", 1),
            ("kms:CreateAlias", 1),
            ("ec2:CreateSecurityGroup", 2),
            ("ec2:AuthorizeSecurityGroupIngress", 8),
            ("ec2:CreateLaunchTemplate", 1),
            ("iam:CreateOpenIDConnectProvider", 1),
            ("iam:CreateRole", 4),
            ("logs:CreateLogGroup", 1),
        ],
        "data" => &[
            ("rds:CreateDBInstance", 1),
            ("rds:CreateDBParameterGroup", 1),
            ("rds:StartDBInstanceAutomatedBackupsReplication", 1),
            ("kms:CreateKey", 2),
            ("kms:CreateAlias", 2),
            ("s3:CreateBucket", 2),
            ("sqs:CreateQueue", 2),
            ("ec2:CreateSecurityGroup", 1),
            ("iam:CreateRole", 1),
            ("logs:CreateLogGroup", 2),
        ],
        _ => &[],
    };
    let mut made: BTreeMap<String, usize> = BTreeMap::new();
    for request in target.requests()[before..].iter().filter(|request| request["status"].as_u64().is_some_and(|status| status < 300)) {
        *made.entry(request["action"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    let wrong: Vec<String> = expected
        .iter()
        .map(|(action, times)| (action, times, made.get(*action).copied().unwrap_or_default()))
        .filter(|(_, times, found)| *times != found)
        .map(|(action, times, found)| format!("{action}: {found} times, not {times}"))
        .collect();
    assert!(wrong.is_empty(), "{step}: {wrong:?}\n{made:#?}");
}
