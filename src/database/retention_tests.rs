//! Count, age, and what is never deleted, over made-up and random lists.
use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;

fn snapshot(id: usize, days: i64, status: &str, own: bool) -> ManualSnapshot {
    let environment = if own { "staging" } else { "other" };
    ManualSnapshot {
        id: SnapshotId::parse(format!("s{id}")).unwrap(),
        status: status.to_owned(),
        taken: Some(Timestamp::from_second(10_000 * DAY_SECONDS - days * DAY_SECONDS).unwrap()),
        storage_gib: 20,
        tags: BTreeMap::from([(ENVIRONMENT.to_owned(), environment.to_owned())]),
    }
}

fn deleted(snapshots: &[ManualSnapshot], needed: &[&str], keep: u32, days: u32) -> Vec<String> {
    let needed = needed.iter().map(|id| (SnapshotId::parse(*id).unwrap(), "run".to_owned())).collect();
    let environment = EnvironmentName::parse("staging").unwrap();
    let retention = SnapshotRetention { keep: NonZeroU32::new(keep).unwrap(), days };
    let now = Timestamp::from_second(10_000 * DAY_SECONDS).unwrap();
    let rules = Rules { environment: &environment, retention, needed: &needed, now };
    let judged = rules.judge(snapshots);
    judged.into_iter().filter(|(_, verdict)| matches!(verdict, Verdict::Delete(_))).map(|(snapshot, _)| snapshot.id.to_string()).collect()
}

#[test]
fn what_is_beyond_count_and_age_goes_and_nothing_else() {
    let all: Vec<ManualSnapshot> =
        [1, 5, 40, 50, 60].into_iter().enumerate().map(|(id, days)| snapshot(id, days, "available", true)).collect();
    assert_eq!(deleted(&all, &[], 2, 35), ["s2", "s3", "s4"]);
    assert_eq!(deleted(&all, &[], 4, 35), ["s4"], "one of the newest 4 stays whatever its age");
    assert_eq!(deleted(&all, &[], 1, 55), ["s4"], "a young one stays whatever its number");
    assert_eq!(deleted(&all, &["s4", "s3"], 1, 0), ["s1", "s2"], "what a run needs stays");
}

#[test]
fn the_last_good_one_and_other_peoples_stay() {
    let all = [
        snapshot(0, 1, "creating", true),
        snapshot(1, 90, "available", false),
        snapshot(2, 91, "failed", true),
        snapshot(3, 92, "available", true),
        snapshot(4, 93, "copying", true),
        snapshot(5, 94, "available", true),
    ];
    assert_eq!(deleted(&all, &[], 1, 0), ["s2", "s5"]);
    assert_eq!(deleted(&all[3..4], &[], 1, 0), [""; 0], "a single one, however old");
}

proptest! {
    #[test]
    fn whatever_the_list_a_good_one_of_ours_is_left(
        list in prop::collection::vec((0_i64..200, 0_usize..4, any::<bool>()), 0..30), keep in 1_u32..5, days in 0_u32..100,
    ) {
        let mut list = list;
        list.sort_by_key(|(days, ..)| *days);
        let status = ["available", "failed", "creating", "available"];
        let all: Vec<ManualSnapshot> = list.iter().enumerate().map(|(id, (days, at, own))| snapshot(id, *days, status[*at], *own)).collect();
        let gone = deleted(&all, &[], keep, days);
        let (good, left): (Vec<_>, Vec<_>) = (
            all.iter().filter(|s| s.status == "available" && s.tags[ENVIRONMENT] == "staging").collect(),
            all.iter().filter(|s| !gone.contains(&s.id.to_string())).collect(),
        );
        let good_left = good.iter().filter(|s| left.contains(s)).count();
        prop_assert!(good_left >= good.len().min(keep as usize));
        for id in &gone {
            let snapshot = all.iter().find(|s| s.id.as_str() == id).unwrap();
            let age = (10_000 * DAY_SECONDS - snapshot.taken.unwrap().as_second()) / DAY_SECONDS;
            prop_assert!(age >= i64::from(days) && snapshot.tags[ENVIRONMENT] == "staging" && snapshot.status != "creating");
        }
    }
}
