//! terraform's plan as lines of the one diff: what changes, attribute by attribute, secrets masked.
use serde_json::Value;

use crate::{
    engine::limits::{OUTPUT, UNKNOWN},
    steps::{Action, Change},
    tools::terraform::plan_json::{self, PlanJson, ResourceChange},
};

const SENSITIVE: &str = "(sensitive)";
/// More than this of one value is no longer read by anybody.
const WIDEST: usize = 200;

/// Every change of a plan, in terraform's order.
pub(super) fn of(plan: &PlanJson) -> Vec<Change> {
    let mut changes: Vec<Change> = plan.resource_changes.iter().filter(|r| r.mode != "data").filter_map(resource).collect();
    if changes.is_empty() && plan.applyable {
        // Only outputs move: the state must still be written for later steps to read.
        let moved = plan.output_changes.iter().filter(|(_, change)| change.actions != ["no-op"]);
        changes.extend(moved.map(|(name, change)| Change {
            action: if change.actions == ["delete"] { Action::Delete } else { Action::Update },
            resource: OUTPUT.into(),
            name: format!("output.{name}"),
            details: details(change),
        }));
    }
    changes
}

fn resource(found: &ResourceChange) -> Option<Change> {
    let change = &found.change;
    let actions: Vec<&str> = change.actions.iter().map(String::as_str).collect();
    let action = match actions.as_slice() {
        ["create"] => Action::Create,
        ["update"] => Action::Update,
        ["delete"] => Action::Delete,
        // `forget` leaves the thing and drops it from the state, which for us is as grave as deleting it.
        ["forget"] => Action::Delete,
        _ if found.is_kept => Action::Update,
        ["delete", "create"] | ["create", "delete"] | ["create", "forget"] => Action::Replace,
        _ if change.importing.is_some() || found.previous_address.is_some() => Action::Update,
        _ => return None,
    };
    let mut lines = details(change);
    if let Some(from) = &found.previous_address {
        lines.insert(0, format!("moved from {from}"));
    }
    if found.is_kept {
        lines.insert(0, "was made and not finished: kept".to_owned());
    }
    if let Some(importing) = &change.importing {
        lines.insert(0, format!("imported from {}", importing.id.as_deref().unwrap_or(UNKNOWN)));
    }
    if actions == ["forget"] {
        lines.insert(0, "forgotten: it stays, but terraform no longer knows it".into());
    }
    Some(Change { action, resource: found.kind.clone(), name: found.address.clone(), details: lines })
}

fn details(change: &plan_json::Change) -> Vec<String> {
    let mut lines = Vec::new();
    let sides = Sides {
        before: &change.before,
        after: &change.after,
        unknown: &change.after_unknown,
        before_sensitive: &change.before_sensitive,
        after_sensitive: &change.after_sensitive,
    };
    compare(String::new(), sides, &mut lines);
    for line in &mut lines {
        let path = line.split(": ").next().unwrap_or_default();
        let forces = change.replace_paths.iter().any(|forcing| dotted(forcing) == path);
        if forces {
            line.push_str(" (forces replacement)");
        }
    }
    lines
}

#[derive(Clone, Copy)]
struct Sides<'a> {
    before: &'a Value,
    after: &'a Value,
    unknown: &'a Value,
    before_sensitive: &'a Value,
    after_sensitive: &'a Value,
}

