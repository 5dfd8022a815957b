//! Agent commands that the plan file lists: run once for each specification, or as checks at every apply.
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::text_list;
use crate::{
    cluster::{AgentJob, Cluster, Keep, PodSettings},
    engine::event::EventKind,
    failure::{Failure, FailureKind},
    plan::digest,
    steps::{Action, Change, Facts, StepContext, question::Question},
};

/// Looking takes a second; a plan waits no longer than this for it.
const LOOKING: Duration = Duration::from_secs(60);

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
    /// What follows `args` to look only, once the command has run; its result must list `changes` that `args` alone would make, and
    /// `drift` that nobody can mend by running it.
    #[serde(default, deserialize_with = "arguments")]
    #[schemars(with = "Vec<Value>")]
    pub observe_args: Vec<String>,
    /// Arguments that are the text of a file, by flag; never a secret: `{ --rules: templates/dashboards/rules/deployctl.yaml }`.
    #[serde(default)]
    pub files: BTreeMap<String, PathBuf>,
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
    /// As in `file.parsed`; a list stands for as many lines.
    #[serde(deserialize_with = "text_list")]
    #[schemars(with = "Value")]
    pub name: Vec<String>,
}

/// What a command that looks only has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// What running it would change, each as `NAME: what`.
    #[serde(default)]
    pub changes: Vec<String>,
    /// What differs and stays so.
    #[serde(default)]
    pub drift: Vec<String>,
    /// Why nobody could look.
    #[serde(default)]
    pub unknown: Option<String>,
}

impl Findings {
    /// Nobody could look.
    pub fn unknown(why: Failure) -> Self {
        Self { unknown: Some(why.message), ..Self::default() }
    }
    /// Fails on what the command cannot mend.
    pub fn refuse_drift(&self, command: &AgentCommand) -> Result<(), Failure> {
        let Some(first) = self.drift.first() else { return Ok(()) };
        let mut failure = Failure::new(FailureKind::Preflight, format!("{} cannot bring this to what is asked: {first}", command.name));
        failure.evidence.clone_from(&self.drift);
        Err(failure.next("change it by hand where it is, or ask in the environment file for what is there; then the same command again"))
    }
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
    pub fn job(&self, cx: &StepContext, pod: &PodSettings, keep: Keep, nonce: &str) -> Result<AgentJob, Failure> {
        let mut args = vec!["agent".to_owned()];
        args.extend(self.args.iter().cloned());
        for (flag, path) in &self.files {
            let unreadable = |e: std::io::Error| Failure::usage(format!("{} of {} cannot be read", path.display(), self.name)).because(e);
            args.extend([flag.clone(), std::fs::read_to_string(cx.project.join(path)).map_err(unreadable)?]);
        }
        Ok(AgentJob {
            name: self.name.clone(),
            pod: pod.clone(),
            args,
            env: BTreeMap::new(),
            config_maps: self.config_maps.clone(),
            secrets: self.secrets.clone(),
            deadline: Duration::from_secs(self.deadline_seconds),
            keep,
            nonce: nonce.to_owned(),
        })
    }

    /// Its lines in the plan when it has not run before.
    pub fn changes(&self) -> Vec<Change> {
        let shown: Vec<Change> =
            self.shows.iter().flat_map(|shown| shown.name.iter().map(|name| run(&shown.resource, name, Vec::new()))).collect();
        if shown.is_empty() { vec![run("job", &self.name, Vec::new())] } else { shown }
    }

