//! Kafka topics, from inside the cluster: made where missing, retention set, and what can't be changed is said.
use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use krafka::{
    Kafka,
    admin::{ConfigOp, ConfigResource, NewTopic},
    auth::{AuthConfig, TlsConfig},
    error::{ErrorCode, KrafkaError},
};
use serde_json::{Value, json};

use crate::{
    failure::{Failure, FailureKind, LeftBehind},
    retry::{self, Limits, Missed},
};

/// Over TLS, or over plain text in the sandbox.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Security {
    /// Confluent Cloud.
    SaslSsl,
    /// The sandbox's broker.
    SaslPlaintext,
}

/// Whether differences are only told or also mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// For plan.
    Observe,
    /// For apply.
    Ensure,
}

/// `deployctl agent topics`.
#[derive(Args, Clone, Debug)]
pub struct TopicsArgs {
    /// host:port, separated by commas
    #[arg(long)]
    bootstrap: String,
    /// TLS or not
    #[arg(long)]
    security: Security,
    /// A mounted secret: files api_key and api_secret
    #[arg(long)]
    credentials: PathBuf,
    /// Names
    #[arg(long = "topic", required = true, value_delimiter = ',')]
    topics: Vec<String>,
    /// Partitions of each
    #[arg(long)]
    partitions: i32,
    /// Copies of each partition; Confluent Cloud takes 3 and nothing else
    #[arg(long)]
    replication_factor: i16,
    /// Hours that events are kept
    #[arg(long)]
    retention_hours: u64,
    /// Only look, or also mend
    #[arg(long, default_value = "ensure")]
    mode: Mode,
}

