//! Each stack with the sandbox's modules, or with the real ones from a folder that a person gives: valid, its own tests pass, and the
//! modules make of our calls what design §3 and §6 ask for.
use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Outcome, ensure, installed, plan, promises,
    workspace::{Module, Workspace, project},
};

/// The modules that stacks use: stack, call and module, version.
pub const CALLS: [(&str, &str, &str); 2] = [("network", "vpc", "6.6.0"), ("cluster", "eks", "21.19.0")];
const STACKS: [&str; 6] = ["bootstrap", "network", "cluster", "data", "identity", "recovery"];

/// A stack's folder.
pub fn folder(stack: &str) -> PathBuf {
    project().join("terraform").join(stack)
}

/// The modules that a stack calls, taken from `modules/NAME`.
pub fn modules(stack: &str, modules: &Path) -> Vec<Module> {
    let called = CALLS.iter().filter(|(caller, ..)| *caller == stack);
    called
        .map(|(_, name, version)| Module {
            key: (*name).to_owned(),
            name: (*name).to_owned(),
            version: (*version).to_owned(),
            folder: modules.join(name),
        })
        .collect()
}

fn check(stack: &str, modules: &[Module]) -> Outcome {
    examine(stack, &Workspace::of(&folder(stack), modules)?)
}

/// What a working copy of a stack must be: valid, through its own tests, and as promised once the modules have made their part of it.
pub fn examine(stack: &str, workspace: &Workspace) -> Outcome {
    let said = workspace.terraform(&["validate", "-no-color"])?;
    ensure(said.succeeded, || format!("terraform validate: {}", said.text))?;
    let plans = plan::of_tests(workspace)?;
    let planned = |run: &str| plans.get(run).ok_or_else(|| format!("{stack} has no run {run}"));
    match stack {
        "network" => promises::network(planned("three_zones")?),
        "cluster" => promises::cluster(planned("as_declared")?)
            .and_then(|()| promises::private_cluster(planned("private_endpoint")?))
            .and_then(|()| promises::cluster_with_agent(planned("pod_identity_brings_its_agent")?)),
        "data" => promises::data(planned("adopts_what_exists")?),
        _ => Ok(()),
    }
}

fn offline(stack: &str) -> Outcome {
    check(stack, &modules(stack, &project().join("tests/sandbox/modules")))
}

#[test]
fn bootstrap_stack() -> Outcome {
    offline("bootstrap")
}

#[test]
fn network_stack() -> Outcome {
    offline("network")
}

#[test]
fn cluster_stack() -> Outcome {
    offline("cluster")
}

#[test]
fn data_stack() -> Outcome {
    offline("data")
}

#[test]
fn recovery_stack() -> Outcome {
    offline("recovery")
}

#[test]
fn identity_stack() -> Outcome {
    offline("identity")
}

/// `tests/terraform/real-modules.sh DIR`: DIR has the modules' repositories as vpc, eks and kms (which eks calls).
#[test]
fn real_modules() -> Outcome {
    let Some(given) = env::var_os("DEPLOYCTL_REAL_MODULES").map(PathBuf::from) else {
        writeln!(std::io::stderr(), "SKIPPED: the stacks with the real modules; tests/terraform/real-modules.sh DIR does it")?;
        return Ok(());
    };
    for stack in STACKS {
        let mut modules = modules(stack, &given);
        if stack == "cluster" {
            let folder = given.join("kms");
            modules.push(Module { key: "eks.kms".into(), name: "kms".into(), version: version_of_kms(&given)?, folder });
        }
        check(stack, &modules).map_err(|error| format!("{stack} with the real modules: {error}"))?;
        writeln!(std::io::stderr(), "{stack} with the real modules: valid, planned, as it should be")?;
    }
    Ok(())
}

/// The version that the eks module asks for.
fn version_of_kms(given: &Path) -> Outcome<String> {
    let text = fs::read_to_string(given.join("eks/main.tf"))?;
    let after = text.split_once("terraform-aws-modules/kms/aws").ok_or("the eks module does not call the kms module")?.1;
    Ok(after.split('"').nth(2).ok_or("the eks module names no version of the kms module")?.to_owned())
}

#[test]
fn formatted() -> Outcome {
    for folder in ["terraform", "tests/sandbox/modules"] {
        let mut terraform = Command::new(installed::terraform());
        let output = terraform.args(["fmt", "-check", "-recursive", "-diff"]).current_dir(project().join(folder)).output()?;
        ensure(output.status.success(), || format!("terraform fmt in {folder}: {}", String::from_utf8_lossy(&output.stdout)))?;
    }
    Ok(())
}

/// What a mocked plan cannot show: who the providers refuse to work for, and that nothing is written that should not be in a state.
#[test]
fn written_down() -> Outcome {
    for stack in STACKS {
        let mut all = String::new();
        for entry in fs::read_dir(folder(stack))? {
            let path = entry?.path();
            // A person's own, and never committed.
            let own = stack == "bootstrap";
            ensure(own || path.file_name().is_none_or(|name| name != ".terraform.lock.hcl"), || {
                format!("{}: its hashes would be the offline provider's", path.display())
            })?;
            if path.extension().is_some_and(|extension| extension == "tf") {
                all.push('\n');
                all.push_str(&fs::read_to_string(&path)?);
            }
        }
        let count = |text: &str| all.matches(text).count();
        let providers = count("provider \"aws\" {");
        ensure(providers > 0 && count("allowed_account_ids = [var.account_id]") == providers, || {
            format!("{stack}: every provider refuses other accounts")
        })?;
        ensure(count("tags = local.default_tags\n  }") == providers, || format!("{stack}: every provider tags what it makes"))?;
        // What makes the deployer's role comes before the bucket.
        let in_s3 = usize::from(stack != "bootstrap");
        ensure(count("backend \"s3\" {}") == in_s3, || format!("{stack}: the state is in S3, where deployctl says"))?;
        for (block, parts) in [("variable", &["description", "type", "validation"][..]), ("output", &["description"])] {
            for declared in blocks(&all, block) {
                for part in parts {
                    let has = declared.lines().any(|line| line.trim_start().starts_with(part));
                    ensure(has, || format!("{stack}: {block} \"{} has no {part}", declared.lines().next().unwrap_or_default()))?;
                }
            }
        }
        let secret: Vec<&str> = all
            .lines()
            .map(str::trim)
            .filter(|line| ["password", "secret_string", "value", "random_password"].iter().any(|word| line.starts_with(word)))
            .filter(|line| line.contains("password") || line.starts_with("secret_string"))
            .collect();
        let allowed: &[&str] = if stack == "data" { &["secret_string = local.endpoint"] } else { &[] };
        ensure(secret == allowed, || format!("{stack} writes a secret into its state: {secret:?}"))?;
    }
    Ok(())
}

/// The text of every block of a kind, from its name to its end.
fn blocks<'a>(text: &'a str, kind: &str) -> Vec<&'a str> {
    let start = format!("\n{kind} \"");
    text.split(start.as_str()).skip(1).map(|rest| rest.split("\n}").next().unwrap_or(rest)).collect()
}
