//! Plans that `terraform test -json -verbose` prints, and questions to them.
use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Outcome, ensure, workspace::Workspace};

/// One run's plan: what each resource will be, and where terraform takes it over, by which id.
#[derive(Debug)]
pub struct Plan(Vec<(String, Value)>, BTreeMap<String, String>);

/// Runs a stack's tests and returns each run's plan, by name.
pub fn of_tests(workspace: &Workspace) -> Outcome<BTreeMap<String, Plan>> {
    let said = workspace.terraform(&["test", "-json", "-verbose"])?;
    let messages: Vec<Value> = said.text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if !said.succeeded {
        return Err(failures(&messages, &said.text).into());
    }
    let mut plans = BTreeMap::new();
    for message in messages {
        if let (Some(run), Some(plan)) = (message["@testrun"].as_str(), message.get("test_plan")) {
            plans.insert(run.to_owned(), Plan::of(plan));
        }
    }
    ensure(!plans.is_empty(), || "terraform test printed no plan".to_owned())?;
    Ok(plans)
}

fn failures(messages: &[Value], text: &str) -> String {
    let lines: Vec<String> = messages
        .iter()
        .filter(|message| message["@level"] == "error")
        .map(|message| {
            let place = &message["diagnostic"]["range"];
            format!(
                "{} {}:{}: {} {}",
                message["@testrun"], place["filename"], place["start"]["line"], message["@message"], message["diagnostic"]["detail"]
            )
        })
        .collect();
    if lines.is_empty() { text.to_owned() } else { lines.join("\n") }
}

impl Plan {
    fn of(plan: &Value) -> Self {
        let changes = plan["resource_changes"].as_array().cloned().unwrap_or_default();
        let address = |change: &Value| change["address"].as_str().unwrap_or_default().to_owned();
        let imported =
            changes.iter().filter_map(|change| Some((address(change), change.pointer("/change/importing/id")?.as_str()?.to_owned())));
        let imported = imported.collect();
        Self(changes.iter().map(|change| (address(change), change["change"]["after"].clone())).collect(), imported)
    }

    /// What is taken over, by address, and by which id.
    pub fn imported(&self) -> &BTreeMap<String, String> {
        &self.1
    }

    /// Every managed resource of a type, with its address.
    pub fn all(&self, kind: &str) -> Vec<(&str, &Value)> {
        let is = |address: &str| {
            address.rsplit_once(&format!("{kind}.")).is_some_and(|(before, _)| before.is_empty() || before.ends_with('.'))
                && !address.contains("data.")
        };
        self.0.iter().filter(|(address, _)| is(address)).map(|(address, value)| (address.as_str(), value)).collect()
    }

    /// The only resource of a type.
    pub fn one(&self, kind: &str) -> Outcome<&Value> {
        match self.all(kind).as_slice() {
            [(_, value)] => Ok(value),
            others => Err(format!("one {kind} was to be planned, not {}", others.len()).into()),
        }
    }
}

/// The value at a path of keys and indices, as in `metadata_options.0.http_tokens`.
pub fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, key| match key.parse::<usize>() {
        Ok(index) if value.is_array() => &value[index],
        _ => &value[key],
    })
}
