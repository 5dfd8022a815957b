//! Agent commands that the plan file lists: run once for each specification, or as checks at every apply.
use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    cluster::{AgentJob, Cluster, Keep, PodSettings},
    failure::Failure,
    steps::{Action, Change, StepContext},
};

/// A command of `deployctl agent`, run as a Job in the cluster.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentCommand {
    /// Start of the Job's name.
    pub name: String,
    /// What follows `deployctl agent`; never a secret. Numbers are written as they are, lists with commas between.
    #[serde(deserialize_with = "arguments")]
    #[schemars(with = "Vec<Value>")]
    pub args: Vec<String>,
    /// ConfigMaps to mount, by path.
    #[serde(default)]
    pub config_maps: BTreeMap<String, String>,
    /// Secrets to mount, by path.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    /// It is ended after this long.
    #[serde(default = "five_minutes")]
    pub deadline_seconds: u64,
    /// What the plan shows for it instead of its name: topics, roles.
    #[serde(default)]
    pub shows: Vec<Shown>,
}

/// A line of the plan that stands for a part of what a command does.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// As in `topic`.
    pub resource: String,
    /// As in `file.parsed`.
    pub name: String,
}

/// References resolve to what they refer to, a number or a list as well as a text; a command line has only texts.
fn arguments<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    fn text<E: serde::de::Error>(value: &Value) -> Result<String, E> {
        match value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(flag) => Ok(flag.to_string()),
            Value::Array(items) => Ok(items.iter().map(text::<E>).collect::<Result<Vec<_>, E>>()?.join(",")),
            other => Err(E::custom(format!("{other} cannot be an argument: a text, a number or a list of them can"))),
        }
    }
    Vec::<Value>::deserialize(deserializer)?.iter().map(text::<D::Error>).collect()
}

fn five_minutes() -> u64 {
    300
}

impl AgentCommand {
    /// As a Job; `nonce` makes one of its own for a command that must run every time.
    pub fn job(&self, pod: &PodSettings, keep: Keep, nonce: &str) -> AgentJob {
        let args = std::iter::once("agent".to_owned()).chain(self.args.iter().cloned()).collect();
        AgentJob {
            name: self.name.clone(),
            pod: pod.clone(),
            args,
            env: BTreeMap::new(),
            config_maps: self.config_maps.clone(),
            secrets: self.secrets.clone(),
            deadline: Duration::from_secs(self.deadline_seconds),
            keep,
            nonce: nonce.to_owned(),
        }
    }

    /// Its lines in the plan.
    pub fn changes(&self) -> Vec<Change> {
        let line =
            |resource: &str, name: &str| Change { action: Action::Run, resource: resource.into(), name: name.into(), details: Vec::new() };
        if self.shows.is_empty() { vec![line("job", &self.name)] } else { self.shows.iter().map(|s| line(&s.resource, &s.name)).collect() }
    }

    /// Runs it unless the same specification has run before.
    pub async fn run_once(&self, cx: &StepContext, cluster: &Cluster, pod: &PodSettings) -> Result<Value, Failure> {
        let job = self.job(pod, Keep::UntilReplaced, "");
        let result = self.run(cx, cluster, &job).await?;
        cluster.forget_older(&job).await?;
        Ok(result)
    }

    /// Runs it now.
    pub async fn run_now(&self, cx: &StepContext, cluster: &Cluster, pod: &PodSettings) -> Result<Value, Failure> {
        let nonce = uuid::Uuid::now_v7().to_string();
        self.run(cx, cluster, &self.job(pod, Keep::Hour, &nonce)).await
    }

    async fn run(&self, cx: &StepContext, cluster: &Cluster, job: &AgentJob) -> Result<Value, Failure> {
        let heard = |line: &str| hear(cx, &self.name, line);
        let deadline = job.deadline + Duration::from_secs(240);
        let result = cx.wait_until(&format!("Job {}", self.name), deadline, cluster.run_job(job, heard)).await?;
        Ok(result.result)
    }
}

/// One line of an agent's log: a hop that was checked, a word on how far it is, or anything else.
fn hear(cx: &StepContext, name: &str, line: &str) {
    match serde_json::from_str::<Value>(line) {
        Ok(said) if said.get("checked").is_some() => {
            let what = said["checked"].as_str().unwrap_or_default();
            cx.checked(what, Duration::from_millis(said["millis"].as_u64().unwrap_or(0)));
        }
        Ok(said) if said.get("result").is_some() => {}
        Ok(said) if said.get("progress").is_some() => cx.progress(format!("{name}: {}", said["progress"].as_str().unwrap_or_default())),
        _ => cx.progress(format!("{name}: {line}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_and_lists_become_texts() {
        let read = |args: Value| serde_json::from_value::<AgentCommand>(json!({"name": "topics", "args": args}));
        assert_eq!(
            read(json!(["topics", "--partitions", 3, "--topic", ["a", "b"]])).unwrap().args,
            ["topics", "--partitions", "3", "--topic", "a,b"]
        );
        assert!(read(json!([{"a": 1}])).is_err());
    }
}
