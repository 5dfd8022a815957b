//! terraform's own lock, and the MD5 beside it, after a terraform died with them: put right only when this machine proves that it is dead.
use std::{collections::BTreeSet, path::Path, time::Duration};

use jiff::{SignedDuration, Timestamp};
use md5::{Digest, Md5};
use serde::Deserialize;
use serde_json::json;

use super::workspace::{Workspace, state_key};
use crate::{
    failure::{Failure, FailureKind},
    ids::{BucketName, TableName},
    plan::environment::StateLock,
    steps::{StepContext, state_backend::Names},
    tools::process_record::{Guarded, Liveness},
};

/// A watchdog gives terraform one SIGINT; what AWS is doing for it then has to end.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// The file's time and the lock's are of one clock, but not of one moment.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(2);
/// In terraform's words: the state is not the one whose MD5 it wrote.
const WRONG_DIGEST: &str = "does not have the expected content";

/// What terraform writes into a lock.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    who: String,
    created: Timestamp,
}

/// A lock that is held, and what it takes to release exactly this one.
#[derive(Clone, Debug)]
enum Held {
    Object { etag: String, text: String },
    Item { text: String },
}

/// A state's locks.
struct Locks {
    bucket: BucketName,
    key: String,
    table: Option<TableName>,
}

/// Whether a plan failed because of a wrong MD5.
pub(super) fn is_wrong_digest(failure: &Failure) -> bool {
    failure.evidence.iter().chain([&failure.message]).any(|text| text.contains(WRONG_DIGEST))
}

/// Waits for a terraform of an earlier deployctl that still ends, and breaks the lock of one that is proven dead.
pub(super) async fn settle(cx: &StepContext, workspace: &Workspace) -> Result<(), Failure> {
    let record = &workspace.terraform.record;
    if Guarded::read(record).is_some_and(|found| found.record.liveness() == Liveness::Alive) {
        wait_until_dead(cx, record).await?;
    }
    let guarded = Guarded::read(record);
    let asked_for = workspace.terraform.locks_asked_for();
    let locks = Locks::of(cx, &workspace.stack)?;
    for held in locks.held(cx).await? {
        let info = locks.info(&held)?;
        ours(&info, guarded.as_ref(), &asked_for).map_err(|why| refused(&locks, &info, &why, guarded.as_ref(), workspace))?;
        locks.release(cx, &held, &info).await?;
    }
    locks.settle_digest(cx, guarded.as_ref()).await
}

/// Gives back the lock that the terraform which has just ended took, and then believed to be somebody else's: the answer of AWS was lost, and
/// its SDK asked once more. Only its own log proves that. Says whether there was one.
pub(super) async fn give_back_own(cx: &StepContext, workspace: &Workspace) -> Result<bool, Failure> {
    let asked_for = workspace.terraform.locks_asked_for();
    let guarded = Guarded::read(&workspace.terraform.record);
    let locks = Locks::of(cx, &workspace.stack)?;
    let mut given_back = false;
    for held in locks.held(cx).await? {
        let info = locks.info(&held)?;
        if asked_for.contains(&info.id) && ours(&info, guarded.as_ref(), &asked_for).is_ok() {
            locks.release(cx, &held, &info).await?;
            given_back = true;
        }
    }
    Ok(given_back)
}

/// Gives back the locks of a terraform on another machine that a person has declared dead; whoever else holds one keeps it. Says what was done.
pub(super) async fn give_back(cx: &StepContext, stack: &Path, host: &str) -> Result<Vec<String>, Failure> {
    let locks = Locks::of(cx, stack)?;
    let mut said = Vec::new();
    for held in locks.held(cx).await? {
        let info = locks.info(&held)?;
        let lock = format!("terraform's lock {} of {}, taken by {} at {}", info.id, locks.state(), info.who, info.created);
        if info.who.rsplit('@').next() == Some(host) {
            locks.release(cx, &held, &info).await?;
            said.push(format!("broken: {lock}"));
        } else {
            said.push(format!("left alone, because it is not of {host}: {lock}"));
        }
    }
    Ok(said)
}

