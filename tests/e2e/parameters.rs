//! Secrets in Parameter Store instead of Secrets Manager: the same plan file, one key of the environment file.
use std::collections::BTreeMap;

use aws_sdk_ssm::types::ParameterType;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{commands::block_on, copy::Copy, least_privilege, target::Target};

const HOME: &str = "us-east-1";
const DR: &str = "eu-west-1";
const STEPS: &str = "backend,network,cluster,data,identity,images,namespace,config,uploader,parser,smoke";
/// What people set, and the other region holds too; the rest is made in the cluster.
const SET: [&str; 3] = ["kafka", "smoke-token", "uploader-tokens"];

/// From nothing to the smoke test.
pub fn keep_the_secrets(target: &Target) {
    let copy = Copy::new();
    copy.replace("plans/environments/sandbox.yaml", "observability:", "secrets: { store: ssm }\nobservability:");
    let kafka = target.sandbox(&["kafka-credentials"]).stdout;
    let token = format!("parameter-{}", uuid::Uuid::new_v4().simple());
    let tokens = format!("smoke:{}\n", hex::encode(Sha256::digest(&token)));
    for (name, value) in [("kafka", &kafka[..]), ("smoke-token", token.as_bytes()), ("uploader-tokens", tokens.as_bytes())] {
        set(target, &copy, name, value, "1");
    }
    let apply = ["apply", "--yes", "--project", copy.folder(), "--only", STEPS];
    let applied = target.deployctl(&apply).expect(0);
    for hop in ["upload", "parser", "postgres", "kafka", "sqs", "removed"] {
        assert!(applied.err.contains(&format!("checked {hop}: ")), "no hop {hop}:\n{}", applied.err);
    }
    they_are_where_they_should_be(target);
    no_state_holds(target, &[&token, &text(&kafka, "api_secret"), &text(&value(target, "parser-db"), "password")]);
    let names_a_secret = |action: &str| action.starts_with("ssm:") || action.starts_with("secretsmanager:");
    least_privilege::is_used_up(target, names_a_secret);
    let again = target.deployctl(&apply).expect(0);
    assert!(format!("{}{}", again.out, again.err).contains("Nothing had to be changed"), "{}{}", again.out, again.err);
    // A new value reaches the cluster by itself.
    let mut more: Value = serde_json::from_slice(&kafka).unwrap();
    more["changed"] = json!("yes");
    set(target, &copy, "kafka", more.to_string().as_bytes(), "2");
    target.wait_for_secret("kafka", "changed", |value| value == "yes");
    let status = target.deployctl(&["dr", "status", "--project", copy.folder()]).expect(12);
    let (there, missing) = status.out.split_once("missing:").unwrap();
    assert!(SET.iter().all(|name| there.contains(&format!("secret {name}"))) && !missing.contains("secret "), "{}", status.out);
}

fn set(target: &Target, copy: &Copy, name: &str, value: &[u8], version: &str) {
    let said = target.deployctl_with(&["secret", "set", name, "--project", copy.folder()], Some(value)).expect(0);
    assert_eq!(said.out, format!("/deployctl/sandbox/{name} version {version}\n"));
}

fn text(json: &[u8], key: &str) -> String {
    serde_json::from_slice::<Value>(json).unwrap()[key].as_str().unwrap().to_owned()
}

fn value(target: &Target, name: &str) -> Vec<u8> {
    let client = aws_sdk_ssm::Client::new(&target.sdk(HOME));
    let read = block_on(client.get_parameter().name(format!("/deployctl/sandbox/{name}")).with_decryption(true).send()).unwrap();
    read.parameter.and_then(|parameter| parameter.value).unwrap().into_bytes()
}

fn parameters(target: &Target, region: &'static str) -> BTreeMap<String, ParameterType> {
    let client = aws_sdk_ssm::Client::new(&target.sdk(region));
    let pages = block_on(client.describe_parameters().into_paginator().send().collect::<Result<Vec<_>, _>>()).unwrap();
    let own = pages
        .into_iter()
        .flat_map(|page| page.parameters.unwrap_or_default())
        .filter_map(|one| Some((one.name?.strip_prefix("/deployctl/sandbox/")?.to_owned(), one.r#type?)));
    own.collect()
}

fn they_are_where_they_should_be(target: &Target) {
    let secure = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), ParameterType::SecureString)).collect::<BTreeMap<_, _>>();
    let mut home = secure(&SET);
    home.extend(secure(&["migrator-db", "parser-db", "reader-db"]));
    // An address is none, and terraform may have it in its state.
    home.insert("database".to_owned(), ParameterType::String);
    assert_eq!(parameters(target, HOME), home);
    assert_eq!(parameters(target, DR), secure(&SET));
    let client = aws_sdk_secretsmanager::Client::new(&target.sdk(HOME));
    let pages = block_on(client.list_secrets().into_paginator().send().collect::<Result<Vec<_>, _>>()).unwrap();
    let names: Vec<&str> = pages.iter().flat_map(|page| page.secret_list()).filter_map(|secret| secret.name()).collect();
    assert!(matches!(names[..], [only] if only.starts_with("rds!db-")), "RDS keeps the master's there, and nobody else: {names:?}");
}

fn no_state_holds(target: &Target, values: &[&str]) {
    let s3 = target.s3(HOME);
    for stack in ["network", "cluster", "data", "identity"] {
        let key = format!("{stack}/terraform.tfstate");
        let state = block_on(async {
            let object = s3.get_object().bucket("deployctl-sandbox-state-111122223333-us-east-1").key(&key).send().await.unwrap();
            String::from_utf8(object.body.collect().await.unwrap().to_vec()).unwrap()
        });
        assert!(state.contains("\"serial\""), "{key}: {state}");
        assert!(!values.iter().any(|value| state.contains(value)), "{key} holds a secret");
    }
}
