//! The policies that are shipped: the planner's allows a part of the deployer's, on the same things, and only what reads.
use serde_json::Value;

/// Verbs of actions that change nothing; what is written out reads secrets or uploads, or gives a login, and no plan needs it.
const READS: [&str; 3] = ["Describe", "Get", "List"];
const NEVER: [&str; 2] = ["ecr:GetAuthorizationToken", "ecr:GetDownloadUrlForLayer"];

fn statements(name: &str) -> Vec<Value> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("terraform/policies").join(name);
    let policy: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    policy["Statement"].as_array().unwrap().clone()
}

fn actions(statement: &Value) -> Vec<&str> {
    statement["Action"].as_array().unwrap().iter().map(|action| action.as_str().unwrap()).collect()
}

fn resources(statement: &Value) -> Vec<&str> {
    statement["Resource"].as_array().unwrap().iter().map(|resource| resource.as_str().unwrap()).collect()
}

/// Whether whatever `narrow` names is named by `wide`, too; stars of `narrow` are text like any other.
fn covers(wide: &str, narrow: &str) -> bool {
    let mut parts = wide.split('*');
    let Some(mut rest) = narrow.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = if part.is_empty() { "" } else { &rest[at + part.len()..] };
    }
    rest.is_empty()
}

#[test]
fn who_plans_may_read_what_the_deployer_may_and_no_more() {
    let deployer = statements("deployer.json");
    let planner = statements("planner.json");
    for statement in &planner {
        let sid = &statement["Sid"];
        let whole = deployer.iter().find(|other| other["Sid"] == *sid).unwrap_or_else(|| panic!("the deployer has no {sid}"));
        for key in ["Effect", "Condition"] {
            assert_eq!(statement[key], whole[key], "{sid}: {key}");
        }
        for resource in resources(statement) {
            let within = resources(whole).iter().any(|whole| covers(whole, resource));
            assert!(within, "{sid}: the deployer does not reach {resource}");
        }
        for action in actions(statement) {
            let verb = action.split(':').nth(1).unwrap();
            assert!(READS.iter().any(|read| verb.starts_with(read)) && !NEVER.contains(&action), "{sid}: {action} is no read");
            assert!(actions(whole).contains(&action), "{sid}: the deployer may not {action}");
        }
    }
    let uploads = |statement: &Value| statement["Resource"].to_string().contains("-uploads-");
    assert!(!planner.iter().any(uploads), "no plan reads what people have uploaded");
}