async fn wait_until_dead(cx: &StepContext, record: &Path) -> Result<(), Failure> {
    let pid = Guarded::read(record).map(|found| found.record.program.pid).unwrap_or_default();
    let what = format!("terraform (pid {pid}) that an earlier deployctl started; it was told to stop and saves its state");
    let dead = async {
        while Guarded::read(record).is_some_and(|found| found.record.liveness() == Liveness::Alive) {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        Ok(())
    };
    cx.wait_until(&what, PATIENCE, dead).await.map_err(|failure| match failure.kind {
        FailureKind::Timeout => Failure::new(
            FailureKind::Locked,
            format!("after {} s terraform (pid {pid}) of an earlier deployctl still runs", PATIENCE.as_secs()),
        )
        .next(format!("look at it: ps -o pid,lstart,args -p {pid}"))
        .next("wait until it has ended, then run the same command again; never kill it: it holds the only copy of what it made"),
        _ => failure,
    })
}

/// Whether a lock is that of the terraform on record, and that one is dead; if not, why not. `asked_for` are the ids that its log names.
fn ours(info: &Info, guarded: Option<&Guarded>, asked_for: &BTreeSet<String>) -> Result<(), String> {
    let Some(Guarded { record, seen }) = guarded else {
        return Err("this machine has no record of a terraform of its own that could hold it".to_owned());
    };
    let (pid, host) = (record.program.pid, &record.program.host);
    match record.liveness() {
        Liveness::Alive => return Err(format!("terraform (pid {pid}) or its watchdog (pid {}) still runs", record.watchdog.pid)),
        Liveness::Elsewhere => {
            return Err(format!(
                "terraform ran as pid {pid} on {host} before it was started anew, or in another container: nothing proves that it is dead"
            ));
        }
        Liveness::Dead => {}
    }
    if info.who.rsplit('@').next() != Some(host) {
        return Err(format!("the terraform that died here ran on {host}"));
    }
    if !asked_for.is_empty() {
        let asked = || asked_for.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        return if asked_for.contains(&info.id) {
            Ok(())
        } else {
            Err(format!("the terraform that died here (pid {pid}) asked for lock {}", asked()))
        };
    }
    // It wrote no log. Whoever took the lock before ours began or after our watchdog died is somebody else on this machine.
    if info.created < record.started - TOLERANCE || info.created > *seen + TOLERANCE {
        return Err(format!("the terraform that died here (pid {pid}) lived from {} to {seen}", record.started));
    }
    Ok(())
}

fn refused(locks: &Locks, info: &Info, why: &str, guarded: Option<&Guarded>, workspace: &Workspace) -> Failure {
    let host = info.who.rsplit('@').next().unwrap_or_default();
    let mut failure = Failure::new(
        FailureKind::Locked,
        format!(
            "the state {} is locked by {} since {} ({}, lock {}), and {why}",
            locks.state(),
            info.who,
            info.created,
            info.operation,
            info.id
        ),
    );
    if let Some(found) = guarded {
        failure = failure.evidence(format!(
            "on record: pid {} on {}, watchdog {}",
            found.record.program.pid, found.record.program.host, found.record.watchdog.pid
        ));
    }
    failure
        .next(format!("be sure first: on {host}, `pgrep -a terraform` shows none that works on this state, or the machine is gone for good"))
        .next(format!("then, with the deployer role's credentials: terraform -chdir={} force-unlock -force {}", workspace.dir.display(), info.id))
        .next("then the same command again; if another deployctl apply can be tried on that machine, do that instead: it takes over what was made")
}

impl Held {
    fn text(&self) -> &str {
        match self {
            Self::Object { text, .. } | Self::Item { text } => text,
        }
    }
}

impl Locks {
    fn of(cx: &StepContext, stack: &Path) -> Result<Self, Failure> {
        let names = Names::of(&cx.environment)?;
        let table = (cx.environment.aws.state_lock != StateLock::S3).then_some(names.table);
        Ok(Self { bucket: names.bucket, key: state_key(stack), table })
    }

    /// As terraform calls it.
    fn state(&self) -> String {
        format!("{}/{}", self.bucket, self.key)
    }

    fn object(&self) -> String {
        format!("{}.tflock", self.key)
    }

    fn info(&self, held: &Held) -> Result<Info, Failure> {
        serde_json::from_str(held.text()).map_err(|e| {
            Failure::new(FailureKind::Locked, format!("{} is locked by something that is no terraform", self.state())).because(e)
        })
    }

    /// Dying between the two, terraform leaves one of them.
    async fn held(&self, cx: &StepContext) -> Result<Vec<Held>, Failure> {
        let mut held = Vec::new();
        if let Some(found) = cx.aws.get_object(&self.bucket, &self.object()).await? {
            held.push(Held::Object { text: String::from_utf8_lossy(&found.body).into_owned(), etag: found.etag });
        }
        if let Some(table) = &self.table
            && let Some(text) = cx.aws.lock_item(table, &self.state()).await?
        {
            held.push(Held::Item { text });
        }
        Ok(held)
    }

    /// Releases exactly what was read.
    async fn release(&self, cx: &StepContext, held: &Held, info: &Info) -> Result<(), Failure> {
        let place = match held {
            Held::Object { .. } => "object",
            Held::Item { .. } => "item",
        };
        let intent = json!({"state": self.state(), "who": info.who, "created": info.created});
        cx.intents.once(&cx.step, &format!("terraform-unlock-{place}-{}", info.id), intent).await?;
        cx.progress(format!("terraform has ended with its lock held: breaking lock {} ({place}) of {}", info.id, self.state()));
        let released = match (held, &self.table) {
            (Held::Object { etag, .. }, _) => cx.aws.delete_object_of(&self.bucket, &self.object(), etag).await?,
            (Held::Item { text }, Some(table)) => cx.aws.release_lock_item_of(table, &self.state(), text).await?,
            (Held::Item { .. }, None) => true,
        };
        if released {
            return Ok(());
        }
        Err(Failure::new(FailureKind::Locked, format!("somebody else has taken the lock of {} in this moment", self.state()))
            .next("wait until that terraform has ended, then run the same command again"))
    }

    /// terraform writes the state first and its MD5 afterwards: after a death in between, the object is the truth.
    async fn settle_digest(&self, cx: &StepContext, guarded: Option<&Guarded>) -> Result<(), Failure> {
        let Some(table) = &self.table else { return Ok(()) };
        let Some(wrong) = cx.aws.state_digest(table, &self.state()).await? else { return Ok(()) };
        let Some(object) = cx.aws.get_object(&self.bucket, &self.key).await? else { return Ok(()) };
        let right = hex::encode(Md5::digest(&object.body));
        if wrong == right {
            return Ok(());
        }
        let unproven = || {
            let item = json!({"LockID": {"S": format!("{}-md5", self.state())}, "Digest": {"S": right}});
            Failure::new(
                FailureKind::Locked,
                format!(
                    "the state {} is not the one whose MD5 terraform wrote, and nothing here proves that no terraform writes it just now",
                    self.state()
                ),
            )
            .next("be sure that no terraform works on this state, and that the object is whole: its versions are in the bucket")
            .next(format!("then: aws dynamodb put-item --region {} --table-name {table} --item '{item}'", cx.aws.region()))
        };
        if guarded.is_none_or(|found| found.record.liveness() != Liveness::Dead) {
            return Err(unproven());
        }
        cx.intents.once(&cx.step, &format!("terraform-digest-{right}"), json!({"state": self.state(), "was": wrong})).await?;
        cx.progress(format!(
            "terraform was killed between the state {} and its MD5: writing the MD5 of the state that is there",
            self.state()
        ));
        if cx.aws.correct_state_digest(table, &self.state(), &wrong, &right).await? { Ok(()) } else { Err(unproven()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::tools::process_record::{GuardedRecord, ProcessRecord};

    /// A lock of this host, taken while a terraform of ours lived.
    fn lock() -> Info {
        let host = ProcessRecord::of(std::process::id()).unwrap().host;
        serde_json::from_value(json!({"ID": "0f1c", "Operation": "OperationTypeApply", "Who": format!("root@{host}"), "Created": "2026-11-23T03:00:05.123456789Z"})).unwrap()
    }

    fn dead(spoil: impl Fn(&mut GuardedRecord)) -> Guarded {
        let me = ProcessRecord::of(std::process::id()).unwrap();
        let gone = ProcessRecord { start_ticks: me.start_ticks + 1, ..me };
        let mut record =
            GuardedRecord { program: gone.clone(), watchdog: gone, started: "2026-11-23T03:00:00Z".parse().unwrap(), ended: None };
        spoil(&mut record);
        Guarded { record, seen: "2026-11-23T03:00:20Z".parse().unwrap() }
    }

    fn why_not(info: &Info, guarded: Option<&Guarded>) -> String {
        ours(info, guarded, &BTreeSet::new()).unwrap_err()
    }

    #[test]
    fn a_lock_of_a_terraform_that_is_proven_dead_is_broken() {
        ours(&lock(), Some(&dead(|_| {})), &BTreeSet::new()).unwrap();
    }

    #[test]
    fn a_living_terraform_keeps_its_lock() {
        let me = ProcessRecord::of(std::process::id()).unwrap();
        assert!(why_not(&lock(), Some(&dead(|record| record.program = me.clone()))).contains("still runs"));
        assert!(why_not(&lock(), Some(&dead(|record| record.watchdog = me.clone()))).contains("still runs"));
    }

    #[test]
    fn nothing_is_said_of_another_machine_or_boot() {
        assert!(why_not(&lock(), Some(&dead(|record| record.program.host = "elsewhere".into()))).contains("nothing proves"));
        assert!(why_not(&lock(), Some(&dead(|record| record.program.boot_id = "before".into()))).contains("nothing proves"));
        assert!(why_not(&lock(), Some(&dead(|record| record.watchdog.boot_id = "before".into()))).contains("nothing proves"));
    }

    #[test]
    fn without_a_record_no_lock_is_broken() {
        assert!(why_not(&lock(), None).contains("no record"));
    }

    #[test]
    fn somebody_elses_lock_is_not_ours() {
        let other = Info { who: "ann@laptop".into(), ..lock() };
        assert!(why_not(&other, Some(&dead(|_| {}))).contains("that died here ran on"));
        for created in ["2026-11-23T02:59:50Z", "2026-11-23T03:00:30Z"] {
            let other = Info { created: created.parse().unwrap(), ..lock() };
            assert!(why_not(&other, Some(&dead(|_| {}))).contains("lived from"), "{created}");
        }
    }

    #[test]
    fn its_own_log_says_more_than_the_time() {
        let asked = |id: &str| BTreeSet::from([id.to_owned()]);
        let late = Info { created: "2026-11-23T03:00:30Z".parse().unwrap(), ..lock() };
        ours(&late, Some(&dead(|_| {})), &asked("0f1c")).unwrap();
        let why = ours(&lock(), Some(&dead(|_| {})), &asked("77aa")).unwrap_err();
        assert!(why.contains("asked for lock 77aa"), "{why}");
        let me = ProcessRecord::of(std::process::id()).unwrap();
        assert!(ours(&lock(), Some(&dead(|record| record.program = me.clone())), &asked("0f1c")).unwrap_err().contains("still runs"));
    }

    #[test]
    fn a_wrong_digest_is_known_by_terraforms_words() {
        let said = "error loading state: state data in S3 does not have the expected content.\n\nThe checksum calculated for the state";
        assert!(is_wrong_digest(&Failure::step("terraform plan: Error refreshing state").evidence(said)));
        assert!(!is_wrong_digest(&Failure::step("terraform plan: no")));
    }
}
