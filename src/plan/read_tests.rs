//! Bad files: each class of error with what is shown for it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use std::collections::BTreeSet;

use super::*;
use crate::{
    engine::fake::FakeKind,
    plan::{environment::Standby, file::Credentials},
};

fn registry() -> Registry {
    Registry::default().with_erased(FakeKind::in_a_world_of_its_own())
}

fn shown(failure: &Failure) -> String {
    format!("{}\n{}", failure.message, failure.evidence.join("\n"))
}

fn wrong(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    shown(&plan_file_from(Path::new("plans/deploy.yaml"), text, folder.path(), &registry(), None).unwrap_err())
}

#[test]
fn unknown_key() {
    insta::assert_snapshot!(wrong("version: 1\nsteps:\n  - id: a\n    kind: fake\n    neds: []\n"));
}

#[test]
fn wrong_type() {
    insta::assert_snapshot!(wrong("version: 1\nsteps:\n  - id: a\n    kind: fake\n    needs: yes\n"));
}

#[test]
fn duplicate_key() {
    insta::assert_snapshot!(wrong("version: 1\nversion: 1\nsteps: []\n"));
}

#[test]
fn everything_that_is_wrong_with_steps_at_once() {
    insta::assert_snapshot!(wrong(
        r#"version: 2
steps:
  - id: network
    kind: fake
    with: { makes: [vpc] }
    outputs: { vpc_id: string, subnets: list(string), bad: strng }
  - id: network
    kind: fakee
    needs: [netwrok]
  - id: cluster
    kind: fake
    needs: [network]
    with: { maks: [], gives: { vpc: "${steps.network.outputs.vpc_ids}", x: "${env.network" } }
    outputs: { name: string }
  - id: data
    kind: fake
    with:
      gives:
        far: "${steps.cluster.outputs.name}"
        what: "${secret.x}"
  - id: late
    kind: fake
    needs: [cluster]
    with:
      makes: "${steps.network.outputs.vpc_id}"
      gives:
        list: "in ${steps.network.outputs.subnets}"
        deep: "${steps.network.outputs.vpc_id.x}"
        gone: "${steps.netwrok.outputs.vpc_id}"
"#
    ));
}

#[test]
fn a_circle_shows_its_way() {
    insta::assert_snapshot!(wrong(
        "version: 1\nsteps:\n  - { id: a, kind: fake, needs: [b] }\n  - { id: b, kind: fake, needs: [c] }\n  - { id: c, kind: fake, needs: [a] }\n"
    ));
}

#[test]
fn services_with_wildcards_and_no_folders() {
    insta::assert_snapshot!(wrong(
        r#"version: 1
services:
  parser:
    source: services/parser
    templates: templates/parser
    namespace: apps
    service_account: parser
    permissions:
      - { actions: ["s3:*"], resources: ["*"] }
      - { actions: ["s3:GetObject"], secrets: read, resources: ["*"] }
      - { resources: ["*"] }
steps: []
"#
    ));
}

#[test]
fn there_are_two_ways_to_a_role() {
    let file = |text: &str| serde_saphyr::from_str::<PlanFile>(text).unwrap();
    assert_eq!(file("version: 1\nsteps: []\n").credentials, Credentials::Irsa);
    assert_eq!(file("version: 1\ncredentials: pod-identity\nsteps: []\n").credentials, Credentials::PodIdentity);
    insta::assert_snapshot!(wrong("version: 1\ncredentials: pod-identiti\nsteps: []\n"));
}

const ENVIRONMENT: &str = include_str!("../../plans/environments/sandbox.yaml");

fn wrong_environment(from: &str, to: &str) -> String {
    assert!(ENVIRONMENT.contains(from));
    shown(&environment_from(Path::new("plans/environments/sandbox.yaml"), &ENVIRONMENT.replacen(from, to, 1)).unwrap_err())
}

#[test]
fn the_sandbox_environment_is_fine() {
    environment_from(Path::new("plans/environments/sandbox.yaml"), ENVIRONMENT).unwrap();
}

