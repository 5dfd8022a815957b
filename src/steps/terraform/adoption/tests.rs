//! Passes of adoption against a made-up plan and a made-up AWS.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use std::sync::Mutex;

use serde_json::json;

use super::{planned::Filled, *};

/// Things that are there, by type and import id, with what terraform reads of them.
struct Fake {
    wanted: Vec<Value>,
    there: Vec<(&'static str, &'static str, Value)>,
    killed: bool,
    pauses: usize,
    plans: usize,
    said: Mutex<Vec<String>>,
}

impl Fake {
    fn of(wanted: Vec<Value>, there: Vec<(&'static str, &'static str, Value)>) -> Self {
        Self { wanted, there, killed: true, pauses: 0, plans: 0, said: Mutex::default() }
    }

    fn kind(address: &str) -> &str {
        address.split('.').next().unwrap()
    }

    fn planned(&self, taken: &Taken) -> PlanJson {
        let changes: Vec<Value> = self
            .wanted
            .iter()
            .map(|wanted| {
                let address = wanted["address"].as_str().unwrap();
                let mut after = wanted["after"].clone();
                let mut unknown = json!({"id": true});
                // `parent` is an attribute that is known once its parent is in the state or taken over.
                if let Some((attribute, parent)) = wanted["parent"].as_str().and_then(|text| text.split_once('=')) {
                    match taken.get(parent) {
                        Some(id) => after[attribute] = json!(id),
                        None => unknown[attribute] = json!(true),
                    }
                }
                let change = match taken.get(address) {
                    None => json!({"actions": ["create"], "after": after, "after_unknown": unknown}),
                    Some(id) => {
                        let before =
                            self.there.iter().find(|(kind, known, _)| *kind == Self::kind(address) && known == id).unwrap().2.clone();
                        let actions = if before["zone"] == after["zone"] { json!(["no-op"]) } else { json!(["delete", "create"]) };
                        json!({"actions": actions, "before": before, "after": after, "importing": {"id": id}, "replace_paths": [["zone"]]})
                    }
                };
                json!({"address": address, "mode": "managed", "type": Self::kind(address), "change": change})
            })
            .collect();
        PlanJson::parse(json!({"format_version": "1.2", "applyable": true, "resource_changes": changes}).to_string().as_bytes()).unwrap()
    }

    async fn adopt(&mut self) -> Result<Taken, Failure> {
        let shown: Vec<Change> = self
            .wanted
            .iter()
            .filter(|wanted| wanted["shown"] != false)
            .map(|wanted| {
                let name = wanted["address"].as_str().unwrap();
                Change { action: Action::Create, resource: Self::kind(name).into(), name: name.into(), details: Vec::new() }
            })
            .collect();
        let first = self.planned(&Taken::new());
        adopt(self, first, &shown).await.map(|(_, taken)| taken)
    }
}

impl World for Fake {
    async fn plan(&mut self, taken: &Taken) -> Result<Attempt, Failure> {
        self.plans += 1;
        let absent =
            taken.iter().find(|(address, id)| !self.there.iter().any(|(kind, known, _)| *kind == Self::kind(address) && known == id));
        if let Some((address, _)) = absent {
            let error = Diagnostic {
                severity: "error".into(),
                summary: "Cannot import non-existent remote object".into(),
                detail: format!("While attempting to import an existing object to {address:?}, the provider detected"),
                ..Diagnostic::default()
            };
            return Ok(Attempt::Refused(Failure::step("terraform plan"), vec![error]));
        }
        Ok(Attempt::Planned(Box::new(self.planned(taken))))
    }

    async fn search(&self, how: &How, planned: Planned<'_>) -> Result<Seen, Failure> {
        match how {
            How::Named(templates) => Ok(match planned.fill_first(templates) {
                Filled::Text(id) => Seen::These(vec![id]),
                Filled::NotYet => Seen::NotYet,
                Filled::Null => Seen::These(Vec::new()),
            }),
            _ => {
                let Some(tags) = planned.tags() else { return Ok(Seen::NotYet) };
                let kind = Self::kind(&planned.change.address);
                let found =
                    self.there.iter().filter(|(known, _, before)| *known == kind && tags_of(&before["tags_all"]).as_ref() == Some(&tags));
                Ok(Seen::These(found.map(|(_, id, _)| (*id).to_owned()).collect()))
            }
        }
    }

    fn say(&self, what: String) {
        self.said.lock().unwrap().push(what);
    }

    async fn pause(&mut self, _what: &str) -> Result<(), Failure> {
        self.pauses += 1;
        for (_, _, before) in &mut self.there {
            if before["status"] == "CREATING" {
                before["status"] = json!("ACTIVE");
            }
        }
        Ok(())
    }

    fn import_command(&self, address: &str, id: &str) -> String {
        format!("terraform import '{address}' '{id}'")
    }

    fn if_not_there(&self) -> Option<String> {
        self.killed.then(|| "rm record".to_owned())
    }

    fn place(&self) -> (&str, &str) {
        ("111122223333", "eu-west-1")
    }
}

fn ours(name: &str) -> Value {
    json!({"deployctl:environment": "staging", "Name": name})
}

fn vpc(name: &str) -> Value {
    json!({"address": format!("aws_vpc.{name}"), "after": {"tags_all": ours(name)}})
}

fn role(name: &str) -> Value {
    json!({"address": format!("aws_iam_role.{name}"), "after": {"name": name, "tags_all": ours(name)}})
}

fn tagged(name: &str) -> Value {
    json!({"tags_all": ours(name)})
}

