//! terraform itself is killed with its lock held: the lock is broken on proof and never without.
use deployctl::{
    failure::FailureKind,
    steps::{Kind, StepContext, terraform::Terraform},
    tools::process_record::{Guarded, GuardedRecord, Liveness},
};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::json;

use super::{emulator::with_aws, fixture, stack, terraform_killed};

/// An MD5 of nothing that is here.
const WRONG: &str = "00000000000000000000000000000000";

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

/// terraform, its watchdog and its deployctl are killed in the middle; what the watchdog wrote of it.
async fn killed(name: &str) -> (StepContext, GuardedRecord) {
    let cx = terraform_killed::begun(name).await;
    let (mut parent, _) = terraform_killed::parent_in_the_middle(&cx).await;
    let record = Guarded::read(&stack::record(&cx)).unwrap().record;
    parent.kill().unwrap();
    kill_process(pid(record.watchdog.pid), Signal::KILL).unwrap();
    kill_process_group(pid(record.program.pid), Signal::KILL).unwrap();
    parent.wait().unwrap();
    terraform_killed::wait("all to be dead", 10, async || record.liveness() == Liveness::Dead).await;
    assert_eq!(stack::held(&cx).await, (true, true));
    stack::write(&cx.project, 0);
    (cx, record)
}

#[test]
fn is_broken_on_proof() {
    with_aws("terraform_lock::is_broken_on_proof", || async {
        let (cx, record) = killed("proven").await;
        let plan = fixture::planned::<Terraform>(&cx, &stack::input(2)).await.expect("planning takes no lock");
        let applied = Terraform::apply(&cx, &stack::input(2), &plan).await.unwrap();
        assert_eq!(applied.outputs["names"], json!(["deployctl-sandbox-0", "deployctl-sandbox-1"]));
        assert_eq!(stack::held(&cx).await, (false, false));
        assert_eq!(Guarded::read(&stack::record(&cx)), None, "a good end leaves nothing to prove");

        // Killed between the state and its MD5: the state that is there is the truth.
        let stack::Locks { table, id, .. } = stack::locks(&cx);
        let right = cx.aws.state_digest(&table, &id).await.unwrap().unwrap();
        assert!(cx.aws.correct_state_digest(&table, &id, &right, WRONG).await.unwrap());
        let failure = fixture::planned::<Terraform>(&cx, &stack::input(3)).await.unwrap_err();
        assert!(failure.evidence.iter().any(|text| text.contains("does not have the expected content")), "{failure:?}");
        record.write(&stack::record(&cx)).unwrap();
        let plan = fixture::planned::<Terraform>(&cx, &stack::input(3)).await.expect("the state is read without its MD5");
        assert_eq!(plan.changes.len(), 1, "{:?}", plan.changes);
        assert_eq!(cx.aws.state_digest(&table, &id).await.unwrap().unwrap(), WRONG, "planning changes nothing");
        Terraform::apply(&cx, &stack::input(3), &plan).await.unwrap();
        assert_eq!(fixture::planned::<Terraform>(&cx, &stack::input(3)).await.unwrap().changes, []);
    });
}

#[test]
fn is_never_broken_without_proof() {
    with_aws("terraform_lock::is_never_broken_without_proof", || async {
        let (cx, record) = killed("unproven").await;
        let plan = fixture::planned::<Terraform>(&cx, &stack::input(2)).await.unwrap();
        let refused = async || {
            let failure = Terraform::apply(&cx, &stack::input(2), &plan).await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Locked, "{failure:?}");
            assert_eq!(stack::held(&cx).await, (true, true), "{failure:?}");
            failure
        };
        // On another boot, which may be another machine of the same name.
        let mut elsewhere = record.clone();
        elsewhere.program.boot_id = "another".into();
        elsewhere.write(&stack::record(&cx)).unwrap();
        let failure = refused().await;
        assert!(failure.next.iter().any(|next| next.contains("force-unlock -force")), "{failure:?}");
        // Without a record; the journal alone says that a terraform was in flight.
        std::fs::remove_file(stack::record(&cx)).unwrap();
        assert!(refused().await.message.contains("no record"));
        // Somebody else's lock in the place of ours.
        record.write(&stack::record(&cx)).unwrap();
        let stack::Locks { table, id, .. } = stack::locks(&cx);
        let mut info: serde_json::Value = serde_json::from_str(&cx.aws.lock_item(&table, &id).await.unwrap().unwrap()).unwrap();
        info["Who"] = json!("ann@laptop");
        cx.aws.release_lock_item(&table, &id).await.unwrap();
        assert!(cx.aws.take_lock_item(&table, &id, &info.to_string()).await.unwrap());
        let failure = Terraform::apply(&cx, &stack::input(2), &plan).await.unwrap_err();
        assert_eq!((failure.kind, stack::held(&cx).await.0), (FailureKind::Locked, true), "{failure:?}");
        assert!(failure.message.contains("ann@laptop"), "{failure}");
    });
}