    /// Its lines in the plan for what it has found: one for each thing that it shows, the rest under its own name.
    pub fn changes_of(&self, found: &Findings) -> Vec<Change> {
        let mut rest: Vec<String> = found.changes.clone();
        let mut lines = Vec::new();
        for (resource, name) in self.shows.iter().flat_map(|shown| shown.name.iter().map(|name| (&shown.resource, name))) {
            let start = format!("{name}: ");
            let (own, others): (Vec<String>, Vec<String>) = rest.into_iter().partition(|change| change.starts_with(&start));
            rest = others;
            if !own.is_empty() {
                lines.push(run(resource, name, own.iter().map(|change| change[start.len()..].to_owned()).collect()));
            }
        }
        rest.extend(found.unknown.iter().map(|reason| format!("unknown: {reason}")));
        if !rest.is_empty() {
            lines.push(run("job", &self.name, rest));
        }
        lines
    }

    /// What it has found, for a saved plan: each thing that it shows, with how it differs.
    pub fn facts(&self, found: &Findings) -> Facts {
        let changes = self.changes_of(found);
        let shown = self.shows.iter().flat_map(|shown| shown.name.iter().map(|name| format!("{} {name}", shown.resource)));
        let mut facts: Facts = shown.map(|thing| (thing, "as asked".into())).collect();
        facts.extend(changes.into_iter().map(|change| (format!("{} {}", change.resource, change.name), change.details.into())));
        facts
    }

    /// The question that only looks.
    pub fn question(&self, cx: &StepContext, pod: &PodSettings) -> Result<Question, Failure> {
        let mut looking = self.clone();
        looking.args.extend(self.observe_args.iter().cloned());
        looking.deadline_seconds = self.deadline_seconds.min(LOOKING.as_secs());
        let nonce = uuid::Uuid::now_v7().to_string();
        let job = looking.job(cx, pod, Keep::Hour, &nonce)?;
        let key = digest::of(&(&job.name, &job.args, &job.config_maps, &job.secrets))?;
        Ok(Question { key, job, own: Vec::new() })
    }

    /// Looks only. What cannot be looked at is unknown, with the reason; an interruption is none.
    pub async fn look(&self, cx: &StepContext, cluster: &Cluster, pod: &PodSettings) -> Result<Findings, Failure> {
        match cx.ask(cluster, &self.question(cx, pod)?).await {
            Ok(found) => findings(found),
            Err(failure) if failure.kind == FailureKind::Interrupted => Err(failure),
            Err(failure) => Ok(Findings::unknown(failure)),
        }
    }

    /// Runs it to mend what was found: also if it has run before.
    pub async fn mend(&self, cx: &StepContext, cluster: &Cluster, pod: &PodSettings) -> Result<(), Failure> {
        findings(self.run_now(cx, cluster, pod).await?)?.refuse_drift(self)
    }

    /// Runs it unless the same specification has run before.
    pub async fn run_once(&self, cx: &StepContext, cluster: &Cluster, pod: &PodSettings) -> Result<(), Failure> {
        let job = self.job(cx, pod, Keep::UntilReplaced, "")?;
        let result = self.run(cx, cluster, &job).await?;
        cluster.forget_older(&job).await?;
        if self.observe_args.is_empty() { Ok(()) } else { findings(result)?.refuse_drift(self) }
    }

    /// Runs it now.
    pub async fn run_now(&self, cx: &StepContext, cluster: &Cluster, pod: &PodSettings) -> Result<Value, Failure> {
        let nonce = uuid::Uuid::now_v7().to_string();
        self.run(cx, cluster, &self.job(cx, pod, Keep::Hour, &nonce)?).await
    }

    async fn run(&self, cx: &StepContext, cluster: &Cluster, job: &AgentJob) -> Result<Value, Failure> {
        let heard = |line: &str| hear(cx, &self.name, line);
        let deadline = job.deadline + Duration::from_secs(240);
        let result = cx.wait_until(&format!("Job {}", self.name), deadline, cluster.run_job(job, heard)).await?;
        Ok(result.result)
    }
}

fn run(resource: &str, name: &str, details: Vec<String>) -> Change {
    Change { action: Action::Run, resource: resource.to_owned(), name: name.to_owned(), details }
}