fn compare(path: String, sides: Sides<'_>, lines: &mut Vec<String>) {
    let Sides { before, after, unknown, before_sensitive, after_sensitive } = sides;
    if unknown == &Value::Bool(true) {
        let before = shown(before, before_sensitive);
        return lines.push(format!("{}: {before} -> {UNKNOWN}", name(&path)));
    }
    let sensitive = before_sensitive == &Value::Bool(true) || after_sensitive == &Value::Bool(true);
    let objects =
        (before.is_object() || before.is_null()) && (after.is_object() || after.is_null()) && !(before.is_null() && after.is_null());
    let deeper = objects && (after.is_object() || path.is_empty()) || unknown.is_object();
    if deeper && !sensitive {
        let keys: std::collections::BTreeSet<&String> =
            [before, after, unknown].into_iter().filter_map(Value::as_object).flat_map(|o| o.keys()).collect();
        for key in keys {
            let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let inner = Sides {
                before: &before[key],
                after: &after[key],
                unknown: &unknown[key],
                before_sensitive: inside(before_sensitive, key),
                after_sensitive: inside(after_sensitive, key),
            };
            compare(at, inner, lines);
        }
        return;
    }
    // Null and nothing at all are the same to a reader.
    if before == after || (empty(before) && empty(after) && !has_unknown(unknown)) {
        return;
    }
    if has_unknown(unknown) && !sensitive {
        return lines.push(format!("{}: {} -> {UNKNOWN}", name(&path), shown(before, before_sensitive)));
    }
    lines.push(format!("{}: {} -> {}", name(&path), shown(before, before_sensitive), shown(after, after_sensitive)));
}

fn name(path: &str) -> &str {
    if path.is_empty() { "value" } else { path }
}

fn inside<'a>(mask: &'a Value, key: &str) -> &'a Value {
    if mask == &Value::Bool(true) { mask } else { &mask[key] }
}

fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn has_unknown(mask: &Value) -> bool {
    match mask {
        Value::Bool(unknown) => *unknown,
        Value::Array(items) => items.iter().any(has_unknown),
        Value::Object(fields) => fields.values().any(has_unknown),
        _ => false,
    }
}

