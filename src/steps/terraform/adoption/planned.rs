//! What a plan already knows of a thing that it would make, as text for import ids and searches.
use std::collections::BTreeMap;

use serde_json::Value;

use super::table::{CLASSIC, CLASSIC_SOURCES};
use crate::tools::terraform::plan_json::ResourceChange;

/// A thing that a plan would make.
#[derive(Clone, Copy)]
pub struct Planned<'a> {
    pub(super) change: &'a ResourceChange,
    account: &'a str,
    region: &'a str,
}

/// A template with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filled {
    /// All are known.
    Text(String),
    /// One follows from something that is not there yet, or not taken over yet.
    NotYet,
    /// One is null.
    Null,
}

impl<'a> Planned<'a> {
    /// A change as one. `region` is the environment's.
    pub fn of(change: &'a ResourceChange, account: &'a str, region: &'a str) -> Self {
        Self { change, account, region }
    }

    /// Where it will be: the stack's other provider may have another region.
    pub fn region(self) -> &'a str {
        self.change.change.after["region"].as_str().unwrap_or(self.region)
    }

    /// One attribute.
    pub fn attribute(self, path: &str) -> Filled {
        let (value, unknown) = (at(&self.change.change.after, path), at(&self.change.change.after_unknown, path));
        if *unknown == Value::Bool(true) {
            return Filled::NotYet;
        }
        match value {
            Value::Null => Filled::Null,
            // An issuer is named by its URL, and its ARN without the scheme.
            Value::String(text) => Filled::Text(text.strip_prefix("https://").unwrap_or(text).to_owned()),
            other => Filled::Text(other.to_string()),
        }
    }

    /// A template's text.
    pub fn fill(self, template: &str) -> Filled {
        let mut text = String::new();
        let mut rest = template;
        while let Some((before, (name, after))) = rest.split_once('{').and_then(|(before, inner)| Some((before, inner.split_once('}')?))) {
            text.push_str(before);
            rest = after;
            match name {
                "ACCOUNT" => text.push_str(self.account),
                "PARTITION" => text.push_str(partition(self.region)),
                _ => match self.attribute(name.trim_end_matches('?')) {
                    Filled::Text(value) => text.push_str(&value),
                    other => return other,
                },
            }
        }
        text.push_str(rest);
        Filled::Text(text)
    }

    /// The first template that has all its values.
    pub fn fill_first(self, templates: &[&str]) -> Filled {
        let filled: Vec<Filled> = templates.iter().map(|template| self.fill(template)).collect();
        let known = filled.iter().find(|one| matches!(one, Filled::Text(_))).cloned();
        known.unwrap_or_else(|| if filled.contains(&Filled::NotYet) { Filled::NotYet } else { Filled::Null })
    }

    /// All its tags; none while they are unknown, empty if it has none.
    pub fn tags(self) -> Option<BTreeMap<String, String>> {
        for name in ["tags_all", "tags"] {
            let unknown = &self.change.change.after_unknown[name];
            if *unknown == Value::Bool(true) || unknown.as_object().is_some_and(|tags| tags.values().any(|tag| *tag == Value::Bool(true))) {
                return None;
            }
            if let Some(tags) = tags_of(&self.change.change.after[name]) {
                return Some(tags);
            }
        }
        Some(BTreeMap::new())
    }

    /// The import id of a classic security group rule.
    pub fn classic_rule(self) -> Filled {
        let mut parts = Vec::new();
        for name in CLASSIC {
            match self.attribute(name) {
                Filled::Text(text) => parts.push(text),
                other => return other,
            }
        }
        let after = &self.change.change.after;
        let mut sources: Vec<String> = CLASSIC_SOURCES
            .iter()
            .flat_map(|name| match &after[*name] {
                Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                Value::String(one) => vec![one.clone()],
                _ => Vec::new(),
            })
            .collect();
        if after["self"] == Value::Bool(true) {
            sources.push("self".to_owned());
        }
        // The provider fills a source that was not written too, so an unknown one beside a known one is none.
        if sources.is_empty() {
            return Filled::NotYet;
        }
        parts.extend(sources);
        Filled::Text(parts.join("_"))
    }
}

