//! plans/runbooks/replay.md: each command on it is carried out where it is said to help. A block that no test runs fails. And the agent's topics,
//! against the same broker.
use std::{
    process::Command,
    time::{Duration, Instant},
};

use clap::Parser as _;
use deployctl::{
    agent::{AgentCommand, topics},
    cli::{Cli, Command as Subcommand},
};
use krafka::{
    admin::{ConfigOp, ConfigResource, NewTopic},
    consumer::AutoOffsetReset,
};
use serde_json::Value;

use crate::{
    files::{self, Random},
    installed,
    place::{BUCKET, Place, TOPIC},
    project,
};

const BOOTSTRAP: &str = "kafka.deployctl.internal:9092";
const GROUP: &str = "a-consumer";
const PATIENCE: Duration = Duration::from_secs(60);

/// The page's blocks; each is taken once it was run.
struct Page(Vec<String>);

impl Page {
    fn open() -> Self {
        let page = std::fs::read_to_string(project().join("plans/runbooks/replay.md")).unwrap();
        let blocks = page.split("\n```").skip(1).step_by(2);
        let text = |block: &str| block.split_once('\n').map(|(_, text)| text.trim().to_owned());
        // The page names the topic of the deployment.
        Self(blocks.filter_map(text).map(|text| text.replace("file.parsed", TOPIC)).collect())
    }
    fn take(&mut self, words: &str) -> String {
        let at = self.0.iter().position(|block| block.contains(words)).unwrap_or_else(|| panic!("no block with {words:?} is left"));
        self.0.remove(at)
    }
}

pub async fn bring_back(place: &mut Place) {
    let mut page = Page::open();
    let mut random = Random::seeded("replays");
    let mut parser = place.parser(60).started().await;
    place.deliver((0..5).map(|number| files::good("replays", number, &mut random)).collect()).await;
    let before = place.everything_is_there(PATIENCE).await;
    a_group_reads_again(place, &page.take("kafka-consumer-groups")).await;
    events_are_published_again(place, &mut page).await;
    let after = place.everything_is_there(PATIENCE).await;
    assert_eq!((after.events, after.published_again), (before.events + 5, before.published_again + 5), "the five that were asked for");
    a_lost_file_is_parsed_again(place, &mut page).await;
    let counts = place.everything_is_there(PATIENCE).await;
    parser.terminate(Duration::from_secs(20)).await;
    // tests/infra/objects.rs carries these out.
    for command in [page.take("restore KEY"), page.take("--prefix")] {
        let words = command.replace("TIME", "2026-11-29T03:00:00Z").replace("KEY", "uploads/a").replace("ENV", "sandbox");
        Cli::try_parse_from(words.split_whitespace()).unwrap_or_else(|error| panic!("{command}: {error}"));
    }
    assert_eq!(page.0, [""; 0], "no test runs these blocks of the page");
    topics_are_held_against_what_is_asked(place).await;
    eprintln!("replayed from Kafka, the outbox and S3; {counts}");
}

/// Everything that the group has not read, by its own account; it commits and leaves.
async fn read_by_the_group(place: &Place, at_least: usize) -> usize {
    let consumer = place.kafka.consumer(GROUP).auto_offset_reset(AutoOffsetReset::Earliest).build().await.unwrap();
    consumer.subscribe([TOPIC]).await.unwrap();
    let (end, mut read, mut silent) = (Instant::now() + PATIENCE, 0, 0);
    while read < at_least || silent < 3 {
        assert!(Instant::now() < end, "the group has read {read} of {at_least} events");
        let records = consumer.poll(Duration::from_millis(300)).await.unwrap();
        silent = if records.is_empty() { silent + 1 } else { 0 };
        read += records.len();
    }
    consumer.commit().await.unwrap();
    consumer.close().await.unwrap();
    read
}

