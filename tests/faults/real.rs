//! `deployctl plan --out` and `deployctl apply`, the real program against an emulated AWS: killed, or refused by the disk, at every call
//! that writes. No bucket is there before the journal says so, the plan is the old one or the new one, and the same command converges.
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use deployctl::{
    engine::{
        history::History,
        journal,
        lease::{Holder, LocalLease},
    },
    plan::saved,
};
use tokio::runtime::Handle;

use super::{
    emulator::with_aws,
    is_soak,
    project::Project,
    refused::is_told,
    strace::{self, Ended, Fault, Tried},
};

/// The program is slow beside the engine alone: `make test` tries the calls that decide.
const PLAN: [Fault; 3] = [Fault::Kill("fsync"), Fault::Kill("renameat"), Fault::Error("renameat", "EIO")];
const APPLY: [Fault; 3] = [Fault::Kill("fdatasync"), Fault::Kill("renameat2"), Fault::Error("fdatasync", "EIO")];
/// For both commands.
const ALL: [Fault; 9] = [
    Fault::Kill("write"),
    Fault::Kill("fsync"),
    Fault::Kill("ftruncate"),
    Fault::Kill("unlinkat"),
    Fault::Kill("mkdir"),
    Fault::Error("write", "ENOSPC"),
    Fault::Error("write", "EIO"),
    Fault::Error("fsync", "EIO"),
    Fault::Error("fdatasync", "ENOSPC"),
];

/// Both commands, with every fault.
pub fn everything() {
    if !strace::is_there() {
        return;
    }
    with_aws("the_real_deployctl", || async {
        let aws = Handle::current();
        // Elsewhere than on a thread of the runtime, which must go on answering.
        std::thread::spawn(move || {
            let more = || ALL.into_iter().filter(|_| is_soak());
            let planned = PLAN.into_iter().chain(more()).map(|fault| (fault, "plan --out", plan as Try));
            let applied = APPLY.into_iter().chain(more()).map(|fault| (fault, "apply", apply as Try));
            let mut points = 0;
            for (number, (fault, command, try_at)) in planned.chain(applied).enumerate() {
                let tried = strace::every(1, |at| try_at(&aws, fault, at, number));
                eprintln!("  {command}, {fault:?}: {tried} points");
                points += tried;
            }
            eprintln!("  {points} faults of the real program, nothing lost");
            assert!(points > 12, "it must have been met");
        })
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Runs a command with a fault, looks at what is left, and runs it again.
type Try = fn(&Handle, Fault, usize, usize) -> Tried;

/// What became of it: ended by itself without the fault, or by it, or hit at something that is not ours.
fn tried(ended: &Ended, fault: Fault, what: &str) -> Tried {
    match (fault, &ended.refused) {
        (Fault::Kill(_), _) if ended.is_killed() => Tried::Hit,
        (Fault::Error(..), Some(Some(file))) => {
            is_told(ended, file, what);
            Tried::Hit
        }
        (Fault::Error(..), Some(None)) => Tried::Missed,
        _ => {
            assert_eq!(ended.code, Some(0), "{what}: {}{}", ended.out, ended.err);
            Tried::NoSuchCall
        }
    }
}

fn plan(_aws: &Handle, fault: Fault, at: usize, number: usize) -> Tried {
    let what = format!("plan --out, {fault:?} {at}");
    let project = Project::new(&format!("p{number}-{at}"));
    let old = project.save_an_old_plan();
    let path = project.plan();
    let arguments = ["plan", "--out", path.to_str().unwrap()];
    let is_old = || {
        let plan = saved::read(&path).unwrap_or_else(|failure| panic!("{what}: the plan is torn: {:?}", failure.chain()));
        assert!(plan.digest == old || plan.plan.steps.len() == 1, "{what}: neither the old plan nor the new one");
        plan.digest == old
    };
    let ended = project.run_with(fault, at, &arguments);
    let (tried, was_old) = (tried(&ended, fault, &what), is_old());
    if matches!(tried, Tried::NoSuchCall) {
        assert!(!was_old, "{what}: it ended well and saved nothing");
        return tried;
    }
    project.run(&arguments).expect_success(&what);
    assert!(!is_old(), "{what}: the second time it was not saved");
    tried
}

fn apply(aws: &Handle, fault: Fault, at: usize, number: usize) -> Tried {
    let what = format!("apply, {fault:?} {at}");
    let project = Project::new(&format!("a{number}-{at}"));
    let ended = project.run_with(fault, at, &["apply", "--yes"]);
    let before = history(&project, &what);
    let started = before.runs.iter().any(|run| run_says(&project, run, "\"event\":\"started\""));
    assert!(started || !aws.block_on(has_bucket(&project)), "{what}: a bucket was made before the journal said so");
    let tried = tried(&ended, fault, &what);
    if ended.code == Some(0) {
        assert_eq!(before.runs.last().and_then(|run| run.finished), Some(true), "{what}: it said that all was well");
    }
    LocalLease::acquire(&project.state().locks(), &project.environment, &Holder::this_process("look"))
        .map(drop)
        .unwrap_or_else(|failure| panic!("{what}: the lock is not free: {}", failure.message));
    project.run(&["apply", "--yes"]).expect_success(&what);
    let after = history(&project, &what);
    let last = after.runs.last().unwrap();
    assert_eq!(last.finished, Some(true), "{what}");
    let goes_on = before.unfinished().map(|run| &run.header.run);
    assert!(goes_on.is_none_or(|run| *run == last.header.run), "{what}: the unfinished run was left");
    assert!(aws.block_on(has_bucket(&project)), "{what}");
    tried
}

fn history(project: &Project, what: &str) -> History {
    let history = History::read(&project.state(), &project.environment).unwrap();
    assert!(history.unreadable.is_empty(), "{what}: {:?}", history.unreadable);
    history
}

fn run_says(project: &Project, run: &journal::RunRecord, words: &str) -> bool {
    let path = journal::path_in(&project.state().run(&project.environment, &run.header.run));
    std::fs::read_to_string(path).unwrap().contains(words)
}

async fn has_bucket(project: &Project) -> bool {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(std::env::var("AWS_ENDPOINT_URL").unwrap())
        .credentials_provider(Credentials::new("test", "test", None, None, "the test"))
        .force_path_style(true)
        .build();
    aws_sdk_s3::Client::from_conf(config).head_bucket().bucket(project.bucket()).send().await.is_ok()
}