/// Masked when any part of it must not be shown: half a secret is one.
fn shown(value: &Value, sensitive: &Value) -> String {
    if has_unknown(sensitive) {
        return SENSITIVE.to_owned();
    }
    let text = value.to_string();
    match text.char_indices().nth(WIDEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn dotted(path: &Value) -> String {
    let part = |part: &Value| part.as_str().map(str::to_owned).unwrap_or_else(|| part.to_string());
    path.as_array().map(|parts| parts.iter().map(part).collect::<Vec<_>>().join(".")).unwrap_or_default()
}

/// What has happened since a plan was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// Nothing of ours.
    Shown,
    /// An earlier attempt of the same run has begun to apply it.
    Begun,
}

/// Whether `fresh` does nothing that `shown` did not say; the sentences that say where it does.
pub(super) fn beyond(shown: &[Change], fresh: &[Change], since: Since) -> Vec<String> {
    fresh.iter().filter(|change| since == Since::Shown || !makes_again(shown, change)).filter_map(|change| exceeds(shown, change)).collect()
}

/// A thing that was to be made, and that the interrupted attempt has made by half: terraform makes it again.
pub(super) fn makes_again(shown: &[Change], fresh: &Change) -> bool {
    fresh.action == Action::Replace && shown.iter().any(|known| known.name == fresh.name && known.action == Action::Create)
}

fn exceeds(shown: &[Change], fresh: &Change) -> Option<String> {
    let Some(known) = shown.iter().find(|change| change.name == fresh.name) else {
        return Some(format!("{} {}: was not in the plan", said(fresh.action), fresh.name));
    };
    if known.action != fresh.action {
        return Some(format!("{} {}: the plan said {}", said(fresh.action), fresh.name, said(known.action)));
    }
    let path = |line: &str| line.split(": ").next().unwrap_or_default().to_owned();
    let same = |line: &String| known.details.iter().any(|k| k == line || (path(k) == path(line) && k.ends_with(UNKNOWN)));
    fresh.details.iter().find(|line| !same(line)).map(|line| format!("{} {}: {line}", said(fresh.action), fresh.name))
}

fn said(action: Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::Update => "update",
        Action::Replace => "replace",
        Action::Delete => "delete",
        Action::Run => "run",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plan(changes: Value) -> PlanJson {
        PlanJson::parse(json!({"format_version": "1.2", "applyable": true, "resource_changes": changes}).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn secrets_are_masked_and_unknowns_said() {
        let changes = of(&plan(json!([{
            "address": "aws_x.y", "mode": "managed", "type": "aws_x",
            "change": {
                "actions": ["delete", "create"], "replace_paths": [["zone"]],
                "before": {"id": "1", "zone": "a", "password": "hunter2", "tags": {"k": "1"}, "list": [{"secret": "hunter3"}]},
                "after": {"zone": "b", "password": "hunter4", "tags": {"k": "2"}, "list": [{"secret": "hunter5"}]},
                "after_unknown": {"id": true},
                "before_sensitive": {"password": true, "list": [{"secret": true}]}, "after_sensitive": {"password": true, "list": [{"secret": true}]},
            },
        }])));
        assert_eq!(changes[0].action, Action::Replace);
        assert_eq!(
            changes[0].details,
            [
                "id: \"1\" -> (known after apply)",
                "list: (sensitive) -> (sensitive)",
                "password: (sensitive) -> (sensitive)",
                "tags.k: \"1\" -> \"2\"",
                "zone: \"a\" -> \"b\" (forces replacement)",
            ]
        );
        assert!(!format!("{changes:?}").contains("hunter"));
    }

    #[test]
    fn reads_and_what_stays_are_no_changes() {
        let change = |mode: &str, action: &str| json!({"address": "a.b", "mode": mode, "type": "a", "change": {"actions": [action]}});
        assert_eq!(of(&plan(json!([change("data", "read"), change("managed", "no-op")]))), []);
    }

    #[test]
    fn what_nothing_may_replace_and_what_is_in_its_own_way_is_finished_instead() {
        let half = |actions: [&str; 2], reason: &str| {
            let change = json!({ "address": "aws_vpc.this", "mode": "managed", "type": "aws_vpc", "action_reason": reason, "change": { "actions": actions } });
            plan(json!([change]))
        };
        let action = |plan: PlanJson, protected: &str| of(&plan.keeping_unfinished(|kind| kind == protected))[0].action;
        let (first_gone, first_made, tainted) = (["delete", "create"], ["create", "delete"], "replace_because_tainted");
        assert_eq!(action(half(first_gone, tainted), "aws_vpc"), Action::Update);
        assert_eq!(action(half(first_made, tainted), "another"), Action::Update);
        assert_eq!(action(half(first_gone, tainted), "another"), Action::Replace);
        assert_eq!(action(half(first_made, "replace_by_request"), "aws_vpc"), Action::Replace);
    }

    #[test]
    fn more_than_was_shown_is_seen() {
        let change =
            |action, name: &str, line: &str| Change { action, resource: "a".into(), name: name.into(), details: vec![line.into()] };
        let shown = [change(Action::Create, "a.b", "id: null -> (known after apply)"), change(Action::Update, "a.c", "x: 1 -> 2")];
        assert!(beyond(&shown, &[change(Action::Create, "a.b", "id: null -> \"7\"")], Since::Shown).is_empty());
        assert!(beyond(&shown, &[], Since::Shown).is_empty());
        assert_eq!(beyond(&shown, &[change(Action::Update, "a.c", "x: 1 -> 3")], Since::Shown).len(), 1);
        assert_eq!(beyond(&shown, &[change(Action::Replace, "a.c", "x: 1 -> 2")], Since::Shown).len(), 1);
        let again = [change(Action::Replace, "a.b", "x: 1 -> 2")];
        assert_eq!((beyond(&shown, &again, Since::Shown).len(), beyond(&shown, &again, Since::Begun).len()), (1, 0));
        assert_eq!(beyond(&shown, &[change(Action::Create, "a.d", "x: 1 -> 2")], Since::Shown).len(), 1);
    }
}
