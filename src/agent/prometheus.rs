//! Asks Prometheus whether it sees what it should: targets up, rules loaded as they were written, a test alert firing.
use std::time::{Duration, Instant};

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::checked;
use crate::failure::Failure;

/// `deployctl agent prometheus`.
#[derive(Args, Clone, Debug)]
pub struct PrometheusArgs {
    /// As in http://prometheus.observability:9090
    #[arg(long)]
    url: Url,
    /// Jobs whose targets must all be up
    #[arg(long = "target")]
    targets: Vec<String>,
    /// Text of a file of rules: each must be loaded with this expression and this patience
    #[arg(long)]
    rules: Option<String>,
    /// Alerts that must be firing
    #[arg(long = "alert")]
    alerts: Vec<String>,
    /// Longest time of all of it
    #[arg(long, default_value_t = 120)]
    deadline_seconds: u64,
}

/// What of a rules file is compared.
#[derive(Debug, Deserialize)]
struct RulesFile {
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

/// An alert, or a recorded series.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Rule {
    #[serde(alias = "record")]
    alert: String,
    expr: String,
    #[serde(default, rename = "for")]
    patience: Option<String>,
}

enum Wanted<'a> {
    Target(&'a str),
    Rule(&'a Rule),
    Alert(&'a str),
}

/// Looks until everything is as asked, or the deadline says what is not.
pub async fn run(args: &PrometheusArgs) -> Result<Value, Failure> {
    let http =
        reqwest::Client::builder().timeout(Duration::from_secs(10)).build().map_err(|e| Failure::step("no HTTP client").because(e))?;
    let end = Instant::now() + Duration::from_secs(args.deadline_seconds);
    let rules = args.rules.as_deref().map(rules).transpose()?.unwrap_or_default();
    let server = Server { http, base: &args.url };
    let wanted = args.targets.iter().map(|job| Wanted::Target(job)).chain(rules.iter().map(Wanted::Rule));
    for wanted in wanted.chain(args.alerts.iter().map(|alert| Wanted::Alert(alert))) {
        let started = Instant::now();
        loop {
            let found = server.missing(&wanted).await;
            match found {
                Ok(None) => break,
                Ok(Some(missing)) if Instant::now() >= end => return Err(Failure::timeout(missing, started.elapsed())),
                Err(failure) if Instant::now() >= end => return Err(failure),
                _ => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
        let what = match wanted {
            Wanted::Target(job) => format!("target {job}"),
            Wanted::Rule(rule) => format!("rule {}", rule.alert),
            Wanted::Alert(alert) => format!("alert {alert}"),
        };
        checked(&format!("prometheus: {what}"), started)?;
    }
    let rules: Vec<String> = rules.into_iter().map(|rule| rule.alert).collect();
    Ok(json!({ "targets": args.targets, "rules": rules, "alerts": args.alerts }))
}

fn rules(text: &str) -> Result<Vec<Rule>, Failure> {
    let file: RulesFile = serde_saphyr::from_str(text).map_err(|e| Failure::usage("the text of --rules is no rules file").because(e))?;
    Ok(file.groups.into_iter().flat_map(|group| group.rules).collect())
}

struct Server<'a> {
    http: reqwest::Client,
    base: &'a Url,
}

impl Server<'_> {
    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Failure> {
        let mut url = self.base.clone();
        url.set_path(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let failed = |e: reqwest::Error| Failure::step(format!("{} does not answer", self.base)).because(e);
        let mut answer: Value = self.http.get(url).send().await.map_err(failed)?.json().await.map_err(failed)?;
        match answer["error"].as_str() {
            Some(error) => Err(Failure::step(format!("{} refuses {path}: {error}", self.base))),
            None => Ok(answer["data"].take()),
        }
    }

    /// A changed ConfigMap reaches the pod within a minute; Prometheus reads it only when told to.
    async fn reload(&self) -> Result<(), Failure> {
        let mut url = self.base.clone();
        url.set_path("/-/reload");
        let failed = |e: reqwest::Error| Failure::step(format!("{} does not read its files again", self.base)).because(e);
        self.http.post(url).send().await.map_err(failed)?.error_for_status().map(drop).map_err(failed)
    }

    /// An expression as Prometheus itself writes it: how it is spaced and broken into lines is no difference.
    async fn formatted(&self, expression: &str) -> Result<Value, Failure> {
        self.get("/api/v1/format_query", &[("query", expression)]).await
    }

    /// None if it is as asked, else what is missing.
    async fn missing(&self, wanted: &Wanted<'_>) -> Result<Option<String>, Failure> {
        match wanted {
            Wanted::Target(job) => Ok(target_missing(&self.get("/api/v1/targets", &[("state", "active")]).await?, job)),
            Wanted::Alert(name) => Ok(alert_missing(&self.get("/api/v1/alerts", &[]).await?, name)),
            Wanted::Rule(rule) => {
                self.reload().await?;
                let loaded = self.get("/api/v1/rules", &[]).await?;
                let asked = self.formatted(&rule.expr).await?;
                let Some(found) = loaded_rule(&loaded, &rule.alert) else { return Ok(Some(format!("rule {} to be loaded", rule.alert))) };
                let found_expression = self.formatted(found["query"].as_str().unwrap_or_default()).await?;
                Ok(rule_missing(rule, found, &asked, &found_expression))
            }
        }
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn target_missing(data: &Value, job: &str) -> Option<String> {
    let targets: Vec<&Value> = items(&data["activeTargets"]).filter(|target| target["labels"]["job"] == job).collect();
    if targets.is_empty() {
        return Some(format!("Prometheus to find a target of job {job}"));
    }
    let down = targets.iter().find(|target| target["health"] != "up")?;
    Some(format!("target {} of job {job} to be up: {}", down["scrapeUrl"], down["lastError"]))
}

fn alert_missing(data: &Value, name: &str) -> Option<String> {
    let firing = items(&data["alerts"]).any(|alert| alert["labels"]["alertname"] == name && alert["state"] == "firing");
    (!firing).then(|| format!("alert {name} to fire"))
}

fn loaded_rule<'a>(data: &'a Value, name: &str) -> Option<&'a Value> {
    items(&data["groups"]).flat_map(|group| items(&group["rules"])).find(|rule| rule["name"] == name)
}

/// A rule of that name that says something else is the one of an older file.
fn rule_missing(rule: &Rule, found: &Value, asked: &Value, found_expression: &Value) -> Option<String> {
    let name = &rule.alert;
    let patience = rule.patience.as_deref().map_or(Some(0.0), seconds);
    if asked != found_expression {
        return Some(format!("rule {name} to be loaded as {asked}; it still is {found_expression}"));
    }
    if found["type"] == "alerting" && patience != found["duration"].as_f64() {
        let written = rule.patience.as_deref().unwrap_or("0s");
        return Some(format!("rule {name} to be loaded with a patience of {written}; it still has {} s", found["duration"]));
    }
    (found["health"] == "err").then(|| format!("rule {name} to be well: {}", found["lastError"]))
}

/// A duration as Prometheus' files have it: `5m`, `1h30m`, `2d`.
fn seconds(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 7] =
        [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0), ("w", 604_800.0), ("y", 31_536_000.0)];
    let (mut rest, mut sum) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        sum += number * UNITS.iter().find(|(name, _)| *name == &rest[..unit])?.1;
        rest = &rest[unit..];
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn every_target_of_a_job_must_be_up() {
        let data = json!({"activeTargets": [{"labels": {"job": "parser"}, "health": "up"}, {"labels": {"job": "parser"}, "health": "down", "scrapeUrl": "u", "lastError": "refused"}]});
        assert!(target_missing(&data, "parser").is_some_and(|missing| missing.contains("refused")));
        assert!(target_missing(&data, "uploader").is_some());
        assert_eq!(target_missing(&json!({"activeTargets": [{"labels": {"job": "parser"}, "health": "up"}]}), "parser"), None);
    }

    #[test]
    fn an_alert_must_fire_and_not_only_be_pending() {
        let alert = |state: &str| json!({"alerts": [{"labels": {"alertname": "Test"}, "state": state}]});
        assert!(alert_missing(&alert("pending"), "Test").is_some());
        assert_eq!(alert_missing(&alert("firing"), "Test"), None);
    }

    #[test]
    fn the_rules_of_the_project_can_be_read() {
        let found = rules(include_str!("../../templates/dashboards/rules/deployctl.yaml")).unwrap();
        assert_eq!((found.len(), found[0].alert.as_str(), found[1].patience.as_deref()), (12, "Watchdog", Some("2m")));
        assert!(rules("groups: 1").is_err());
    }

    #[test]
    fn durations_are_prometheus_own() {
        assert_eq!(["2m", "1h30m", "500ms", "1d"].map(seconds), [Some(120.0), Some(5400.0), Some(0.5), Some(86_400.0)]);
        assert_eq!(["m", "5", "5x"].map(seconds), [None, None, None]);
    }

    #[test]
    fn a_rule_of_the_same_name_that_says_something_else_is_not_loaded() {
        let rule = Rule { alert: "A".into(), expr: "up == 0".into(), patience: Some("2m".into()) };
        let found = json!({"name": "A", "type": "alerting", "query": "up == 0", "duration": 120, "health": "ok"});
        let (same, other) = (json!("up == 0"), json!("up == 1"));
        assert_eq!(rule_missing(&rule, &found, &same, &same), None);
        assert!(rule_missing(&rule, &found, &same, &other).unwrap().contains("it still is \"up == 1\""));
        let impatient = Rule { patience: None, ..rule.clone() };
        assert!(rule_missing(&impatient, &found, &same, &same).unwrap().contains("patience"));
        let ill = json!({"name": "A", "type": "alerting", "duration": 120, "health": "err", "lastError": "e"});
        assert!(rule_missing(&rule, &ill, &same, &same).unwrap().contains("to be well"));
    }
}
