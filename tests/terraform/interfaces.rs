//! Our calls held against what the real modules take and give (interfaces/*.json), and the sandbox's modules against the same.
use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::{
    Outcome, ensure,
    stacks::{CALLS, folder, modules},
    workspace::{Workspace, project},
};

fn interface(name: &str, version: &str) -> Outcome<Value> {
    let file = project().join(format!("tests/terraform/interfaces/{name}-{version}.json"));
    Ok(serde_json::from_str(&fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?)?)
}

/// Writes a module that takes and gives what the real one does, and does nothing.
fn write_empty_module(interface: &Value, into: &Path) -> Outcome {
    let mut variables = Map::new();
    for (name, variable) in interface["variables"].as_object().ok_or("an interface has variables")? {
        let mut declared = json!({ "type": variable["type"] });
        if variable["required"] == false {
            declared["default"] = Value::Null;
        }
        variables.insert(name.clone(), declared);
    }
    let outputs: Map<String, Value> = names(&interface["outputs"]).into_iter().map(|name| (name, json!({ "value": null }))).collect();
    fs::create_dir_all(into)?;
    Ok(fs::write(into.join("main.tf.json"), json!({ "variable": variables, "output": outputs }).to_string())?)
}

fn names(list: &Value) -> BTreeSet<String> {
    match list {
        Value::Object(map) => map.keys().cloned().collect(),
        list => list.as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
    }
}

/// What terraform says of a stack over modules that have the real ones' interfaces, after an edit of its main.tf.
fn validate(stack: &str, name: &str, version: &str, edit: impl Fn(String) -> String) -> Outcome<crate::workspace::Said> {
    let empty = TempDir::new()?;
    write_empty_module(&interface(name, version)?, &empty.path().join(name))?;
    let workspace = Workspace::of(&folder(stack), &modules(stack, empty.path()))?;
    let main = workspace.path().join("main.tf");
    fs::write(&main, edit(fs::read_to_string(&main)?))?;
    workspace.terraform(&["validate", "-no-color"])
}

#[test]
fn calls_fit() -> Outcome {
    for (stack, name, version) in CALLS {
        let said = validate(stack, name, version, |text| text)?;
        ensure(said.succeeded, || format!("{stack} calls {name} {version} in a way that it does not know: {}", said.text))?;
    }
    Ok(())
}

#[test]
fn calls_that_do_not_fit_are_noticed() -> Outcome {
    let unknown_input = validate("network", "vpc", "6.6.0", |text| text.replace("azs  = local.zones", "zones = local.zones"))?;
    ensure(!unknown_input.succeeded && unknown_input.text.contains("\"zones\""), || {
        format!("an unknown input was let through: {}", unknown_input.text)
    })?;
    let unknown_output =
        validate("network", "vpc", "6.6.0", |text| text.replace("module.vpc.private_route_table_ids", "module.vpc.route_table_ids"))?;
    ensure(!unknown_output.succeeded && unknown_output.text.contains("route_table_ids"), || {
        format!("an unknown output was let through: {}", unknown_output.text)
    })?;
    let wrong_type = validate("cluster", "eks", "21.19.0", |text| text.replace("local.access_entries", "{ a = { principal = \"arn\" } }"))?;
    ensure(!wrong_type.succeeded && wrong_type.text.contains("principal_arn"), || {
        format!("an entry without principal_arn was let through: {}", wrong_type.text)
    })
}

#[test]
fn versions_are_the_interfaces() -> Outcome {
    for (stack, name, version) in CALLS {
        let main = fs::read_to_string(folder(stack).join("main.tf"))?;
        let call = format!("source  = \"terraform-aws-modules/{name}/aws\"\n  version = \"{version}\"");
        ensure(main.contains(&call), || format!("{stack} must call {name} {version}, whose interface is here"))?;
    }
    Ok(())
}

#[test]
fn sandbox_modules_have_the_same_inputs_and_outputs() -> Outcome {
    for (_, name, version) in CALLS {
        let real = interface(name, version)?;
        let ours = project().join("tests/sandbox/modules").join(name);
        for (kind, block) in [("variables", "variable"), ("outputs", "output")] {
            let (declared, wanted) = (declared(&ours, block)?, names(&real[kind]));
            let missing: Vec<_> = wanted.difference(&declared).collect();
            let invented: Vec<_> = declared.difference(&wanted).collect();
            ensure(missing.is_empty() && invented.is_empty(), || {
                format!("{name}: {kind} missing {missing:?}, unknown to the real module {invented:?}")
            })?;
        }
    }
    Ok(())
}

fn declared(module: &Path, block: &str) -> Outcome<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(module)? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        if path.extension().is_some_and(|extension| extension == "json") {
            found.extend(names(&serde_json::from_str::<Value>(&text)?[block]));
        } else {
            found.extend(text.lines().filter_map(|line| line.strip_prefix(&format!("{block} \""))?.split('"').next().map(str::to_owned)));
        }
    }
    Ok(found)
}

/// Calls a sandbox's module with one argument more than the sandbox carries out.
fn refusal(module: &str, argument: &str) -> Outcome<String> {
    let caller = TempDir::new()?;
    let folder = project().join("tests/sandbox/modules").join(module);
    fs::write(caller.path().join("main.tf"), format!("module \"it\" {{\n  source = {folder:?}\n  {argument}\n}}\n"))?;
    fs::write(caller.path().join("it.tftest.hcl"), "mock_provider \"aws\" {}\nrun \"it\" {\n  command = plan\n}\n")?;
    let workspace = Workspace::of(caller.path(), &[])?;
    let said = workspace.terraform(&["test", "-no-color"])?;
    ensure(!said.succeeded, || format!("{module} took {argument} without a word"))?;
    Ok(said.text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[test]
fn sandbox_modules_ignore_nothing() -> Outcome {
    let cases = [
        ("vpc", "enable_ipv6 = true", "does not carry out enable_ipv6"),
        ("vpc", "manage_default_network_acl = true", "does not manage the default network ACL"),
        ("vpc", "enable_nat_gateway = true", "not one for each subnet"),
        ("eks", "fargate_profiles = { a = {} }", "does not carry out fargate_profiles"),
        ("eks", "addons = { coredns = { most_recent = true } }", "does not carry out something in addons"),
        (
            "eks",
            "eks_managed_node_groups = { a = { name = \"a\", capacity_type = \"SPOT\" } }",
            "does not carry out something in eks_managed_node_groups",
        ),
    ];
    for (module, argument, sentence) in cases {
        let said = refusal(module, argument)?;
        ensure(said.contains(sentence), || format!("{module} with {argument} should say that it {sentence}, and says {said}"))?;
    }
    Ok(())
}
