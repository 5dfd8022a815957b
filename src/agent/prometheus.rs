//! Asks Prometheus whether it sees what it should: targets up, rules loaded, a test alert firing.
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::checked;
use crate::failure::Failure;

/// `deployctl agent prometheus`.
#[derive(Args, Clone, Debug)]
pub struct PrometheusArgs {
    /// As in http://prometheus.observability:9090
    #[arg(long)]
    url: String,
    /// Jobs whose targets must all be up
    #[arg(long = "target")]
    targets: Vec<String>,
    /// Alert rules that must be loaded
    #[arg(long = "rule")]
    rules: Vec<String>,
    /// Alerts that must be firing
    #[arg(long = "alert")]
    alerts: Vec<String>,
    /// Longest time of all of it
    #[arg(long, default_value_t = 120)]
    deadline_seconds: u64,
}

/// Looks until everything is as asked, or the deadline says what is not.
pub async fn run(args: &PrometheusArgs) -> Result<Value, Failure> {
    let http =
        reqwest::Client::builder().timeout(Duration::from_secs(10)).build().map_err(|e| Failure::step("no HTTP client").because(e))?;
    let end = Instant::now() + Duration::from_secs(args.deadline_seconds);
    let wanted = args.targets.iter().map(|name| ("target", name));
    let wanted = wanted.chain(args.rules.iter().map(|name| ("rule", name))).chain(args.alerts.iter().map(|name| ("alert", name)));
    for (kind, name) in wanted {
        let started = Instant::now();
        loop {
            let found = look(&http, &args.url, kind, name).await;
            match found {
                Ok(None) => break,
                Ok(Some(missing)) if Instant::now() >= end => return Err(Failure::timeout(missing, started.elapsed())),
                Err(failure) if Instant::now() >= end => return Err(failure),
                _ => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
        checked(&format!("prometheus: {kind} {name}"), started)?;
    }
    Ok(json!({ "targets": args.targets, "rules": args.rules, "alerts": args.alerts }))
}

/// None if it is as asked, else what is missing.
async fn look(http: &reqwest::Client, base: &str, kind: &str, name: &str) -> Result<Option<String>, Failure> {
    let path = match kind {
        "target" => "/api/v1/targets?state=active",
        "rule" => "/api/v1/rules?type=alert",
        _ => "/api/v1/alerts",
    };
    let url = format!("{}{path}", base.trim_end_matches('/'));
    let failed = |e: reqwest::Error| Failure::step(format!("{url} does not answer")).because(e);
    if kind == "rule" {
        // A changed ConfigMap reaches the pod within a minute; Prometheus reads it only when told to.
        http.post(format!("{}/-/reload", base.trim_end_matches('/'))).send().await.map_err(failed)?;
    }
    let answer: Value = http.get(&url).send().await.map_err(failed)?.json().await.map_err(failed)?;
    Ok(missing(&answer["data"], kind, name))
}

fn missing(data: &Value, kind: &str, name: &str) -> Option<String> {
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    match kind {
        "target" => {
            let targets: Vec<Value> = items(&data["activeTargets"]).into_iter().filter(|t| t["labels"]["job"] == name).collect();
            let down = targets.iter().find(|t| t["health"] != "up");
            match (targets.is_empty(), down) {
                (true, _) => Some(format!("Prometheus to find a target of job {name}")),
                (_, Some(down)) => Some(format!("target {} of job {name} to be up: {}", down["scrapeUrl"], down["lastError"])),
                _ => None,
            }
        }
        "rule" => {
            let rule = items(&data["groups"]).iter().flat_map(|g| items(&g["rules"])).find(|r| r["name"] == name);
            match rule {
                None => Some(format!("rule {name} to be loaded")),
                Some(rule) if rule["health"] == "err" => Some(format!("rule {name} to be well: {}", rule["lastError"])),
                _ => None,
            }
        }
        _ => {
            let firing = items(&data["alerts"]).iter().any(|a| a["labels"]["alertname"] == name && a["state"] == "firing");
            (!firing).then(|| format!("alert {name} to fire"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_of_a_job_must_be_up() {
        let data = json!({"activeTargets": [{"labels": {"job": "parser"}, "health": "up"}, {"labels": {"job": "parser"}, "health": "down", "scrapeUrl": "u", "lastError": "refused"}]});
        assert!(missing(&data, "target", "parser").is_some_and(|m| m.contains("refused")));
        assert!(missing(&data, "target", "uploader").is_some());
        assert_eq!(missing(&json!({"activeTargets": [{"labels": {"job": "parser"}, "health": "up"}]}), "target", "parser"), None);
    }

    #[test]
    fn an_alert_must_fire_and_not_only_be_pending() {
        let alert = |state: &str| json!({"alerts": [{"labels": {"alertname": "Test"}, "state": state}]});
        assert!(missing(&alert("pending"), "alert", "Test").is_some());
        assert_eq!(missing(&alert("firing"), "alert", "Test"), None);
    }
}
