//! Kafka: the agent's topics against a real broker, which tells its clients the proxy's address. Only in `make soak`: a JVM takes its time.
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use clap::Parser;
use deployctl::{
    agent::{AgentCommand, topics},
    cli::{Cli, Command as Subcommand},
    failure::Failure,
};

use crate::{
    installed,
    proof::{Proof, ensure, prove, report},
    table::{ALWAYS, Dependency, Kind, Row, rows},
    tcp_proxy::{Line, TcpProxy},
};

const CREATE_TOPICS: i16 = 19;

struct Broker {
    child: Child,
    folder: tempfile::TempDir,
    /// What it listens on.
    address: SocketAddr,
    /// What it tells its clients.
    told: SocketAddr,
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn free() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

impl Broker {
    async fn start() -> Option<Self> {
        let jars = installed::kafka()?;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let (address, told, inner, controller) = (free(), free(), free(), free());
        let plain = "org.apache.kafka.common.security.plain.PlainLoginModule";
        let properties = format!(
            "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{controller}
controller.listener.names=CONTROLLER
inter.broker.listener.name=INTERNAL
listeners=CLIENTS://{address},INTERNAL://{inner},CONTROLLER://{controller}
advertised.listeners=CLIENTS://{told},INTERNAL://{inner}
listener.security.protocol.map=CLIENTS:SASL_PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.clients.plain.sasl.jaas.config={plain} required user_key=\"secret\";
log.dirs={}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
",
            path.join("data").display()
        );
        std::fs::write(path.join("server.properties"), properties).unwrap();
        std::fs::write(path.join("simplelogger.properties"), "org.slf4j.simpleLogger.defaultLogLevel=warn\n").unwrap();
        std::fs::create_dir(path.join("credentials")).unwrap();
        std::fs::write(path.join("credentials/api_key"), "key").unwrap();
        std::fs::write(path.join("credentials/api_secret"), "secret").unwrap();
        let mut format = java(&jars, path, &["kafka.tools.StorageTool", "format", "--cluster-id", "AAAAAAAAQACAAAAAAAAAAA"]);
        assert!(format.args(["--config", "server.properties"]).status().unwrap().success());
        let child = java(&jars, path, &["kafka.Kafka", "server.properties"]).spawn().unwrap();
        let broker = Self { child, folder, address, told };
        let began = std::time::Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < Duration::from_secs(120), "Kafka does not start: {}", broker.log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Some(broker)
    }
    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// `deployctl agent topics` for one topic.
    async fn topics(&self, topic: &str) -> Result<Vec<String>, Failure> {
        let (bootstrap, credentials) = (self.told.to_string(), self.folder.path().join("credentials"));
        let words = ["deployctl", "agent", "topics", "--bootstrap", &bootstrap, "--security", "sasl-plaintext", "--credentials"];
        let words = words.map(str::to_owned).into_iter().chain([credentials.display().to_string()]);
        let rest = ["--topic", topic, "--partitions", "2", "--replication-factor", "1", "--retention-hours", "1"];
        let cli = Cli::try_parse_from(words.chain(rest.map(str::to_owned))).unwrap();
        let Subcommand::Agent(command) = cli.command else { panic!("another command") };
        let AgentCommand::Topics(args) = *command else { panic!("another command of the agent") };
        let done = topics::run(&args).await?;
        Ok(done["changes"].as_array().unwrap().iter().map(ToString::to_string).collect())
    }
}

fn java(jars: &Path, folder: &Path, args: &[&str]) -> Command {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    let mut command = Command::new("java");
    command.args(["-Xmx384m", "-Xms64m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"]);
    command.arg(format!("{}:{}/*", folder.display(), jars.display())).args(args);
    command.current_dir(folder).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command
}

async fn prove_one(row: &Row, number: usize, broker: &Broker) -> Proof {
    let line = match row.kind {
        Kind::Silent => Line::Silent,
        Kind::Reset => Line::Reset,
        Kind::Slow => Line::Slow(Duration::from_millis(300)),
        Kind::LostAnswer => Line::LosesAnswersFrom(CREATE_TOPICS),
        _ => Line::Works,
    };
    // A client has several connections: an answer is lost on whichever the question took.
    let first = vec![line; if row.times == ALWAYS || row.kind == Kind::LostAnswer { 100 } else { row.times }];
    let refused = if row.kind == Kind::Refused { Duration::from_secs(2) } else { Duration::ZERO };
    let proxy = TcpProxy::start(broker.told, broker.address, first, refused).await;
    let topic = format!("cell-{number}");
    let call = async {
        let changes = broker.topics(&topic).await;
        if row.kind == Kind::LostAnswer {
            ensure(proxy.lost() == 1, "the question is asked once")?;
        }
        ensure(changes?.len() == 1, "one topic is made")
    };
    let mut proof = prove(row, call, |_since| proxy.opened()).await;
    drop(proxy);
    if row.kind == Kind::LostAnswer {
        // It was made, and the same command sees it.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let _works = TcpProxy::start(broker.told, broker.address, Vec::new(), Duration::ZERO).await;
        match broker.topics(&topic).await {
            Ok(changes) if changes.is_empty() => {}
            other => proof.wrong.push(format!("the same command again: {other:?}")),
        }
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    proof
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka() {
    let rows = rows(Dependency::Kafka);
    if rows.is_empty() {
        return;
    }
    let Some(broker) = Broker::start().await else { return };
    let mut proofs = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        proofs.push(prove_one(row, number, &broker).await);
    }
    report(&proofs);
}