#[tokio::test]
async fn what_is_there_is_taken_over_and_the_rest_is_made() {
    let mut fake = Fake::of(
        vec![vpc("a"), vpc("b"), role("r"), role("s"), json!({"address": "aws_s3_bucket_policy.p", "after": {"bucket": "b"}})],
        vec![("aws_vpc", "vpc-1", tagged("a")), ("aws_iam_role", "r", tagged("r"))],
    );
    let taken = fake.adopt().await.unwrap();
    assert_eq!(taken, Taken::from([("aws_vpc.a".into(), "vpc-1".into()), ("aws_iam_role.r".into(), "r".into())]));
    let said = fake.said.lock().unwrap();
    assert!(said.iter().any(|line| line == "aws_vpc.a: taken over from vpc-1"), "{said:?}");
}

#[tokio::test]
async fn without_anything_there_one_plan_is_enough() {
    let mut fake = Fake::of(vec![vpc("a")], Vec::new());
    assert_eq!(fake.adopt().await.unwrap(), Taken::new());
    assert_eq!(fake.plans, 0);
}

#[tokio::test]
async fn of_two_none_is_taken_and_the_command_is_said() {
    let mut fake = Fake::of(vec![vpc("a")], vec![("aws_vpc", "vpc-1", tagged("a")), ("aws_vpc", "vpc-2", tagged("a"))]);
    let refused = fake.adopt().await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Policy);
    assert!(refused.message.contains("vpc-1, vpc-2"), "{refused}");
    assert!(refused.next.iter().any(|next| next.contains("terraform import 'aws_vpc.a' 'vpc-2'")), "{:?}", refused.next);
}

#[tokio::test]
async fn one_thing_that_two_could_be_is_taken_by_neither() {
    let twin = json!({"address": "aws_vpc.twin", "after": {"tags_all": ours("a")}});
    let refused = Fake::of(vec![vpc("a"), twin], vec![("aws_vpc", "vpc-1", tagged("a"))]).adopt().await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Policy);
    assert!(refused.message.contains("aws_vpc.a and aws_vpc.twin"), "{refused}");
}

#[tokio::test]
async fn a_name_may_be_there_in_each_region() {
    let alias =
        |name: &str, region: &str| json!({"address": format!("aws_kms_alias.{name}"), "after": {"name": "alias/a", "region": region}});
    let there = vec![("aws_kms_alias", "alias/a", json!({}))];
    let taken = Fake::of(vec![alias("here", "eu-west-1"), alias("there", "eu-central-1")], there).adopt().await.unwrap();
    assert_eq!(taken.len(), 2);
}

#[tokio::test]
async fn a_child_is_found_once_its_parent_is() {
    let route =
        json!({"address": "aws_route.r", "parent": "route_table_id=aws_route_table.t", "after": {"destination_cidr_block": "0.0.0.0/0"}});
    let table = json!({"address": "aws_route_table.t", "after": {"tags_all": ours("t")}});
    let there = vec![("aws_route_table", "rtb-1", tagged("t")), ("aws_route", "rtb-1_0.0.0.0/0", json!({}))];
    let taken = Fake::of(vec![route.clone(), table.clone()], there).adopt().await.unwrap();
    assert_eq!(taken["aws_route.r"], "rtb-1_0.0.0.0/0");
    // Without the parent there can be no child.
    assert_eq!(Fake::of(vec![route, table], Vec::new()).adopt().await.unwrap(), Taken::new());
}

#[tokio::test]
async fn what_was_not_shown_is_not_touched() {
    let mut hidden = vpc("a");
    hidden["shown"] = json!(false);
    assert_eq!(Fake::of(vec![hidden], vec![("aws_vpc", "vpc-1", tagged("a"))]).adopt().await.unwrap(), Taken::new());
}

#[tokio::test]
async fn a_stranger_of_the_same_name_is_left_alone() {
    let mut fake = Fake::of(vec![role("r")], vec![("aws_iam_role", "r", json!({"tags_all": {"team": "another"}}))]);
    assert_eq!(fake.adopt().await.unwrap(), Taken::new());
    assert!(fake.said.lock().unwrap()[0].contains("without our tags"));
}

#[tokio::test]
async fn what_aws_still_makes_is_waited_for_and_what_failed_is_not_taken() {
    let cluster = json!({"address": "aws_eks_cluster.c", "after": {"name": "c", "tags_all": ours("c")}});
    let is = |status: &str| ("aws_eks_cluster", "c", json!({"tags_all": ours("c"), "status": status}));
    let mut fake = Fake::of(vec![cluster.clone()], vec![is("CREATING")]);
    assert_eq!((fake.adopt().await.unwrap().len(), fake.pauses), (1, 1));
    let failed = Fake::of(vec![cluster], vec![is("FAILED")]).adopt().await.unwrap_err();
    assert!(failed.message.contains("is FAILED") && failed.next[0].contains("delete"), "{failed}");
}

#[tokio::test]
async fn nothing_is_taken_over_to_be_replaced() {
    let mut wanted = role("r");
    wanted["after"]["zone"] = json!("b");
    let refused = Fake::of(vec![wanted], vec![("aws_iam_role", "r", tagged("r"))]).adopt().await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Policy);
    assert!(refused.message.contains("zone"), "{refused}");
}

#[tokio::test]
async fn what_nobody_can_look_for_is_a_persons_only_after_a_kill() {
    for kind in ["aws_of_tomorrow", "aws_eks_capability"] {
        let wanted = vec![json!({"address": format!("{kind}.x"), "after": {}})];
        let refused = Fake::of(wanted.clone(), Vec::new()).adopt().await.unwrap_err();
        assert_eq!(refused.kind, FailureKind::Policy);
        assert!(refused.next.iter().any(|next| next == "if it is not: rm record"), "{:?}", refused.next);
        let mut ended = Fake { killed: false, ..Fake::of(wanted, Vec::new()) };
        assert_eq!(ended.adopt().await.unwrap(), Taken::new());
    }
}