async fn a_group_reads_again(place: &Place, command: &str) {
    let all = read_by_the_group(place, 5).await;
    let jars = installed::kafka().unwrap();
    let secret = |name: &str| std::fs::read_to_string(place.home.join("kafka").join(name)).unwrap();
    let client = place.home.join("client.properties");
    let login = format!(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
         username=\"{}\" password=\"{}\";\n",
        secret("api_key"),
        secret("api_secret")
    );
    std::fs::write(&client, login).unwrap();
    let words = command.replace("BOOTSTRAP", BOOTSTRAP).replace("CLIENT", client.to_str().unwrap()).replace("GROUP", GROUP);
    let words = words.replace("TIME", "2026-01-01T00:00:00.000");
    // What Kafka's script of that name runs.
    let args = words.split_whitespace().skip(1);
    let mut java = Command::new("java");
    java.args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", &format!("{}/*", jars.display())]);
    let reset = java.arg("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand").args(args).output().unwrap();
    let said = String::from_utf8_lossy(&[&reset.stdout[..], &reset.stderr[..]].concat()).into_owned();
    assert!(reset.status.success() && said.contains("NEW-OFFSET"), "{said}");
    assert_eq!(read_by_the_group(place, all).await, all, "all of it once more:\n{said}");
}

async fn events_are_published_again(place: &Place, page: &mut Page) {
    let (count, again, left) = (page.take("SELECT count(*) FROM outbox WHERE topic"), page.take("UPDATE outbox"), page.take("IS NULL;"));
    let between = |sql: &str| {
        let newest = "(SELECT created_at FROM outbox ORDER BY created_at DESC OFFSET 4 LIMIT 1)";
        sql.replace("'FROM'", newest).replace("'TO'", "now()")
    };
    assert_eq!(place.number(&between(&count)).await, 5);
    assert_eq!(place.database.execute(&between(&again), &[]).await.unwrap(), 5);
    let end = Instant::now() + PATIENCE;
    while place.number(left.trim_end_matches(';')).await > 0 {
        assert!(Instant::now() < end, "the events are not published again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// As after a restore from before the file came.
async fn a_lost_file_is_parsed_again(place: &Place, page: &mut Page) {
    let lost = "SELECT key, version, file_id::text FROM files ORDER BY parsed_at DESC LIMIT 1";
    let row = place.database.query_one(lost, &[]).await.unwrap();
    let (key, version, id): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    let forget = format!("DELETE FROM outbox WHERE payload->>'file_id' = '{id}'; DELETE FROM files WHERE file_id = '{id}'");
    place.database.batch_execute(&forget).await.unwrap();
    let query = page.take("list-object-versions");
    let prefix = query.split_whitespace().skip_while(|word| *word != "--prefix").nth(1).unwrap();
    let listed = place.s3.list_object_versions().bucket(BUCKET).prefix(prefix).send().await.unwrap();
    let there = listed.versions().iter().any(|found| (found.key(), found.version_id()) == (Some(&key), Some(&version)));
    assert!(there || listed.is_truncated() == Some(true), "{key} is not listed below {prefix}");
    let command = page.take("sqs send-message");
    let body = command.split('\'').nth(1).unwrap().replace("BUCKET", BUCKET).replace("KEY", &key).replace("VERSION", &version);
    let other: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(other["Records"][0]["s3"]["object"]["versionId"], version.as_str());
    // Twice: the second is passed over.
    place.send(&[body.clone(), body]).await;
    let back = format!("SELECT count(*) FROM files WHERE file_id = '{id}'");
    let end = Instant::now() + PATIENCE;
    while place.number(&back).await == 0 {
        assert!(Instant::now() < end, "{key} is not parsed again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// `deployctl agent topics` for a topic of its own.
async fn topics(place: &Place, mode: &str, copies: &str) -> (Vec<String>, Vec<String>) {
    let credentials = place.home.join("kafka").display().to_string();
    let words = ["deployctl", "agent", "topics", "--bootstrap", BOOTSTRAP, "--security", "sasl-plaintext", "--credentials", &credentials];
    let rest = ["--topic", "kept", "--partitions", "2", "--replication-factor", copies, "--retention-hours", "1", "--mode", mode];
    let Subcommand::Agent(command) = Cli::try_parse_from(words.into_iter().chain(rest)).unwrap().command else { panic!("another command") };
    let AgentCommand::Topics(args) = *command else { panic!("another command of the agent") };
    let found = topics::run(&args).await.unwrap();
    let list = |key: &str| found[key].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect();
    (list("changes"), list("drift"))
}

/// By hand somebody makes a topic that forgets sooner than is asked, and one that forgets by size and by key.
async fn topics_are_held_against_what_is_asked(place: &Place) {
    let admin = place.kafka.admin();
    for (_, made) in admin.create_topics([NewTopic::new("kept", 2, 1).unwrap()], Default::default()).await.unwrap() {
        made.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let by_hand = vec![ConfigOp::set("retention.bytes", "1000"), ConfigOp::set("cleanup.policy", "compact")];
    for (_, set) in admin.incremental_alter_configs([(ConfigResource::topic("kept"), by_hand)], Default::default()).await.unwrap() {
        set.unwrap();
    }
    let differs = ["kept: retention.ms 604800000 -> 3600000", "kept: retention.bytes 1000 -> -1", "kept: cleanup.policy compact -> delete"];
    assert_eq!(topics(place, "observe", "1").await, (differs.map(str::to_owned).to_vec(), Vec::new()));
    assert_eq!(topics(place, "observe", "3").await.1, ["kept: 1 copies of each partition, 3 asked for"]);
    topics(place, "ensure", "1").await;
    assert_eq!(topics(place, "observe", "1").await, (Vec::new(), Vec::new()), "mended, and no change is left");
}
