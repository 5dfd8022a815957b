//! Apache Kafka, one broker, with an API key as Confluent gives them.
use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::{
    claim::write_private,
    install::Installed,
    layout::Layout,
    process::{ProcessSpec, Ready, Restart, Supervisor},
    tool,
};

/// What a client signs in with.
#[derive(Serialize, Deserialize)]
pub struct ApiKey {
    /// The user name.
    pub api_key: String,
    /// The password.
    pub api_secret: String,
}

/// The key of this sandbox, made the first time.
pub fn api_key(layout: &Layout) -> Result<ApiKey> {
    let file = layout.file("kafka-api-key.json");
    if let Ok(bytes) = fs::read(&file) {
        return serde_json::from_slice(&bytes).with_context(|| format!("reading {}", file.display()));
    }
    let name: String = hex::encode(random()).to_uppercase().chars().take(16).collect();
    let key = ApiKey { api_key: name, api_secret: BASE64_STANDARD.encode([random(), random(), random()].concat()) };
    write_private(&file, &serde_json::to_vec_pretty(&key)?)?;
    Ok(key)
}

/// Starts the broker; returns when it accepts connections.
pub async fn start(layout: &Layout, supervisor: &Supervisor, installed: &Installed) -> Result<()> {
    let key = api_key(layout)?;
    let config = layout.file("kafka/server.properties");
    write_private(&config, properties(layout, &key).as_bytes())?;
    let log = layout.file("kafka/simplelogger.properties");
    write_private(&log, b"org.slf4j.simpleLogger.defaultLogLevel=warn\norg.slf4j.simpleLogger.showDateTime=true\n")?;
    let name = Layout::KAFKA.split(':').next().unwrap_or(Layout::KAFKA);
    write_private(&layout.dns_records("kafka"), format!("{} {name}\n", layout.node_address()).as_bytes())?;
    let java = tool::find("java").context("java is not installed")?;
    let classes = format!("{}:{}/*", layout.file("kafka").display(), installed.kafka.display());
    // A folder that was formatted has this file; the broker refuses any other.
    if !layout.file("kafka/data/meta.properties").exists() {
        let mut format = ProcessSpec::new("kafka-format", &java, Ready::Exits).args(["-cp", &classes, "kafka.tools.StorageTool", "format"]);
        // One in 64 begins with a dash, and would be taken for a flag.
        let id = format!("--cluster-id={}", BASE64_URL_SAFE_NO_PAD.encode(random()));
        format = format.args([id.into(), "--config".into(), config.clone().into_os_string()]);
        format.restart = Restart::Never;
        supervisor.start(format).await?;
        supervisor.stop("kafka-format", crate::process::Stop::Terminate, Duration::from_secs(1)).await?;
    }
    let ready = Ready::Tcp((layout.node_address(), 9092).into());
    let mut broker = ProcessSpec::new("kafka", java, ready)
        .args(["-Xmx384m", "-Xms64m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", &classes, "kafka.Kafka"])
        .args([config.into_os_string()]);
    broker.deadline = Duration::from_secs(120);
    supervisor.start(broker).await
}

fn properties(layout: &Layout, key: &ApiKey) -> String {
    let plain = "org.apache.kafka.common.security.plain.PlainLoginModule";
    let (node, name) = (layout.node_address(), Layout::KAFKA);
    let data = layout.file("kafka/data");
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:9093
controller.listener.names=CONTROLLER
inter.broker.listener.name=INTERNAL
listeners=CLIENTS://{node}:9092,INTERNAL://127.0.0.1:9094,CONTROLLER://127.0.0.1:9093
advertised.listeners=CLIENTS://{name},INTERNAL://127.0.0.1:9094
listener.security.protocol.map=CLIENTS:SASL_PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.clients.plain.sasl.jaas.config={plain} required user_{user}=\"{secret}\";
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
",
        user = key.api_key,
        secret = key.api_secret,
        data = data.display(),
    )
}

/// Sixteen bytes from the system's random source, six bits of them fixed.
fn random() -> [u8; 16] {
    uuid::Uuid::new_v4().into_bytes()
}
