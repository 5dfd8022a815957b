//! References: what they become, and that taking a text apart and writing it again changes nothing.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn known<'a>(world: &'a (Value, Value, Value, BTreeMap<StepId, Outputs>)) -> Known<'a> {
    Known { environment: &world.0, parameters: &Value::Null, services: &world.1, all: &world.2, outputs: &world.3 }
}

fn world() -> (Value, Value, Value, BTreeMap<StepId, Outputs>) {
    let outputs = json!({ "vpc_id": "vpc-1", "subnets": ["a", "b"], "roles": { "apps/uploader": "arn:1" }, "port": 5432 });
    let outputs = serde_json::from_value(outputs).unwrap();
    (
        json!({ "network": { "cidr": "10.0.0.0/16", "zones": 2 }, "tags": { "team": "x" } }),
        json!({ "parser": { "permissions": [{ "actions": ["s3:GetObject"], "resources": ["${steps.network.outputs.vpc_id}/*"] }] } }),
        json!({ "secrets": ["kafka"], "accounts": { "apps/parser": ["${steps.network.outputs.vpc_id}/*"] } }),
        [(StepId::parse("network").unwrap(), outputs)].into(),
    )
}

fn value(text: &str) -> Value {
    match resolve(&json!(text), &known(&world())).unwrap() {
        Resolved::Value(value) => value,
        Resolved::Waits(waits) => panic!("{text} waits for {waits:?}"),
    }
}

#[test]
fn alone_it_keeps_its_type_and_inside_a_text_it_becomes_text() {
    assert_eq!(value("${env.network.zones}"), json!(2));
    assert_eq!(value("zones: ${env.network.zones}"), json!("zones: 2"));
    assert_eq!(value("${steps.network.outputs.subnets}"), json!(["a", "b"]));
    assert_eq!(value("${steps.network.outputs.subnets.1}"), json!("b"));
    assert_eq!(value("${steps.network.outputs.roles.apps/uploader}"), json!("arn:1"));
    assert_eq!(value("$${env.x} costs 5$"), json!("${env.x} costs 5$"));
    assert_eq!(value("${all.secrets}"), json!(["kafka"]));
}

#[test]
fn only_what_services_add_up_to_is_followed_further() {
    assert_eq!(value("${all.accounts.apps/parser}"), json!(["vpc-1/*"]));
    // Who only reads names and folders must not wait for what permissions refer to.
    assert_eq!(value("${services.parser.permissions.0.resources}"), json!(["${steps.network.outputs.vpc_id}/*"]));
}

#[test]
fn says_what_it_waits_for() {
    let with = json!({ "a": "${steps.data.outputs.bucket}", "b": ["x-${steps.network.outputs.nat}"], "c": "${env.network.cidr}" });
    let waits = ["data.bucket".to_owned(), "network.nat".to_owned()].into();
    assert_eq!(resolve(&with, &known(&world())), Ok(Resolved::Waits(waits)));
}

#[test]
fn says_what_is_wrong() {
    let errors: Vec<String> = ["${env.netwrk.cidr}", "a${env.network}", "${env.network.cidr.x}"]
        .iter()
        .map(|text| resolve(&json!(text), &known(&world())).unwrap_err().to_string())
        .collect();
    assert_eq!(
        errors,
        [
            "${env.netwrk.cidr} leads nowhere: there is no `netwrk`; did you mean `network`?",
            "${env.network} is no text, number or bool and cannot be a part of a text",
            "${env.network.cidr.x} leads nowhere: there is no `x`",
        ]
    );
    let errors: Vec<String> =
        ["${env}", "${steps.x}", "${secret.x}", "a ${env.x", "${env..x}", "${}"].iter().map(|t| parse(t).unwrap_err().message).collect();
    assert_eq!(
        errors,
        [
            "`${env}` names the whole environment file; name one key of it",
            "`${steps.x}` does not name an output of a step",
            "`${secret.x}` starts with `secret`, which is nothing that can be referred to",
            "`${env.x` has no closing brace",
            "`${env..x}` has an empty or unreadable part",
            "`${}` has an empty or unreadable part",
        ]
    );
}

fn reference() -> impl Strategy<Value = Reference> {
    let root = prop_oneof![
        Just(Root::Services),
        ("[a-z][a-z0-9]{0,5}", "[a-z_]{1,8}").prop_map(|(id, name)| Root::Output { step: StepId::parse(id).unwrap(), name }),
    ];
    (root, prop::collection::vec("[a-zA-Z0-9_/-]{1,8}", 0..4)).prop_map(|(root, path)| Reference { root, path })
}

proptest! {
    #[test]
    fn writing_and_parsing_agree(pieces in prop::collection::vec(prop_oneof![reference().prop_map(Ok), "[ a-z{}.]{1,6}".prop_map(Err)], 0..6)) {
        let mut text = String::new();
        let mut expected: Vec<Piece> = Vec::new();
        for piece in pieces {
            match piece {
                Ok(reference) => { text.push_str(&reference.to_string()); expected.push(Piece::Reference(reference)); }
                Err(plain) => {
                    text.push_str(&plain);
                    if let Some(Piece::Text(last)) = expected.last_mut() { last.push_str(&plain) } else { expected.push(Piece::Text(plain)) }
                }
            }
        }
        prop_assert_eq!(parse(&text), Ok(expected));
    }

    #[test]
    fn never_panics(text in ".*") {
        drop(parse(&text));
    }

    #[test]
    fn without_references_nothing_changes(text in "[^$]*") {
        prop_assert_eq!(resolve(&json!(text.clone()), &known(&world())), Ok(Resolved::Value(json!(text))));
    }
}