fn findings(result: Value) -> Result<Findings, Failure> {
    serde_json::from_value(result).map_err(|e| Failure::step("the agent's answer on what differs").because(e))
}

/// One line of an agent's log: a hop that was checked, what somebody should know at the end too, a word on how far it is, or anything else.
fn hear(cx: &StepContext, name: &str, line: &str) {
    match serde_json::from_str::<Value>(line) {
        Ok(said) if said.get("checked").is_some() => {
            let what = said["checked"].as_str().unwrap_or_default();
            cx.checked(what, Duration::from_millis(said["millis"].as_u64().unwrap_or(0)));
        }
        Ok(said) if said.get("result").is_some() => {}
        Ok(said) if said.get("warning").is_some() => {
            cx.events.emit(EventKind::Warning { message: format!("{}: {}", cx.step, said["warning"].as_str().unwrap_or_default()) });
        }
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

    #[test]
    fn a_line_of_the_plan_for_each_topic_and_what_differs_in_it() {
        let command: AgentCommand = serde_json::from_value(json!({
            "name": "topics", "args": ["topics"], "observe_args": ["--mode", "observe"],
            "shows": [{"resource": "topic", "name": ["a", "b"]}],
        }))
        .unwrap();
        let names = |changes: Vec<Change>| changes.into_iter().map(|c| (c.resource, c.name, c.details)).collect::<Vec<_>>();
        let line = |resource: &str, name: &str, details: &[&str]| {
            (resource.to_owned(), name.to_owned(), details.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(names(command.changes()), [line("topic", "a", &[]), line("topic", "b", &[])]);
        let one: Shown = serde_json::from_value(json!({"resource": "topic", "name": "a"})).unwrap();
        assert_eq!(one.name, ["a"]);
        let found = |changes: &[&str]| Findings { changes: changes.iter().map(ToString::to_string).collect(), ..Findings::default() };
        assert!(command.changes_of(&found(&[])).is_empty());
        let changes = command.changes_of(&found(&["b: retention.ms 1 -> 2", "c: made"]));
        assert_eq!(names(changes), [line("topic", "b", &["retention.ms 1 -> 2"]), line("job", "topics", &["c: made"])]);
        let unknown = Findings { unknown: Some("forbidden".into()), ..Findings::default() };
        assert_eq!(names(command.changes_of(&unknown)), [line("job", "topics", &["unknown: forbidden"])]);
    }

    #[test]
    fn which_topic_has_moved_is_named() {
        let command: AgentCommand = serde_json::from_value(json!({
            "name": "topics", "args": ["topics"], "observe_args": ["--mode", "observe"],
            "shows": [{"resource": "topic", "name": ["a", "b"]}],
        }))
        .unwrap();
        let found = |changes: &[&str]| Findings { changes: changes.iter().map(ToString::to_string).collect(), ..Findings::default() };
        let moved = crate::plan::fresh::differing(&command.facts(&found(&[])), &command.facts(&found(&["b: retention.ms 1 -> 2"])));
        assert_eq!(moved, ["topic b: \"as asked\" -> [\"retention.ms 1 -> 2\"]"]);
        let unknown = Findings::unknown(Failure::step("forbidden"));
        let moved = crate::plan::fresh::differing(&command.facts(&unknown), &command.facts(&found(&[])));
        assert_eq!(moved, ["job topics is gone"], "a plan that did not know does not hold for one that does");
    }

    #[test]
    fn what_cannot_be_mended_is_a_failure_that_says_so() {
        let command: AgentCommand = serde_json::from_value(json!({"name": "topics", "args": ["topics"]})).unwrap();
        let found = findings(json!({"topics": ["a"], "changes": [], "drift": ["a: 6 partitions, 3 asked for"]})).unwrap();
        assert!(found.refuse_drift(&command).is_err_and(|failure| failure.message.contains("6 partitions")));
        assert!(Findings::default().refuse_drift(&command).is_ok());
    }
}
