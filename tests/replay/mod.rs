//! A front door's record replayed against policies: which of their permissions were seen in use, and what was done that none of them allows.
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::Value;

/// "No permissions are required to perform this operation": STS API Reference, GetCallerIdentity.
const WITHOUT_PERMISSION: &str = "sts:GetCallerIdentity";

/// An action that IAM allowed, on the resource that it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    pub action: String,
    pub resource: String,
}

/// What a role has done, and what it tried and may not.
#[derive(Debug, Default)]
pub struct Seen {
    pub uses: BTreeSet<Use>,
    pub refused: BTreeSet<Use>,
}

/// A permission: one action of one statement, on one of its resources.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    pub sid: String,
    pub action: String,
    pub resource: String,
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} on {}", self.sid, self.action, self.resource)
    }
}

/// A policy without its conditions: what the record holds as allowed has met them.
pub struct Policy(BTreeSet<Permission>);

impl Seen {
    /// Of a role, whatever its sessions are called, or of a user: `assumed-role/NAME` or `user/NAME`.
    pub fn of(requests: &[Value], principal: &str) -> Self {
        let is_theirs = |arn: &str| {
            arn.rsplit(':')
                .next()
                .and_then(|name| name.strip_prefix(principal))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let own = requests.iter().filter(|request| request["principal"].as_str().is_some_and(is_theirs));
        let mut seen = Self::default();
        for verdict in own.flat_map(|request| request["verdicts"].as_array().into_iter().flatten()) {
            let text = |key: &str| verdict[key].as_str().unwrap_or_default().to_owned();
            let into = if verdict["allowed"] == true { &mut seen.uses } else { &mut seen.refused };
            into.insert(Use { action: text("action"), resource: text("resource") });
        }
        assert!(!seen.uses.is_empty(), "{principal} has done nothing: the record is not read as it is written");
        seen
    }
}

impl Policy {
    /// Of documents whose values are filled in.
    pub fn of<'a>(documents: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut permissions = BTreeSet::new();
        for statement in documents.into_iter().flat_map(|document| document["Statement"].as_array().into_iter().flatten()) {
            assert_eq!(statement["Effect"], "Allow", "{statement}");
            for action in texts(&statement["Action"]) {
                for resource in texts(&statement["Resource"]) {
                    let sid = statement["Sid"].as_str().unwrap_or_default().to_owned();
                    permissions.insert(Permission { sid, action: action.to_owned(), resource: resource.to_owned() });
                }
            }
        }
        Self(permissions)
    }

    /// Every permission that nobody used.
    pub fn unused(&self, uses: &BTreeSet<Use>) -> BTreeSet<Permission> {
        let used = |permission: &Permission| uses.iter().any(|used| permission.covers(used));
        self.0.iter().filter(|permission| !used(permission)).cloned().collect()
    }

    /// Actions, by their statements, that nobody used on any of the statement's resources.
    pub fn unused_actions(&self, uses: &BTreeSet<Use>) -> BTreeSet<(String, String)> {
        let mut actions: BTreeMap<(String, String), bool> = BTreeMap::new();
        for permission in &self.0 {
            let used = uses.iter().any(|used| permission.covers(used));
            *actions.entry((permission.sid.clone(), permission.action.clone())).or_default() |= used;
        }
        actions.into_iter().filter(|(_, used)| !used).map(|(action, _)| action).collect()
    }

    /// How many pairs of statement and action there are.
    pub fn actions(&self) -> usize {
        self.0.iter().map(|permission| (&permission.sid, &permission.action)).collect::<BTreeSet<_>>().len()
    }

    /// What was done and is not in the policy.
    pub fn beyond<'a>(&self, uses: &'a BTreeSet<Use>) -> BTreeSet<&'a Use> {
        uses.iter().filter(|used| used.action != WITHOUT_PERMISSION && !self.0.iter().any(|permission| permission.covers(used))).collect()
    }
}

impl Permission {
    fn covers(&self, used: &Use) -> bool {
        // AWS takes actions in any case, and resources to the letter.
        fits(self.action.to_ascii_lowercase().as_bytes(), used.action.to_ascii_lowercase().as_bytes())
            && fits(self.resource.as_bytes(), used.resource.as_bytes())
    }
}

/// One text or several, as policies write them.
fn texts(value: &Value) -> Vec<&str> {
    value.as_str().map_or_else(|| value.as_array().into_iter().flatten().filter_map(Value::as_str).collect(), |one| vec![one])
}

/// IAM's wildcards: `*` is anything, `?` one character. What was asked for may itself end in `*`, and is then meant to the letter.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) if fits(rest, text) => true,
        (Some((b'*', _)), Some((_, text))) => fits(pattern, text),
        (Some((b'?', rest)), Some((_, text))) => fits(rest, text),
        (Some((wanted, rest)), Some((found, text))) if wanted == found => fits(rest, text),
        _ => false,
    }
}

#[test]
fn a_record_is_held_against_a_policy() {
    let policy = serde_json::json!({ "Statement": [
        { "Sid": "One", "Effect": "Allow", "Action": ["s3:GetBucket*", "s3:PutObject"], "Resource": "arn:aws:s3:::a-?" },
        { "Sid": "Two", "Effect": "Allow", "Action": "sqs:SendMessage", "Resource": ["arn:aws:sqs:r:1:q", "arn:aws:sqs:r:1:q-dlq"] },
    ] });
    let verdict =
        |action: &str, resource: &str, allowed: bool| serde_json::json!({ "action": action, "resource": resource, "allowed": allowed });
    let requests = [
        serde_json::json!({ "principal": "arn:aws:sts::1:assumed-role/r/s", "verdicts": [
            verdict("s3:GetBucketVersioning", "arn:aws:s3:::a-1", true),
            verdict("sqs:SendMessage", "arn:aws:sqs:r:1:q", true),
            verdict("sqs:SendMessage", "arn:aws:sqs:r:1:other", true),
            verdict("sqs:DeleteQueue", "arn:aws:sqs:r:1:q", false),
        ] }),
        serde_json::json!({ "principal": "arn:aws:sts::1:assumed-role/r2/s", "verdicts": [verdict("s3:PutObject", "arn:aws:s3:::a-1", true)] }),
    ];
    let (policy, seen) = (Policy::of([&policy]), Seen::of(&requests, "assumed-role/r"));
    let unused: Vec<String> = policy.unused(&seen.uses).iter().map(ToString::to_string).collect();
    assert_eq!(unused, ["One s3:PutObject on arn:aws:s3:::a-?", "Two sqs:SendMessage on arn:aws:sqs:r:1:q-dlq"]);
    assert_eq!(policy.unused_actions(&seen.uses), BTreeSet::from([("One".to_owned(), "s3:PutObject".to_owned())]));
    assert_eq!(policy.actions(), 3);
    assert!(policy.beyond(&seen.uses).iter().all(|used| used.resource.ends_with(":other")) && policy.beyond(&seen.uses).len() == 1);
    assert_eq!(seen.refused.len(), 1);
}
