//! What the services live on: bucket, queues, database and broker, each behind a wire that can be cut.
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use aws_config::BehaviorVersion;
use aws_sdk_sqs::types::{QueueAttributeName, SendMessageBatchRequestEntry};
use futures::{StreamExt as _, TryStreamExt as _};
use krafka::{Kafka, admin::NewTopic, auth::AuthConfig};
use serde_json::json;

use crate::{
    files::File,
    ledger::Ledger,
    postgres::{self, Postgres},
    processes::Service,
    project,
    wire::Wire,
};

pub const BUCKET: &str = "uploads-of-the-test";
pub const TOPIC: &str = "file.parsed";
/// The broker's name leads here, for the parsers and for the test: it is what the broker says of itself.
pub const KAFKA: SocketAddr = local(9, 9092);
const DATABASE: SocketAddr = local(1, 6432);
const SQS: SocketAddr = local(1, 4576);
const S3: SocketAddr = local(1, 4577);

const fn local(last: u8, port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, last)), port)
}

/// All of it.
pub struct Place {
    pub home: PathBuf,
    pub postgres: Postgres,
    pub database: tokio_postgres::Client,
    pub wires: Wires,
    pub s3: aws_sdk_s3::Client,
    pub sqs: aws_sdk_sqs::Client,
    pub kafka: Kafka,
    pub queue: String,
    pub dead_letters: String,
    /// What should be there in the end.
    pub ledger: Ledger,
    door: String,
}

/// From the services to what they need.
pub struct Wires {
    pub database: Wire,
    pub kafka: Wire,
    pub queue: Wire,
    pub bucket: Wire,
}

impl Place {
    pub async fn prepare() -> Self {
        let home = PathBuf::from(std::env::var_os("DEPLOYCTL_SERVICES_HOME").expect("set by the other test"));
        let door_url = std::env::var("AWS_ENDPOINT_URL").unwrap();
        let door: SocketAddr = door_url.trim_start_matches("http://").parse().unwrap();
        let wires = Wires {
            database: Wire::new("database", DATABASE, postgres::ADDRESS.parse().unwrap()).await,
            kafka: Wire::new("kafka", KAFKA, SocketAddr::new(door.ip(), 9092)).await,
            queue: Wire::new("queue", SQS, door).await,
            bucket: Wire::new("bucket", S3, door).await,
        };
        std::fs::create_dir(home.join("database")).unwrap();
        let password = uuid::Uuid::new_v4().to_string();
        write_credentials(&home, &password);
        let sdk = aws_config::load_defaults(BehaviorVersion::latest()).await;
        let (s3, sqs) = (aws_sdk_s3::Client::new(&sdk), aws_sdk_sqs::Client::new(&sdk));
        let folder = home.join("postgres");
        let ((queue, dead_letters), postgres, kafka) = tokio::join!(storage(&s3, &sqs), Postgres::start(&folder, &password), broker(&home));
        let database = postgres.connect().await;
        let ledger = Ledger::new();
        Self { home, postgres, database, wires, s3, sqs, kafka, queue, dead_letters, ledger, door: door_url }
    }

    /// A parser that does not run yet; everything that it needs is behind the wires.
    pub fn parser(&self, number: u16) -> Service {
        let path = |name: &str| self.home.join(name).display().to_string();
        let variables = BTreeMap::from([
            ("PARSER_LISTEN", format!("127.0.0.1:{}", 9100 + number)),
            ("PARSER_QUEUE_URL", self.queue.clone()),
            ("PARSER_DEAD_LETTER_QUEUE_URL", self.dead_letters.clone()),
            ("PARSER_BUCKET", BUCKET.to_owned()),
            ("PARSER_DATABASE_HOST", "localhost".to_owned()),
            ("PARSER_DATABASE_PORT", DATABASE.port().to_string()),
            ("PARSER_DATABASE_NAME", "postgres".to_owned()),
            ("PARSER_DATABASE_CREDENTIALS_DIR", path("database")),
            ("PARSER_DATABASE_CA_FILE", self.postgres.authority().display().to_string()),
            ("PARSER_KAFKA_BOOTSTRAP", "kafka.deployctl.internal:9092".to_owned()),
            ("PARSER_KAFKA_CREDENTIALS_DIR", path("kafka")),
            ("PARSER_KAFKA_SECURITY", "sasl-plaintext".to_owned()),
            ("PARSER_KAFKA_TOPIC", TOPIC.to_owned()),
            ("PARSER_VISIBILITY_SECONDS", "5".to_owned()),
            ("PARSER_POLL_SECONDS", "1".to_owned()),
            ("AWS_ENDPOINT_URL_SQS", format!("http://{SQS}")),
            ("AWS_ENDPOINT_URL_S3", format!("http://{S3}")),
        ]);
        Service::new("parser", self.home.join(format!("parser-{number}.log")), 9100 + number, self.with_aws(variables))
    }

    /// An uploader that does not run yet, and speaks to S3 directly as its callers do.
    pub fn uploader(&self, number: u16, tokens: &std::path::Path) -> Service {
        let variables = BTreeMap::from([
            ("UPLOADER_LISTEN", format!("127.0.0.1:{}", 9200 + number)),
            ("UPLOADER_BUCKET", BUCKET.to_owned()),
            ("UPLOADER_TOKENS_FILE", tokens.display().to_string()),
            ("UPLOADER_DRAIN_SECONDS", "0".to_owned()),
            ("AWS_ENDPOINT_URL", self.door.clone()),
        ]);
        Service::new("uploader", self.home.join(format!("uploader-{number}.log")), 9200 + number, self.with_aws(variables))
    }

