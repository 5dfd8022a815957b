//! terraform is killed in the middle of an apply, its lock held and its state unsaved: the same command takes over what was made, and
//! makes nothing a second time.
use std::{
    collections::BTreeSet,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant, SystemTime},
};

use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use deployctl::tools::process_record::{Guarded, GuardedRecord, Liveness};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use serde_json::Value;

use super::{commands::block_on, target::Target};

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

/// What the environment has of each kind of thing once these steps are applied; what has a name of ours cannot be there twice.
fn nothing_is_there_twice(target: &Target, step: &str) {
    let network = [
        ("DescribeVpcs", "vpcId", 1),
        ("DescribeSubnets", "subnetId", 6),
        ("DescribeInternetGateways", "internetGatewayId", 1),
        ("DescribeAddresses", "allocationId", 1),
        ("DescribeNatGateways", "natGatewayId", 1),
        ("DescribeRouteTables", "routeTableId", 3),
        ("DescribeRouteTables", "routeTableAssociationId", 6),
        ("DescribeFlowLogs", "flowLogId", 1),
        ("DescribeVpcEndpoints", "vpcEndpointId", 1),
    ];
    for (action, id, expected) in network {
        let filter = "Filter.1.Name=tag%3Adeployctl%3Aenvironment&Filter.1.Value.1=sandbox";
        let form = ("content-type", "application/x-www-form-urlencoded");
        let answer = asked(target, "ec2", "us-east-1", &[form], &format!("Action={action}&Version=2016-11-15&{filter}"));
        let ids: BTreeSet<&str> = answer.split(&format!("<{id}>")).skip(1).filter_map(|rest| rest.split('<').next()).collect();
        assert_eq!(ids.len(), expected, "{action} after {step}: {ids:?}");
    }
    let keys = match step {
        "network" => [0, 0],
        "cluster" => [1, 0],
        _ => [2, 1],
    };
    for (region, expected) in ["us-east-1", "eu-west-1"].into_iter().zip(keys) {
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", "TrentService.ListKeys")];
        let answer: Value = serde_json::from_str(&asked(target, "kms", region, &headers, "{}")).unwrap();
        assert_eq!(answer["Keys"].as_array().unwrap().len(), expected, "keys in {region} after {step}: {answer}");
    }
}

/// Asks a service whose SDK nothing else here needs, as the person.
fn asked(target: &Target, service: &str, region: &str, headers: &[(&'static str, &'static str)], body: &str) -> String {
    let url = format!("{}/", target.variable("AWS_ENDPOINT_URL"));
    let identity = target.person().into();
    let params = v4::SigningParams::builder().identity(&identity).region(region).name(service).time(SystemTime::now());
    let params = params.settings(SigningSettings::default()).build().unwrap().into();
    let request = SignableRequest::new("POST", &url, headers.iter().copied(), SignableBody::Bytes(body.as_bytes())).unwrap();
    let (instructions, _signature) = sign(request, &params).unwrap().into_parts();
    let request = reqwest::Client::new().post(&url).body(body.to_owned());
    let request = headers.iter().copied().chain(instructions.headers()).fold(request, |request, (name, value)| request.header(name, value));
    block_on(async { request.send().await.unwrap().error_for_status().unwrap().text().await.unwrap() })
}