/// Tags as a plan writes them; none for null.
pub fn tags_of(value: &Value) -> Option<BTreeMap<String, String>> {
    let tags = value.as_object()?.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    Some(tags.collect())
}

/// A block stands for its first element.
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, name| match value {
        Value::Array(items) => items.first().map_or(&Value::Null, |first| &first[name]),
        // An unknown block is unknown in all its parts.
        Value::Bool(true) => value,
        other => &other[name],
    })
}

fn partition(region: &str) -> &'static str {
    match region.split('-').next() {
        Some("cn") => "aws-cn",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use serde_json::json;

    use super::*;

    fn change(after: Value, unknown: Value) -> ResourceChange {
        let change = json!({"address": "x.y", "type": "x", "change": {"actions": ["create"], "after": after, "after_unknown": unknown}});
        serde_json::from_value(change).unwrap()
    }

    #[test]
    fn templates_wait_for_what_is_unknown_and_pass_over_null() {
        let change = change(
            json!({"name": "n", "url": "https://oidc.eks/id/1", "to": null, "number": 7, "block": [{"key": "k"}]}),
            json!({"id": true, "block": [{"later": true}]}),
        );
        let planned = Planned::of(&change, "111122223333", "cn-north-1");
        let text = |template: &str| planned.fill(template);
        assert_eq!(text("arn:{PARTITION}:iam::{ACCOUNT}:p/{url}"), Filled::Text("arn:aws-cn:iam::111122223333:p/oidc.eks/id/1".into()));
        assert_eq!(text("{name}_{number}-{block.key}"), Filled::Text("n_7-k".into()));
        assert_eq!((text("{name}:{id}"), text("{block.later}"), text("{to?}")), (Filled::NotYet, Filled::NotYet, Filled::Null));
        assert_eq!(planned.fill_first(&["{to}", "{name}"]), Filled::Text("n".into()));
        assert_eq!(planned.fill_first(&["{to}", "{id}"]), Filled::NotYet);
    }

    #[test]
    fn a_classic_rule_is_named_by_its_parts() {
        let rule = |extra: Value, unknown: Value| {
            let mut after = json!({"security_group_id": "sg-1", "type": "ingress", "protocol": "tcp", "from_port": 443, "to_port": 443});
            after.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            let change = change(after, unknown);
            Planned::of(&change, "1", "eu-west-1").classic_rule()
        };
        let source = json!({"source_security_group_id": true});
        assert_eq!(
            rule(json!({"cidr_blocks": ["10.0.0.0/8"]}), source.clone()),
            Filled::Text("sg-1_ingress_tcp_443_443_10.0.0.0/8".into())
        );
        assert_eq!(rule(json!({"self": true}), json!({})), Filled::Text("sg-1_ingress_tcp_443_443_self".into()));
        assert_eq!(rule(json!({"source_security_group_id": "sg-2"}), json!({})), Filled::Text("sg-1_ingress_tcp_443_443_sg-2".into()));
        assert_eq!(rule(json!({}), source), Filled::NotYet);
        assert_eq!(rule(json!({"self": true}), json!({"security_group_id": true})), Filled::NotYet);
    }

    #[test]
    fn tags_are_known_all_or_not() {
        let tags = |after: Value, unknown: Value| Planned::of(&change(after, unknown), "1", "eu-west-1").tags();
        assert_eq!(tags(json!({"tags_all": {"a": "1"}}), json!({"tags_all": {}})).unwrap().len(), 1);
        assert_eq!(tags(json!({"tags_all": {"a": "1"}}), json!({"tags_all": {"b": true}})), None);
        assert_eq!(tags(json!({"tags": {"a": "1"}}), json!({})).unwrap().len(), 1);
        assert_eq!(tags(json!({}), json!({})), Some(BTreeMap::new()));
    }
}