    fn with_aws(&self, mut variables: BTreeMap<&'static str, String>) -> BTreeMap<&'static str, String> {
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"] {
            variables.insert(name, std::env::var(name).unwrap());
        }
        variables
    }

    /// Uploads files, notes what has to become of them, and returns the messages that S3 would send.
    pub async fn upload(&mut self, files: Vec<File>) -> Vec<String> {
        let (s3, ledger) = (&self.s3, &mut self.ledger);
        let uploaded: Vec<(File, String)> = futures::stream::iter(files)
            .map(|file| async {
                let version = file.upload(s3).await?;
                Ok::<_, Box<aws_sdk_s3::error::SdkError<_>>>((file, version))
            })
            .buffered(6)
            .try_collect()
            .await
            .unwrap();
        uploaded.into_iter().map(|(file, version)| ledger.expect(&file, &version)).collect()
    }

    /// Puts messages into the queue.
    pub async fn send(&self, messages: &[String]) {
        for ten in messages.chunks(10) {
            let entries = ten
                .iter()
                .enumerate()
                .map(|(number, body)| SendMessageBatchRequestEntry::builder().id(number.to_string()).message_body(body).build().unwrap());
            let sent = self.sqs.send_message_batch().queue_url(&self.queue).set_entries(Some(entries.collect())).send().await.unwrap();
            assert!(sent.failed().is_empty(), "{:?}", sent.failed());
        }
    }

    /// Uploads and sends in one.
    pub async fn deliver(&mut self, files: Vec<File>) {
        let messages = self.upload(files).await;
        self.send(&messages).await;
    }

    /// Visible and hidden messages of the queue.
    pub async fn depth(&self) -> (u64, u64) {
        let (visible, hidden) =
            (QueueAttributeName::ApproximateNumberOfMessages, QueueAttributeName::ApproximateNumberOfMessagesNotVisible);
        let asked = self.sqs.get_queue_attributes().queue_url(&self.queue).attribute_names(visible.clone()).attribute_names(hidden.clone());
        let found = asked.send().await.unwrap().attributes.unwrap();
        (found[&visible].parse().unwrap(), found[&hidden].parse().unwrap())
    }

    /// Rows of a query's only column, as a number.
    pub async fn number(&self, query: &str) -> i64 {
        self.database.query_one(query, &[]).await.unwrap().get(0)
    }

    /// Sets the parser's password, in the database and in the mounted secret.
    pub async fn rotate_database_password(&self) {
        let password = uuid::Uuid::new_v4().to_string();
        self.database.batch_execute(&format!("ALTER ROLE parser_run PASSWORD '{password}'")).await.unwrap();
        write_credentials(&self.home, &password);
    }
}

fn write_credentials(home: &std::path::Path, password: &str) {
    std::fs::write(home.join("database/username"), "parser_run").unwrap();
    std::fs::write(home.join("database/password"), password).unwrap();
}

/// Bucket, queue and dead-letter queue, set as terraform/data sets them; how often a message may be received is the plan file's number.
async fn storage(s3: &aws_sdk_s3::Client, sqs: &aws_sdk_sqs::Client) -> (String, String) {
    s3.create_bucket().bucket(BUCKET).send().await.unwrap();
    let versions = aws_sdk_s3::types::VersioningConfiguration::builder().status(aws_sdk_s3::types::BucketVersioningStatus::Enabled);
    s3.put_bucket_versioning().bucket(BUCKET).versioning_configuration(versions.build()).send().await.unwrap();
    let dead_letters = sqs.create_queue().queue_name("test-parser-dlq").send().await.unwrap().queue_url.unwrap();
    let arn = "arn:aws:sqs:us-east-1:111122223333:test-parser-dlq";
    let redrive = json!({ "deadLetterTargetArn": arn, "maxReceiveCount": max_receives() }).to_string();
    let queue = sqs.create_queue().queue_name("test-parser").attributes(QueueAttributeName::RedrivePolicy, redrive).send().await.unwrap();
    (queue.queue_url.unwrap(), dead_letters)
}

/// From plans/deploy.yaml.
pub fn max_receives() -> u32 {
    let plan = std::fs::read_to_string(project().join("plans/deploy.yaml")).unwrap();
    let (_, after) = plan.split_once("max_receives: ").expect("the parser's queue says how often");
    after.split(|letter: char| !letter.is_ascii_digit()).next().unwrap().parse().unwrap()
}

async fn broker(home: &std::path::Path) -> Kafka {
    let read = |name: &str| std::fs::read_to_string(home.join("kafka").join(name)).unwrap();
    let security = AuthConfig::sasl_plain(read("api_key"), read("api_secret"));
    let kafka = Kafka::builder("kafka.deployctl.internal:9092").security(security).connect().await.unwrap();
    let topic = NewTopic::new(TOPIC, 3, 1).unwrap();
    for (_, made) in kafka.admin().create_topics([topic], Default::default()).await.unwrap() {
        made.unwrap();
    }
    // A topic has leaders a moment after it was made.
    tokio::time::sleep(Duration::from_millis(500)).await;
    kafka
}