#[test]
fn environments_that_nobody_should_apply() {
    let all = [
        ("198.18.0.0/15", "0.0.0.0/0"),
        ("min: 1, desired: 1, max: 1", "min: 3, desired: 1, max: 2"),
        ("backup_days: 7", "backup_days: 0"),
        ("name: sandbox", "name: staging"),
        ("nat_gateways: single", "nat_gateways: singel"),
        ("kafka.deployctl.internal:9092", "broker.example.com:9092"),
        ("cidr: 10.40.0.0/16", "cidr: 10.40.0.0"),
        ("\"111122223333\"", "\"1111\""),
        ("dr_region: eu-west-1", "dr_region: us-east-1"),
        ("strategy: rolling", "strategy: canary"),
        ("strategy: rolling", "strategy: rolling\n    canary: [50, 20]"),
        ("observability:", "secrets: { store: vault }\nobservability:"),
    ];
    insta::assert_snapshot!(all.map(|(from, to)| wrong_environment(from, to)).join("\n\n"));
}

/// What is prepared there and what is restored into it, for each environment as it is seen from the DR region.
#[test]
fn every_plan_file_for_the_dr_region_fits_every_environment() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["sandbox", "staging", "production"] {
        for standby in [Standby::PilotLight, Standby::Warm] {
            let mut committed = environment(project, &EnvironmentName::parse(name).unwrap()).unwrap();
            committed.recovery.standby = standby;
            for file in [standby.plan_file(), "plans/restore-rds.yaml", "plans/drill-rds.yaml"] {
                let read = definition_of(project, file, BTreeMap::new(), committed.clone().in_dr_region(), &Registry::standard());
                assert!(read.is_ok(), "{file} for {name}: {}", shown(&read.unwrap_err()));
            }
        }
    }
}

/// The variables of a stack: those without a default, and all of them.
fn asked_for(stack: &Path) -> [BTreeSet<String>; 2] {
    let files = std::fs::read_dir(stack).unwrap().map(|entry| entry.unwrap().path());
    let texts =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "tf")).map(|path| std::fs::read_to_string(path).unwrap());
    let (mut needed, mut all) = (BTreeSet::new(), BTreeSet::new());
    for text in texts {
        for block in
            text.split("\nvariable \"").skip(1).chain(text.strip_prefix("variable \"").and_then(|rest| rest.split("\nvariable \"").next()))
        {
            let name = block.split('"').next().unwrap().to_owned();
            if !block.split("\n}").next().unwrap().contains("\n  default ") {
                needed.insert(name.clone());
            }
            all.insert(name);
        }
    }
    [needed, all]
}

/// What deployctl gives by itself is in every stack's variables-common.tf.
#[test]
fn every_stack_is_given_what_it_asks_for_and_nothing_else() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut stacks = 0;
    for name in ["deploy", "destroy", "prepare-dr", "warm-dr", "restore-rds", "drill-rds"] {
        let file: PlanFile = serde_saphyr::from_str(&std::fs::read_to_string(project.join(format!("plans/{name}.yaml"))).unwrap()).unwrap();
        for step in file.steps.iter().filter(|step| step.kind == "terraform") {
            let stack = project.join(step.with["stack"].as_str().unwrap());
            let [needed, all] = asked_for(&stack);
            let by_itself = std::fs::read_to_string(stack.join("variables-common.tf")).unwrap();
            let adopted = step.with["adopt"]["variable"].as_str().map(str::to_owned);
            let given: BTreeSet<String> =
                step.with["variables"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).chain(adopted).collect();
            let missing: Vec<_> = needed.difference(&given).filter(|name| !by_itself.contains(&format!("variable \"{name}\""))).collect();
            let unknown: Vec<_> = given.difference(&all).collect();
            assert!(missing.is_empty() && unknown.is_empty(), "plans/{name}.yaml, {}: lacks {missing:?}, gives {unknown:?}", step.id);
            stacks += 1;
        }
    }
    assert!(stacks >= 10, "{stacks} steps of kind terraform");
}
