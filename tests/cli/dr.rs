//! What waits in the DR region, as the environment file says it: what is refused before anything is asked, and what it costs.
use super::project::Project;

const WAITS: &str = "recovery: { standby: pilot-light, cidr: 10.41.0.0/16 }";

fn with(recovery: &str) -> Project {
    let project = Project::new();
    let text = include_str!("../../plans/environments/sandbox.yaml");
    assert!(text.contains(WAITS));
    project.write("plans/environments/sandbox.yaml", &text.replacen(WAITS, recovery, 1));
    project.write("plans/prepare-dr.yaml", include_str!("../../plans/prepare-dr.yaml"));
    project
}

#[test]
fn where_nothing_waits_nothing_is_prepared() {
    let said = with("recovery: { standby: backups }").run(&["dr", "prepare", "-e", "sandbox"]);
    assert!(said.contains("environment sandbox keeps nothing but backups in eu-west-1") && said.contains("--- exit 10"), "{said}");
    assert!(said.contains("standby: pilot-light, cidr: …") && said.contains("`standby: warm` keeps a cluster there, too"), "{said}");
}

#[test]
fn a_network_needs_addresses_however_much_waits_in_it() {
    for standby in ["pilot-light", "warm"] {
        let said = with(&format!("recovery: {{ standby: {standby} }}")).run(&["plan", "--offline", "-e", "sandbox"]);
        assert!(said.contains("`cidr` is missing") && said.contains("sandbox.yaml:") && said.contains("--- exit 10"), "{said}");
    }
    let said = with("recovery: { standby: hot, cidr: 10.41.0.0/16 }").run(&["plan", "--offline", "-e", "sandbox"]);
    assert!(said.contains("backups") && said.contains("pilot-light") && said.contains("warm"), "{said}");
}

#[test]
fn a_warm_standby_is_in_the_estimate() {
    let planned = with("recovery: { standby: warm, cidr: 10.41.0.0/16 }").run(&["plan", "--offline", "-e", "sandbox"]);
    assert!(planned.contains("eks-cluster in eu-west-1") && planned.contains("nat-gateway in eu-west-1"), "{planned}");
    let pilot_light = with(WAITS).run(&["plan", "--offline", "-e", "sandbox"]);
    assert!(!pilot_light.contains("in eu-west-1  "), "{pilot_light}");
}