/// What decides how long an event can be read again: by time alone, whatever the cluster's defaults or somebody's hand say.
fn settings(args: &TopicsArgs) -> [(&'static str, String); 3] {
    let retention = args.retention_hours * 3_600_000;
    [("retention.ms", retention.to_string()), ("retention.bytes", "-1".to_owned()), ("cleanup.policy", "delete".to_owned())]
}

/// How many copies partitions have, if not all have as many as asked for.
fn other_copies(asked: i16, partitions: impl Iterator<Item = usize> + Clone) -> Option<String> {
    let asked = usize::try_from(asked).unwrap_or_default();
    if partitions.clone().all(|copies| copies == asked) {
        return None;
    }
    let (least, most) = (partitions.clone().min().unwrap_or_default(), partitions.max().unwrap_or_default());
    Some(if least == most { least.to_string() } else { format!("{least} to {most}") })
}

/// Compares, and in `ensure` mode mends.
pub async fn run(args: &TopicsArgs) -> Result<Value, Failure> {
    let kafka = connect_to(&args.bootstrap, args.security, &args.credentials).await?;
    let admin = kafka.admin();
    let settings = settings(args);
    let described = admin.describe_topics(&args.topics, Default::default()).await.map_err(failed)?;
    let (mut changes, mut drift) = (Vec::new(), Vec::new());
    for topic in &args.topics {
        match described.get(topic) {
            Some(Ok(found)) => {
                let partitions = i32::try_from(found.partitions.len()).unwrap_or(i32::MAX);
                let copies = found.partitions.iter().map(|partition| partition.replicas.len());
                if let Some(copies) = other_copies(args.replication_factor, copies) {
                    // Kafka changes it only by moving every partition by hand; nothing here does that unseen.
                    drift.push(format!("{topic}: {copies} copies of each partition, {} asked for", args.replication_factor));
                }
                if partitions > args.partitions {
                    drift.push(format!("{topic}: {partitions} partitions, {} asked for; Kafka can't take one away", args.partitions));
                } else if partitions < args.partitions {
                    changes.push(format!("{topic}: partitions {partitions} -> {}", args.partitions));
                    if args.mode == Mode::Ensure {
                        let grown =
                            admin.create_partitions([(topic.as_str(), args.partitions)], Default::default()).await.map_err(unchanged)?;
                        each(grown)?;
                    }
                }
                let resource = ConfigResource::topic(topic);
                let configs = admin.describe_configs([resource.clone()], Default::default()).await.map_err(failed)?;
                let entries = configs.into_values().next().transpose().map_err(failed)?.unwrap_or_default();
                let mut set = Vec::new();
                for (name, wanted) in &settings {
                    let current = entries.iter().find(|entry| entry.name == *name).and_then(|entry| entry.value.as_deref());
                    if current != Some(wanted) {
                        changes.push(format!("{topic}: {name} {} -> {wanted}", current.unwrap_or("unset")));
                        set.push(ConfigOp::set(*name, wanted));
                    }
                }
                if args.mode == Mode::Ensure && !set.is_empty() {
                    each(admin.incremental_alter_configs([(resource, set)], Default::default()).await.map_err(unchanged)?)?;
                }
            }
            Some(Err(KrafkaError::Broker { code: ErrorCode::UnknownTopicOrPartition, .. })) | None => {
                changes.push(format!(
                    "{topic}: made with {} partitions, {} copies, kept for {} h",
                    args.partitions, args.replication_factor, args.retention_hours
                ));
                if args.mode == Mode::Ensure {
                    let topic = NewTopic::new(topic, args.partitions, args.replication_factor).map_err(failed)?;
                    let topic = settings.iter().fold(topic, |topic, (name, value)| topic.with_config(*name, value));
                    for (_, result) in admin.create_topics([topic], Default::default()).await.map_err(unchanged)? {
                        match result {
                            // Made by an earlier attempt whose answer was lost.
                            Ok(_) | Err(KrafkaError::Broker { code: ErrorCode::TopicAlreadyExists, .. }) => {}
                            Err(error) => return Err(unchanged(error)),
                        }
                    }
                }
            }
            Some(Err(error)) => return Err(Failure::step(format!("Kafka can't describe {topic}: {error}"))),
        }
    }
    admin.close().await.map_err(failed)?;
    Ok(json!({ "topics": args.topics, "changes": changes, "drift": drift }))
}

/// Connects with the key and secret of a mounted folder.
pub async fn connect_to(bootstrap: &str, security: Security, credentials: &std::path::Path) -> Result<Kafka, Failure> {
    let read = |name: &str| {
        let path = credentials.join(name);
        let text =
            std::fs::read_to_string(&path).map_err(|error| Failure::step(format!("can't read {}", path.display())).because(error))?;
        Ok::<_, Failure>(text.trim_end_matches('\n').to_owned())
    };
    let auth = AuthConfig::sasl_plain(read("api_key")?, read("api_secret")?);
    let auth = match security {
        Security::SaslSsl => auth.with_tls(TlsConfig::new()),
        Security::SaslPlaintext => auth,
    };
    // Nothing is changed by connecting, so it may be tried again.
    let limits = Limits { attempts: 6, deadline: Duration::from_secs(30) };
    let connect = || async {
        let connected = Kafka::builder(bootstrap).client_id("deployctl").security(auth.clone()).connect().await;
        connected.map_err(|error| if is_silent(&error) { Missed::passing(failed(error), None) } else { failed(error).into() })
    };
    retry::within(&format!("Kafka at {bootstrap}"), limits, connect).await
}

fn each(results: impl IntoIterator<Item = (impl Sized, Result<(), KrafkaError>)>) -> Result<(), Failure> {
    results.into_iter().try_for_each(|(_, result)| result.map_err(unchanged))
}

/// No answer in time, or the broker's refusal. Reads are repeated by the client itself.
fn failed(error: KrafkaError) -> Failure {
    if is_silent(&error) {
        return Failure::new(FailureKind::Timeout, "Kafka does not answer")
            .because(error)
            .next("run the same command again: it looks first");
    }
    Failure::step("Kafka refused").because(error).next("check the API key: deployctl secret set kafka")
}

/// As [`failed`], of a change: one that was sent and got no answer is not repeated, and may have been made.
fn unchanged(error: KrafkaError) -> Failure {
    if is_silent(&error) {
        return failed(error).left(LeftBehind::Unknown("a change of a topic whose answer was lost".to_owned()));
    }
    failed(error)
}

fn is_silent(error: &KrafkaError) -> bool {
    matches!(error, KrafkaError::Network(_) | KrafkaError::Timeout { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_must_have_its_copies() {
        assert_eq!(other_copies(3, [3, 3, 3].into_iter()), None);
        assert_eq!(other_copies(3, [3, 2, 3].into_iter()), Some("2 to 3".to_owned()), "not only the first one is looked at");
        assert_eq!(other_copies(3, [1, 1].into_iter()), Some("1".to_owned()));
    }
}
